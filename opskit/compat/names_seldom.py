"""Alias table: names that few DAG files import: deadlines, the classes behind decorators, executors, clients."""

NAMES = """
opskit.compat.db_cleanup
    airflow.utils.db_cleanup
opskit.compat.executors
    airflow.executors airflow.executors.base_executor airflow.executors.celery_executor
    airflow.executors.celery_kubernetes_executor airflow.executors.debug_executor airflow.executors.executor_loader
    airflow.executors.kubernetes_executor airflow.executors.local_executor airflow.executors.sequential_executor
opskit.compat.lineage
    airflow.providers.common.compat.lineage.entities airflow.providers.common.compat.lineage.hook
opskit.compat.local_client
    airflow.api.common.experimental.pool airflow.api.common.experimental.delete_dag airflow.api.common.delete_dag
    airflow.api.common.experimental.get_dag_runs airflow.api.common.experimental.get_dag_run_state
    airflow.api.common.experimental.get_task_instance airflow.api.common.mark_tasks
    airflow.api.common.experimental.mark_tasks
opskit.compat.local_client:Client
    airflow.api.client.local_client.Client airflow.api.client.api_client.Client
opskit.compat.local_client:get_current_api_client
    airflow.api.client.get_current_api_client
opskit.compat.secrets:BaseSecretsBackend
    airflow.sdk.bases.secrets_backend.BaseSecretsBackend
opskit.compat.small_classes:SkipMixin
    airflow.providers.standard.utils.skipmixin.SkipMixin
opskit.compat.small_classes:TaskInstanceKey
    airflow.sdk.types.TaskInstanceKey
opskit.core.dag.asset_context:InletEvents
    airflow.utils.context.InletEventsAccessors airflow.sdk.execution_time.context.InletEventsAccessors
opskit.core.dag.asset_context:TriggeringEvents
    airflow.sdk.execution_time.context.TriggeringAssetEventsAccessor
opskit.core.dag.asset_outlets:OutletEvent
    airflow.utils.context.OutletEventAccessor airflow.sdk.execution_time.context.OutletEventAccessor
    airflow.sdk.types.OutletEventAccessorProtocol
opskit.core.dag.asset_outlets:OutletEvents
    airflow.utils.context.OutletEventAccessors airflow.sdk.execution_time.context.OutletEventAccessors
    airflow.sdk.types.OutletEventAccessorsProtocol
opskit.core.dag.asset_parts:AssetAccessControl
    airflow.sdk.definitions.asset.access_control.AssetAccessControl
opskit.core.dag.asset_timetables:AssetTriggeredTimetable
    airflow.sdk.definitions.timetables.assets.AssetTriggeredTimetable
opskit.core.dag.assets:AssetKey
    airflow.sdk.definitions.asset.AssetUniqueKey
opskit.core.dag.context:ConnectionAccessor
    airflow.utils.context.ConnectionAccessor airflow.sdk.execution_time.context.ConnectionAccessor
opskit.core.dag.context:VariableAccessor
    airflow.utils.context.VariableAccessor airflow.sdk.execution_time.context.VariableAccessor
opskit.core.dag.deadlines:AsyncCallback
    airflow.sdk.AsyncCallback airflow.sdk.definitions.callback.AsyncCallback
    airflow.sdk.definitions.deadline.AsyncCallback
opskit.core.dag.deadlines:AverageRuntimeDeadline
    airflow.sdk.definitions.deadline.AverageRuntimeDeadline
opskit.core.dag.deadlines:BaseDeadlineReference
    airflow.sdk.BaseDeadlineReference airflow.sdk.definitions.deadline.BaseDeadlineReference
opskit.core.dag.deadlines:Callback
    airflow.sdk.definitions.callback.Callback airflow.sdk.definitions.deadline.Callback
opskit.core.dag.deadlines:DagRunLogicalDateDeadline
    airflow.sdk.definitions.deadline.DagRunLogicalDateDeadline
opskit.core.dag.deadlines:DagRunQueuedAtDeadline
    airflow.sdk.definitions.deadline.DagRunQueuedAtDeadline
opskit.core.dag.deadlines:DeadlineAlert
    airflow.sdk.DeadlineAlert airflow.sdk.definitions.deadline.DeadlineAlert
opskit.core.dag.deadlines:DeadlineReference
    airflow.sdk.DeadlineReference airflow.sdk.definitions.deadline.DeadlineReference
opskit.core.dag.deadlines:FixedDatetimeDeadline
    airflow.sdk.definitions.deadline.FixedDatetimeDeadline
opskit.core.dag.deadlines:SyncCallback
    airflow.sdk.SyncCallback airflow.sdk.definitions.callback.SyncCallback
    airflow.sdk.definitions.deadline.SyncCallback
opskit.core.dag.deadlines:VariableInterval
    airflow.sdk.definitions.deadline.VariableInterval
opskit.core.dag.deadlines:deadline_reference
    airflow.sdk.deadline_reference airflow.sdk.definitions.deadline.deadline_reference
opskit.core.dag.decorated:DecoratedSensorOperator
    airflow.decorators.sensor.DecoratedSensorOperator
    airflow.providers.standard.decorators.sensor.DecoratedSensorOperator
opskit.core.dag.decorated:_BashDecoratedOperator
    airflow.decorators.bash._BashDecoratedOperator airflow.providers.standard.decorators.bash._BashDecoratedOperator
opskit.core.dag.decorated:_BranchPythonDecoratedOperator
    airflow.decorators.branch_python._BranchPythonDecoratedOperator
    airflow.providers.standard.decorators.branch_python._BranchPythonDecoratedOperator
opskit.core.dag.decorated:_PythonDecoratedOperator
    airflow.decorators.python._PythonDecoratedOperator
    airflow.providers.standard.decorators.python._PythonDecoratedOperator
opskit.core.dag.decorated:_ShortCircuitDecoratedOperator
    airflow.decorators.short_circuit._ShortCircuitDecoratedOperator
    airflow.providers.standard.decorators.short_circuit._ShortCircuitDecoratedOperator
opskit.core.dag.macros
    airflow.sdk.macros
opskit.core.dag.operators.asynchronous:BaseAsyncOperator
    airflow.sdk.BaseAsyncOperator
opskit.core.dag.operators.branch:BaseBranchOperator
    airflow.sdk.BaseBranchOperator
opskit.core.dag.operators.branch:BranchMixIn
    airflow.sdk.BranchMixIn
opskit.core.dag.operators.branch:SKIP_KEY
    airflow.models.skipmixin.XCOM_SKIPMIXIN_KEY airflow.sdk.bases.skipmixin.XCOM_SKIPMIXIN_KEY
    airflow.providers.standard.utils.skipmixin.XCOM_SKIPMIXIN_KEY
opskit.core.dag.operators.decorated_virtualenv:_BranchExternalPythonDecoratedOperator
    airflow.decorators.branch_external_python._BranchExternalPythonDecoratedOperator
    airflow.providers.standard.decorators.branch_external_python._BranchExternalPythonDecoratedOperator
opskit.core.dag.operators.decorated_virtualenv:_BranchPythonVirtualenvDecoratedOperator
    airflow.decorators.branch_virtualenv._BranchPythonVirtualenvDecoratedOperator
    airflow.providers.standard.decorators.branch_virtualenv._BranchPythonVirtualenvDecoratedOperator
opskit.core.dag.operators.decorated_virtualenv:_PythonExternalDecoratedOperator
    airflow.decorators.external_python._PythonExternalDecoratedOperator
    airflow.providers.standard.decorators.external_python._PythonExternalDecoratedOperator
opskit.core.dag.operators.decorated_virtualenv:_PythonVirtualenvDecoratedOperator
    airflow.decorators.python_virtualenv._PythonVirtualenvDecoratedOperator
    airflow.providers.standard.decorators.python_virtualenv._PythonVirtualenvDecoratedOperator
opskit.core.dag.params:ParamsDict
    airflow.sdk.ParamsDict
opskit.core.dag.resumable:ResumableJobMixin
    airflow.sdk.ResumableJobMixin airflow.sdk.bases.resumablejobmixin.ResumableJobMixin
opskit.core.dag.task_conditions:run_if
    airflow.decorators.condition.run_if
opskit.core.dag.task_conditions:skip_if
    airflow.decorators.condition.skip_if
opskit.core.dag.task_group:TaskGroup
    airflow.utils.task_group.MappedTaskGroup airflow.sdk.definitions.taskgroup.MappedTaskGroup
opskit.core.dag.task_instance:DagRun
    airflow.sdk.types.DagRunProtocol
opskit.core.dag.taskflow:result
    airflow.sdk.result airflow.sdk.definitions.decorators.result
opskit.core.dag.taskflow:setup
    airflow.sdk.definitions.decorators.setup_teardown.setup_task
opskit.core.dag.taskflow:task
    airflow.decorators.python.python_task airflow.providers.standard.decorators.python.python_task
opskit.core.dag.taskflow:task.bash
    airflow.decorators.bash.bash_task airflow.providers.standard.decorators.bash.bash_task
opskit.core.dag.taskflow:task.branch
    airflow.decorators.branch_python.branch_task airflow.providers.standard.decorators.branch_python.branch_task
opskit.core.dag.taskflow:task.branch_external_python
    airflow.decorators.branch_external_python.branch_external_python_task
    airflow.providers.standard.decorators.branch_external_python.branch_external_python_task
opskit.core.dag.taskflow:task.branch_virtualenv
    airflow.decorators.branch_virtualenv.branch_virtualenv_task
    airflow.providers.standard.decorators.branch_virtualenv.branch_virtualenv_task
opskit.core.dag.taskflow:task.external_python
    airflow.decorators.external_python.external_python_task
    airflow.providers.standard.decorators.external_python.external_python_task
opskit.core.dag.taskflow:task.sensor
    airflow.decorators.sensor.sensor_task airflow.providers.standard.decorators.sensor.sensor_task
opskit.core.dag.taskflow:task.short_circuit
    airflow.decorators.short_circuit.short_circuit_task
    airflow.providers.standard.decorators.short_circuit.short_circuit_task
opskit.core.dag.taskflow:task.virtualenv
    airflow.decorators.python_virtualenv.virtualenv_task
    airflow.providers.standard.decorators.python_virtualenv.virtualenv_task
opskit.core.dag.taskflow:task_group
    airflow.sdk.definitions.decorators.task_group.task_group
opskit.core.dag.taskflow:teardown
    airflow.sdk.definitions.decorators.setup_teardown.teardown_task
opskit.core.dag.triggers.testing:FailureTrigger
    airflow.triggers.testing.FailureTrigger
opskit.core.dag.triggers.testing:SuccessTrigger
    airflow.triggers.testing.SuccessTrigger
opskit.core.dag.xcom_arg:ConcatXComArg
    airflow.models.xcom_arg.ConcatXComArg airflow.sdk.definitions.xcom_arg.ConcatXComArg
opskit.core.dag.xcom_arg:MapXComArg
    airflow.models.xcom_arg.MapXComArg airflow.sdk.definitions.xcom_arg.MapXComArg
opskit.core.dag.xcom_arg:XComArg
    airflow.models.xcom_arg.PlainXComArg airflow.sdk.definitions.xcom_arg.PlainXComArg
opskit.core.dag.xcom_arg:ZipXComArg
    airflow.models.xcom_arg.ZipXComArg airflow.sdk.definitions.xcom_arg.ZipXComArg
opskit.core.metastore.airflow_models:BaseXCom
    airflow.sdk.BaseXCom
"""
