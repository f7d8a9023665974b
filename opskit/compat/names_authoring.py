"""Alias table: DAGs, tasks, groups, parameters, templates and what a task sees."""

NAMES = """
opskit.core.dag.base_operator:BaseOperator
    airflow.models.BaseOperator airflow.models.baseoperator.BaseOperator airflow.models.operator.BaseOperator
    airflow.sdk.BaseOperator airflow.sdk.bases.operator.BaseOperator airflow.sdk.definitions.baseoperator.BaseOperator
    airflow.operators.base.BaseOperator airflow.providers.common.compat.sdk.BaseOperator
opskit.core.dag.connection:Connection
    airflow.models.Connection airflow.models.connection.Connection airflow.sdk.Connection
    airflow.sdk.definitions.connection.Connection airflow.providers.common.compat.sdk.Connection
opskit.core.dag.context:Context
    airflow.utils.context.Context airflow.models.taskinstance.Context airflow.sdk.Context
    airflow.sdk.definitions.context.Context airflow.sdk.types.Context airflow.providers.common.compat.sdk.Context
opskit.core.dag.context:get_current_context
    airflow.operators.python.get_current_context airflow.operators.python_operator.get_current_context
    airflow.providers.standard.operators.python.get_current_context airflow.sdk.get_current_context
    airflow.sdk.definitions.context.get_current_context airflow.decorators.get_current_context
    airflow.providers.common.compat.sdk.get_current_context
opskit.core.dag.dependencies:Label
    airflow.utils.edgemodifier.Label airflow.sdk.Label airflow.sdk.definitions.edges.Label
    airflow.providers.common.compat.sdk.Label
opskit.core.dag.dependencies:EdgeModifier
    airflow.utils.edgemodifier.EdgeModifier airflow.sdk.EdgeModifier airflow.sdk.definitions.edges.EdgeModifier
    airflow.providers.common.compat.sdk.EdgeModifier
opskit.core.dag.dependencies:DependencyMixin
    airflow.models.taskmixin.DependencyMixin airflow.models.taskmixin.DAGNode airflow.models.taskmixin.TaskMixin
    airflow.models.abstractoperator.AbstractOperator airflow.models.mixins.DependencyMixin
    airflow.sdk.definitions._internal.mixins.DependencyMixin airflow.sdk.definitions._internal.node.DAGNode
    airflow.sdk.definitions._internal.abstractoperator.AbstractOperator
opskit.core.dag.dependencies:chain
    airflow.models.baseoperator.chain airflow.utils.helpers.chain airflow.sdk.chain airflow.sdk.bases.operator.chain
    airflow.providers.common.compat.sdk.chain
opskit.core.dag.dependencies:chain_linear
    airflow.models.baseoperator.chain_linear airflow.sdk.chain_linear airflow.sdk.bases.operator.chain_linear
    airflow.providers.common.compat.sdk.chain_linear
opskit.core.dag.dependencies:cross_downstream
    airflow.models.baseoperator.cross_downstream airflow.utils.helpers.cross_downstream airflow.sdk.cross_downstream
    airflow.sdk.bases.operator.cross_downstream airflow.providers.common.compat.sdk.cross_downstream
opskit.core.dag.macros
    airflow.macros airflow.sdk.execution_time.macros
opskit.core.dag.model:DAG
    airflow.DAG airflow.models.DAG airflow.models.dag.DAG airflow.sdk.DAG airflow.sdk.definitions.dag.DAG
    airflow.providers.common.compat.sdk.DAG
opskit.core.dag.params:DagParam
    airflow.models.param.DagParam airflow.sdk.definitions.param.DagParam
opskit.core.dag.params:Param
    airflow.models.Param airflow.models.param.Param airflow.sdk.Param airflow.sdk.definitions.param.Param
    airflow.providers.common.compat.sdk.Param
opskit.core.dag.params:ParamsDict
    airflow.models.param.ParamsDict airflow.sdk.definitions.param.ParamsDict
opskit.core.dag.task_group:TaskGroup
    airflow.utils.task_group.TaskGroup airflow.sdk.TaskGroup airflow.sdk.definitions.taskgroup.TaskGroup
    airflow.models.taskgroup.TaskGroup airflow.providers.common.compat.sdk.TaskGroup
opskit.core.dag.taskflow:TaskDecorator
    airflow.decorators.base.TaskDecorator airflow.decorators.TaskDecorator
    airflow.sdk.bases.decorator.TaskDecorator airflow.providers.common.compat.sdk.TaskDecorator
opskit.core.dag.taskflow:dag
    airflow.decorators.dag airflow.models.dag.dag airflow.sdk.dag airflow.sdk.definitions.dag.dag
    airflow.sdk.definitions.decorators.dag airflow.providers.common.compat.sdk.dag
opskit.core.dag.taskflow:task
    airflow.decorators.task airflow.operators.python.task airflow.operators.python_operator.task
    airflow.sdk.task airflow.sdk.definitions.decorators.task airflow.providers.common.compat.sdk.task
opskit.core.dag.taskflow:task_group
    airflow.decorators.task_group airflow.decorators.task_group.task_group airflow.sdk.task_group
    airflow.sdk.definitions.decorators.task_group airflow.providers.common.compat.sdk.task_group
opskit.core.dag.trigger_rules:TriggerRule
    airflow.utils.trigger_rule.TriggerRule airflow.sdk.TriggerRule airflow.sdk.api.datamodels._generated.TriggerRule
    airflow.task.trigger_rule.TriggerRule airflow.providers.common.compat.sdk.TriggerRule
opskit.core.dag.variable:Variable
    airflow.models.Variable airflow.models.variable.Variable airflow.sdk.Variable
    airflow.sdk.definitions.variable.Variable airflow.providers.common.compat.sdk.Variable
opskit.core.dag.xcom_arg:XComArg
    airflow.XComArg airflow.models.XComArg airflow.models.xcom_arg.XComArg airflow.sdk.XComArg
    airflow.sdk.definitions.xcom_arg.XComArg airflow.providers.common.compat.sdk.XComArg
"""
