"""Alias table: DAGs, tasks, groups, parameters, templates and what a task sees."""

NAMES = """
opskit.core.dag.asset_context
    airflow.sdk.execution_time.asset_events
opskit.core.dag.asset_decorator:AssetDefinition
    airflow.sdk.definitions.asset.decorators.AssetDefinition
opskit.core.dag.asset_decorator:MultiAssetDefinition
    airflow.sdk.definitions.asset.decorators.MultiAssetDefinition
opskit.core.dag.asset_decorator:asset
    airflow.sdk.asset airflow.sdk.definitions.asset.decorators.asset
opskit.core.dag.asset_timetables:AssetOrTimeSchedule
    airflow.timetables.assets.AssetOrTimeSchedule airflow.sdk.AssetOrTimeSchedule
    airflow.sdk.definitions.timetables.assets.AssetOrTimeSchedule
opskit.core.dag.asset_timetables:AssetTriggeredTimetable
    airflow.timetables.simple.AssetTriggeredTimetable
opskit.core.dag.asset_timetables:DatasetOrTimeSchedule
    airflow.timetables.datasets.DatasetOrTimeSchedule
opskit.core.dag.asset_timetables:DatasetTriggeredTimetable
    airflow.timetables.simple.DatasetTriggeredTimetable
opskit.core.dag.assets:Asset
    airflow.Asset airflow.sdk.Asset airflow.sdk.definitions.asset.Asset airflow.assets.Asset
    airflow.providers.common.compat.assets.Asset
opskit.core.dag.assets:AssetAccessControl
    airflow.sdk.AssetAccessControl airflow.sdk.definitions.asset.AssetAccessControl
opskit.core.dag.assets:AssetAlias
    airflow.sdk.AssetAlias airflow.sdk.definitions.asset.AssetAlias airflow.providers.common.compat.assets.AssetAlias
opskit.core.dag.assets:AssetAll
    airflow.sdk.AssetAll airflow.sdk.definitions.asset.AssetAll airflow.providers.common.compat.assets.AssetAll
opskit.core.dag.assets:AssetAny
    airflow.sdk.AssetAny airflow.sdk.definitions.asset.AssetAny airflow.providers.common.compat.assets.AssetAny
opskit.core.dag.assets:AssetNameRef
    airflow.sdk.definitions.asset.AssetNameRef
opskit.core.dag.assets:AssetRef
    airflow.sdk.definitions.asset.AssetRef
opskit.core.dag.assets:AssetUriRef
    airflow.sdk.definitions.asset.AssetUriRef
opskit.core.dag.assets:AssetWatcher
    airflow.sdk.AssetWatcher airflow.sdk.definitions.asset.AssetWatcher
opskit.core.dag.assets:BaseAsset
    airflow.sdk.definitions.asset.BaseAsset airflow.datasets.BaseDataset
opskit.core.dag.assets:Dataset
    airflow.Dataset airflow.datasets.Dataset airflow.models.dataset.Dataset airflow.sdk.definitions.asset.Dataset
opskit.core.dag.assets:DatasetAlias
    airflow.datasets.DatasetAlias airflow.DatasetAlias
opskit.core.dag.assets:DatasetAll
    airflow.datasets.DatasetAll
opskit.core.dag.assets:DatasetAny
    airflow.datasets.DatasetAny
opskit.core.dag.assets:Metadata
    airflow.datasets.metadata.Metadata airflow.sdk.Metadata airflow.sdk.definitions.asset.metadata.Metadata
opskit.core.dag.assets:Model
    airflow.sdk.definitions.asset.Model
opskit.core.dag.assets:normalized_uri
    airflow.datasets._sanitize_uri
opskit.core.dag.base_operator:BaseOperator
    airflow.models.BaseOperator airflow.models.baseoperator.BaseOperator airflow.models.operator.BaseOperator
    airflow.sdk.BaseOperator airflow.sdk.bases.operator.BaseOperator airflow.sdk.definitions.baseoperator.BaseOperator
    airflow.operators.base.BaseOperator
opskit.core.dag.connection:Connection
    airflow.models.Connection airflow.models.connection.Connection airflow.sdk.Connection
    airflow.sdk.definitions.connection.Connection
opskit.core.dag.context:Context
    airflow.utils.context.Context airflow.models.taskinstance.Context airflow.sdk.Context
    airflow.sdk.definitions.context.Context airflow.sdk.types.Context
opskit.core.dag.context:get_current_context
    airflow.operators.python.get_current_context airflow.operators.python_operator.get_current_context
    airflow.providers.standard.operators.python.get_current_context airflow.sdk.get_current_context
    airflow.sdk.definitions.context.get_current_context airflow.decorators.get_current_context
opskit.core.dag.dependencies:DependencyMixin
    airflow.models.taskmixin.DependencyMixin airflow.models.taskmixin.DAGNode airflow.models.taskmixin.TaskMixin
    airflow.models.abstractoperator.AbstractOperator airflow.models.mixins.DependencyMixin
    airflow.sdk.definitions._internal.mixins.DependencyMixin airflow.sdk.definitions._internal.node.DAGNode
    airflow.sdk.definitions._internal.abstractoperator.AbstractOperator
opskit.core.dag.dependencies:EdgeModifier
    airflow.utils.edgemodifier.EdgeModifier airflow.sdk.EdgeModifier airflow.sdk.definitions.edges.EdgeModifier
opskit.core.dag.dependencies:Label
    airflow.utils.edgemodifier.Label airflow.sdk.Label airflow.sdk.definitions.edges.Label
opskit.core.dag.dependencies:chain
    airflow.models.baseoperator.chain airflow.utils.helpers.chain airflow.sdk.chain airflow.sdk.bases.operator.chain
opskit.core.dag.dependencies:chain_linear
    airflow.models.baseoperator.chain_linear airflow.sdk.chain_linear airflow.sdk.bases.operator.chain_linear
opskit.core.dag.dependencies:cross_downstream
    airflow.models.baseoperator.cross_downstream airflow.utils.helpers.cross_downstream airflow.sdk.cross_downstream
    airflow.sdk.bases.operator.cross_downstream
opskit.core.dag.events_timetable:EventsTimetable
    airflow.timetables.events.EventsTimetable airflow.sdk.EventsTimetable
    airflow.sdk.definitions.timetables.events.EventsTimetable
opskit.core.dag.interval_timetables:CronDataIntervalTimetable
    airflow.timetables.interval.CronDataIntervalTimetable airflow.sdk.CronDataIntervalTimetable
    airflow.sdk.definitions.timetables.interval.CronDataIntervalTimetable
opskit.core.dag.interval_timetables:CronSteps
    airflow.timetables._cron.CronMixin
opskit.core.dag.interval_timetables:DeltaDataIntervalTimetable
    airflow.timetables.interval.DeltaDataIntervalTimetable airflow.sdk.DeltaDataIntervalTimetable
    airflow.sdk.definitions.timetables.interval.DeltaDataIntervalTimetable
opskit.core.dag.interval_timetables:DeltaSteps
    airflow.timetables._delta.DeltaMixin
opskit.core.dag.macros
    airflow.macros airflow.sdk.execution_time.macros
opskit.core.dag.mapped_operator:MappedOperator
    airflow.models.mappedoperator.MappedOperator airflow.models.MappedOperator
    airflow.sdk.definitions.mappedoperator.MappedOperator airflow.providers.common.compat.sdk.MappedOperator
opskit.core.dag.mapped_operator:OperatorPartial
    airflow.models.mappedoperator.OperatorPartial airflow.sdk.bases.operator.OperatorPartial
    airflow.sdk.definitions.mappedoperator.OperatorPartial
opskit.core.dag.model:DAG
    airflow.DAG airflow.models.DAG airflow.models.dag.DAG airflow.sdk.DAG airflow.sdk.definitions.dag.DAG
opskit.core.dag.params:DagParam
    airflow.models.param.DagParam airflow.sdk.definitions.param.DagParam
opskit.core.dag.params:Param
    airflow.models.Param airflow.models.param.Param airflow.sdk.Param airflow.sdk.definitions.param.Param
opskit.core.dag.params:ParamsDict
    airflow.models.param.ParamsDict airflow.sdk.definitions.param.ParamsDict
opskit.core.dag.partition_mappers:AllowedKeyMapper
    airflow.sdk.AllowedKeyMapper airflow.sdk.definitions.partition_mappers.allowed_key.AllowedKeyMapper
    airflow.partition_mappers.allowed_key.AllowedKeyMapper
opskit.core.dag.partition_mappers:ChainMapper
    airflow.sdk.ChainMapper airflow.sdk.definitions.partition_mappers.chain.ChainMapper
    airflow.partition_mappers.chain.ChainMapper
opskit.core.dag.partition_mappers:FanOutMapper
    airflow.sdk.FanOutMapper airflow.sdk.definitions.partition_mappers.temporal.FanOutMapper
    airflow.partition_mappers.temporal.FanOutMapper
opskit.core.dag.partition_mappers:FixedKeyMapper
    airflow.sdk.FixedKeyMapper airflow.sdk.definitions.partition_mappers.fixed_key.FixedKeyMapper
    airflow.partition_mappers.fixed_key.FixedKeyMapper
opskit.core.dag.partition_mappers:IdentityMapper
    airflow.sdk.IdentityMapper airflow.sdk.definitions.partition_mappers.identity.IdentityMapper
    airflow.partition_mappers.identity.IdentityMapper
opskit.core.dag.partition_mappers:PartitionMapper
    airflow.sdk.PartitionMapper airflow.sdk.definitions.partition_mappers.base.PartitionMapper
    airflow.partition_mappers.base.PartitionMapper
opskit.core.dag.partition_mappers:ProductMapper
    airflow.sdk.ProductMapper airflow.sdk.definitions.partition_mappers.product.ProductMapper
    airflow.partition_mappers.product.ProductMapper
opskit.core.dag.partition_mappers:RollupMapper
    airflow.sdk.RollupMapper airflow.sdk.definitions.partition_mappers.base.RollupMapper
    airflow.partition_mappers.base.RollupMapper
opskit.core.dag.partition_mappers:StartOfDayMapper
    airflow.sdk.StartOfDayMapper airflow.sdk.definitions.partition_mappers.temporal.StartOfDayMapper
    airflow.partition_mappers.temporal.StartOfDayMapper
opskit.core.dag.partition_mappers:StartOfHourMapper
    airflow.sdk.StartOfHourMapper airflow.sdk.definitions.partition_mappers.temporal.StartOfHourMapper
    airflow.partition_mappers.temporal.StartOfHourMapper
opskit.core.dag.partition_mappers:StartOfMonthMapper
    airflow.sdk.StartOfMonthMapper airflow.sdk.definitions.partition_mappers.temporal.StartOfMonthMapper
    airflow.partition_mappers.temporal.StartOfMonthMapper
opskit.core.dag.partition_mappers:StartOfQuarterMapper
    airflow.sdk.StartOfQuarterMapper airflow.sdk.definitions.partition_mappers.temporal.StartOfQuarterMapper
    airflow.partition_mappers.temporal.StartOfQuarterMapper
opskit.core.dag.partition_mappers:StartOfWeekMapper
    airflow.sdk.StartOfWeekMapper airflow.sdk.definitions.partition_mappers.temporal.StartOfWeekMapper
    airflow.partition_mappers.temporal.StartOfWeekMapper
opskit.core.dag.partition_mappers:StartOfYearMapper
    airflow.sdk.StartOfYearMapper airflow.sdk.definitions.partition_mappers.temporal.StartOfYearMapper
    airflow.partition_mappers.temporal.StartOfYearMapper
opskit.core.dag.partition_timetables:CronPartitionTimetable
    airflow.sdk.CronPartitionTimetable airflow.sdk.definitions.timetables.trigger.CronPartitionTimetable
    airflow.timetables.trigger.CronPartitionTimetable
opskit.core.dag.partition_timetables:PartitionedAssetTimetable
    airflow.sdk.PartitionedAssetTimetable airflow.sdk.definitions.timetables.assets.PartitionedAssetTimetable
    airflow.timetables.simple.PartitionedAssetTimetable
opskit.core.dag.partition_timetables:PartitionedAtRuntime
    airflow.sdk.PartitionedAtRuntime airflow.sdk.definitions.timetables.assets.PartitionedAtRuntime
    airflow.timetables.simple.PartitionedAtRuntime
opskit.core.dag.partition_windows:DayWindow
    airflow.sdk.DayWindow airflow.sdk.definitions.partition_mappers.window.DayWindow
    airflow.partition_mappers.window.DayWindow
opskit.core.dag.partition_windows:HourWindow
    airflow.sdk.HourWindow airflow.sdk.definitions.partition_mappers.window.HourWindow
    airflow.partition_mappers.window.HourWindow
opskit.core.dag.partition_windows:MinimumCount
    airflow.sdk.MinimumCount airflow.sdk.definitions.partition_mappers.wait_policy.MinimumCount
    airflow.partition_mappers.wait_policy.MinimumCount
opskit.core.dag.partition_windows:MonthWindow
    airflow.sdk.MonthWindow airflow.sdk.definitions.partition_mappers.window.MonthWindow
    airflow.partition_mappers.window.MonthWindow
opskit.core.dag.partition_windows:QuarterWindow
    airflow.sdk.QuarterWindow airflow.sdk.definitions.partition_mappers.window.QuarterWindow
    airflow.partition_mappers.window.QuarterWindow
opskit.core.dag.partition_windows:SegmentWindow
    airflow.sdk.SegmentWindow airflow.sdk.definitions.partition_mappers.window.SegmentWindow
    airflow.partition_mappers.window.SegmentWindow
opskit.core.dag.partition_windows:WaitForAll
    airflow.sdk.WaitForAll airflow.sdk.definitions.partition_mappers.wait_policy.WaitForAll
    airflow.partition_mappers.wait_policy.WaitForAll
opskit.core.dag.partition_windows:WaitPolicy
    airflow.sdk.definitions.partition_mappers.wait_policy.WaitPolicy airflow.partition_mappers.wait_policy.WaitPolicy
opskit.core.dag.partition_windows:WeekWindow
    airflow.sdk.WeekWindow airflow.sdk.definitions.partition_mappers.window.WeekWindow
    airflow.partition_mappers.window.WeekWindow
opskit.core.dag.partition_windows:Window
    airflow.sdk.Window airflow.sdk.definitions.partition_mappers.window.Window airflow.partition_mappers.window.Window
opskit.core.dag.partition_windows:YearWindow
    airflow.sdk.YearWindow airflow.sdk.definitions.partition_mappers.window.YearWindow
    airflow.partition_mappers.window.YearWindow
opskit.core.dag.retry_policy:ExceptionRetryPolicy
    airflow.sdk.ExceptionRetryPolicy airflow.sdk.definitions.retry_policy.ExceptionRetryPolicy
opskit.core.dag.retry_policy:RetryAction
    airflow.sdk.RetryAction airflow.sdk.definitions.retry_policy.RetryAction
opskit.core.dag.retry_policy:RetryDecision
    airflow.sdk.RetryDecision airflow.sdk.definitions.retry_policy.RetryDecision
opskit.core.dag.retry_policy:RetryPolicy
    airflow.sdk.RetryPolicy airflow.sdk.definitions.retry_policy.RetryPolicy
opskit.core.dag.retry_policy:RetryRule
    airflow.sdk.RetryRule airflow.sdk.definitions.retry_policy.RetryRule
opskit.core.dag.simple_timetables:ContinuousTimetable
    airflow.timetables.simple.ContinuousTimetable airflow.sdk.definitions.timetables.simple.ContinuousTimetable
opskit.core.dag.simple_timetables:NullTimetable
    airflow.timetables.simple.NullTimetable airflow.sdk.definitions.timetables.simple.NullTimetable
opskit.core.dag.simple_timetables:OnceTimetable
    airflow.timetables.simple.OnceTimetable airflow.sdk.definitions.timetables.simple.OnceTimetable
opskit.core.dag.state_store:AssetStateStoreAccessor
    airflow.sdk.execution_time.context.AssetStateStoreAccessor
opskit.core.dag.state_store:AssetStateStoreAccessors
    airflow.sdk.execution_time.context.AssetStateStoreAccessors
opskit.core.dag.state_store:NEVER_EXPIRE
    airflow.sdk.NEVER_EXPIRE airflow.sdk.execution_time.context.NEVER_EXPIRE airflow.sdk.state.NEVER_EXPIRE
opskit.core.dag.state_store:TaskStateStoreAccessor
    airflow.sdk.execution_time.context.TaskStateStoreAccessor
opskit.core.dag.task_conditions:run_if
    airflow.decorators.run_if airflow.sdk.definitions.decorators.condition.run_if
opskit.core.dag.task_conditions:skip_if
    airflow.decorators.skip_if airflow.sdk.definitions.decorators.condition.skip_if
opskit.core.dag.task_group:TaskGroup
    airflow.utils.task_group.TaskGroup airflow.sdk.TaskGroup airflow.sdk.definitions.taskgroup.TaskGroup
    airflow.models.taskgroup.TaskGroup
opskit.core.dag.task_instance:RuntimeTaskInstance
    airflow.sdk.execution_time.task_runner.RuntimeTaskInstance airflow.sdk.types.RuntimeTaskInstanceProtocol
    airflow.sdk.TaskInstance airflow.sdk.types.TaskInstance
opskit.core.dag.taskflow:TaskDecorator
    airflow.decorators.base.TaskDecorator airflow.decorators.TaskDecorator airflow.sdk.bases.decorator.TaskDecorator
    airflow.providers.common.compat.sdk.TaskDecorator
opskit.core.dag.taskflow:dag
    airflow.decorators.dag airflow.models.dag.dag airflow.sdk.dag airflow.sdk.definitions.dag.dag
    airflow.sdk.definitions.decorators.dag
opskit.core.dag.taskflow:setup
    airflow.decorators.setup airflow.sdk.setup airflow.sdk.definitions.decorators.setup
    airflow.decorators.setup_teardown.setup_task
opskit.core.dag.taskflow:task
    airflow.decorators.task airflow.operators.python.task airflow.operators.python_operator.task airflow.sdk.task
    airflow.sdk.definitions.decorators.task
opskit.core.dag.taskflow:task_group
    airflow.decorators.task_group airflow.decorators.task_group.task_group airflow.sdk.task_group
    airflow.sdk.definitions.decorators.task_group
opskit.core.dag.taskflow:teardown
    airflow.decorators.teardown airflow.sdk.teardown airflow.sdk.definitions.decorators.teardown
    airflow.decorators.setup_teardown.teardown_task
opskit.core.dag.timetable_base:DagRunInfo
    airflow.timetables.base.DagRunInfo
opskit.core.dag.timetable_base:DataInterval
    airflow.timetables.base.DataInterval
opskit.core.dag.timetable_base:TimeRestriction
    airflow.timetables.base.TimeRestriction
opskit.core.dag.timetable_base:Timetable
    airflow.timetables.base.Timetable airflow.sdk.bases.timetable.BaseTimetable
opskit.core.dag.trigger_rules:TriggerRule
    airflow.utils.trigger_rule.TriggerRule airflow.sdk.TriggerRule airflow.sdk.api.datamodels._generated.TriggerRule
    airflow.task.trigger_rule.TriggerRule
opskit.core.dag.trigger_timetables:CronTriggerTimetable
    airflow.timetables.trigger.CronTriggerTimetable airflow.sdk.CronTriggerTimetable
    airflow.sdk.definitions.timetables.trigger.CronTriggerTimetable
opskit.core.dag.trigger_timetables:DeltaTriggerTimetable
    airflow.timetables.trigger.DeltaTriggerTimetable airflow.sdk.DeltaTriggerTimetable
    airflow.sdk.definitions.timetables.trigger.DeltaTriggerTimetable
opskit.core.dag.trigger_timetables:MultipleCronTriggerTimetable
    airflow.timetables.trigger.MultipleCronTriggerTimetable airflow.sdk.MultipleCronTriggerTimetable
    airflow.sdk.definitions.timetables.trigger.MultipleCronTriggerTimetable
opskit.core.dag.variable:Variable
    airflow.models.Variable airflow.models.variable.Variable airflow.sdk.Variable
    airflow.sdk.definitions.variable.Variable
opskit.core.dag.weekday:WeekDay
    airflow.utils.weekday.WeekDay airflow.providers.standard.utils.weekday.WeekDay
opskit.core.dag.xcom:XCOM_RETURN_KEY
    airflow.models.xcom.XCOM_RETURN_KEY airflow.utils.xcom.XCOM_RETURN_KEY airflow.sdk.XCOM_RETURN_KEY
    airflow.sdk.definitions.xcom_arg.XCOM_RETURN_KEY airflow.sdk.bases.xcom.XCOM_RETURN_KEY
    airflow.models.xcom_arg.XCOM_RETURN_KEY
opskit.core.dag.xcom_arg:ResolveMixin
    airflow.utils.mixins.ResolveMixin airflow.sdk.definitions._internal.mixins.ResolveMixin
opskit.core.dag.xcom_arg:XComArg
    airflow.XComArg airflow.models.XComArg airflow.models.xcom_arg.XComArg airflow.sdk.XComArg
    airflow.sdk.definitions.xcom_arg.XComArg
opskit.core.dag.xcom_sequences:LazyXComSequence
    airflow.models.xcom.LazyXComAccess airflow.models.xcom.LazyXComSelectSequence
    airflow.sdk.execution_time.lazy_sequence.LazyXComSequence
"""
