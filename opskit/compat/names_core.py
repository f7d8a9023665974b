"""Alias table: exceptions, states, times, configuration and small tools."""

NAMES = """
opskit.compat.configuration
    airflow.configuration airflow.sdk.configuration airflow.providers.common.compat.sdk_configuration
opskit.compat.configuration:conf
    airflow.sdk.conf airflow.models.conf airflow.utils.configuration.conf
opskit.compat.context_tools
    airflow.utils.operator_helpers airflow.sdk.execution_time.context
opskit.compat.context_tools:AIRFLOW_VAR_NAME_FORMAT_MAPPING
    airflow.sdk.execution_time.context.AIRFLOW_VAR_NAME_FORMAT_MAPPING
    airflow.providers.common.compat.sdk.AIRFLOW_VAR_NAME_FORMAT_MAPPING
opskit.compat.context_tools:AirflowContextDeprecationWarning
    airflow.utils.context.AirflowContextDeprecationWarning
opskit.compat.context_tools:KeywordParameters
    airflow.sdk.definitions._internal.decorators.KeywordParameters airflow.sdk.bases.decorator.KeywordParameters
    airflow.providers.common.compat.sdk.KeywordParameters
opskit.compat.context_tools:context_copy_partial
    airflow.utils.context.context_copy_partial
opskit.compat.context_tools:context_get_outlet_events
    airflow.utils.context.context_get_outlet_events airflow.sdk.execution_time.context.context_get_outlet_events
opskit.compat.context_tools:context_merge
    airflow.utils.context.context_merge airflow.sdk.definitions.context.context_merge
    airflow.providers.common.compat.sdk.context_merge
opskit.compat.context_tools:context_to_airflow_vars
    airflow.sdk.execution_time.context.context_to_airflow_vars
    airflow.providers.common.compat.sdk.context_to_airflow_vars
opskit.compat.context_tools:determine_kwargs
    airflow.sdk.bases.operator.determine_kwargs airflow.sdk.bases.decorator.determine_kwargs
    airflow.sdk.definitions._internal.decorators.determine_kwargs airflow.providers.common.compat.sdk.determine_kwargs
opskit.compat.dag_bag:DagBag
    airflow.models.DagBag airflow.models.dagbag.DagBag airflow.dag_processing.dagbag.DagBag
opskit.compat.dag_bag:FileLoadStat
    airflow.models.dagbag.FileLoadStat airflow.dag_processing.dagbag.FileLoadStat
opskit.compat.dates
    airflow.utils.dates
opskit.compat.decorators
    airflow.utils.decorators airflow.utils
opskit.compat.exceptions
    airflow.exceptions airflow.sdk.exceptions airflow.providers.common.compat.sdk
opskit.compat.files
    airflow.utils.file airflow.sdk.file
opskit.compat.hook_specs:get_listener_manager
    airflow.listeners.listener.get_listener_manager airflow.sdk.listener.get_listener_manager
    airflow.providers.common.compat.sdk.get_listener_manager
opskit.compat.hook_specs:hookimpl
    airflow.listeners.hookimpl airflow.policies.hookimpl airflow.providers.common.compat.sdk.hookimpl
opskit.compat.hook_specs:hookspec
    airflow.listeners.hookspec
opskit.compat.hook_specs:local_settings_hookspec
    airflow.policies.local_settings_hookspec
opskit.compat.import_hook:installed_version
    airflow.version.version
opskit.compat.kinds
    airflow.utils.types airflow.utils.weight_rule airflow.sdk.definitions._internal.types
opskit.compat.kinds:NOTSET
    airflow.utils.types.NOTSET airflow.sdk.definitions._internal.types.NOTSET
    airflow.serialization.definitions.notset.NOTSET
opskit.compat.kinds:SET_DURING_EXECUTION
    airflow.sdk.definitions._internal.types.SET_DURING_EXECUTION
    airflow.providers.common.compat.sdk.SET_DURING_EXECUTION
opskit.compat.kinds:WeightRule
    airflow.utils.weight_rule.WeightRule airflow.sdk.WeightRule airflow.task.weight_rule.WeightRule
    airflow.sdk.api.datamodels._generated.WeightRule
opskit.compat.lineage
    airflow.lineage airflow.lineage.entities airflow.lineage.hook airflow.lineage.backend airflow.sdk.lineage
    airflow.lineage.datasets
opskit.compat.logging_mixin
    airflow.utils.log.logging_mixin airflow.utils.log.secrets_masker airflow.sdk.log
    airflow.sdk.execution_time.secrets_masker airflow.sdk.definitions._internal.logging_mixin
    airflow._shared.secrets_masker.secrets_masker airflow.sdk._shared.secrets_masker
opskit.compat.logging_mixin:LoggingMixin
    airflow.utils.log.logging_mixin.LoggingMixin airflow.LoggingMixin
opskit.compat.logging_mixin:mask_secret
    airflow.sdk.log.mask_secret airflow.providers.common.compat.sdk.mask_secret
opskit.compat.logging_mixin:redact
    airflow.sdk.log.redact airflow.providers.common.compat.sdk.redact
opskit.compat.modules_by_name
    airflow.utils.module_loading airflow.sdk.module_loading airflow._shared.module_loading
opskit.compat.object_storage:ObjectStoragePath
    airflow.io.path.ObjectStoragePath airflow.sdk.ObjectStoragePath airflow.sdk.io.path.ObjectStoragePath
    airflow.sdk.io.ObjectStoragePath airflow.io.ObjectStoragePath
opskit.compat.object_storage:ObjectStore
    airflow.io.store.ObjectStore airflow.sdk.io.store.ObjectStore
opskit.compat.object_storage:attach
    airflow.io.store.attach airflow.sdk.io.store.attach airflow.sdk.io.attach
opskit.compat.other_interfaces:Callback
    airflow.models.dag.DagStateChangeCallback airflow.models.abstractoperator.TaskStateChangeCallback
    airflow.sdk.definitions._internal.abstractoperator.TaskStateChangeCallback
opskit.compat.other_interfaces:WebEncoder
    airflow.utils.json.WebEncoder airflow.utils.json.AirflowJsonEncoder
opskit.compat.other_interfaces:XComDecoder
    airflow.utils.json.XComDecoder
opskit.compat.other_interfaces:XComEncoder
    airflow.utils.json.XComEncoder
opskit.compat.other_interfaces:all_tables
    airflow.cli.commands.db_command.all_tables
opskit.compat.other_interfaces:get_attr_renderer
    airflow.www.utils.get_attr_renderer
opskit.compat.other_interfaces:trigger_dag
    airflow.api.common.trigger_dag.trigger_dag airflow.api.common.experimental.trigger_dag.trigger_dag
opskit.compat.providers_manager
    airflow.providers_manager airflow.sdk.providers_manager_runtime
opskit.compat.secrets
    airflow.secrets airflow.secrets.base_secrets airflow.secrets.environment_variables airflow.secrets.metastore
    airflow.secrets.local_filesystem airflow.sdk.execution_time.secrets
opskit.compat.settings
    airflow.settings
opskit.compat.small_classes:PriorityWeightStrategy
    airflow.task.priority_strategy.PriorityWeightStrategy
opskit.compat.small_classes:SkipMixin
    airflow.models.skipmixin.SkipMixin airflow.models.SkipMixin airflow.sdk.SkipMixin
    airflow.sdk.bases.skipmixin.SkipMixin
opskit.compat.small_classes:TaskInstanceKey
    airflow.models.taskinstancekey.TaskInstanceKey airflow.models.taskinstance.TaskInstanceKey
    airflow.providers.common.compat.sdk.TaskInstanceKey
opskit.compat.small_classes:initdb
    airflow.utils.db.initdb
opskit.compat.small_classes:literal
    airflow.utils.template.literal airflow.sdk.literal airflow.sdk.definitions.template.literal
opskit.compat.small_classes:resetdb
    airflow.utils.db.resetdb
opskit.compat.small_things:AIRFLOW_MOVED_TABLE_PREFIX
    airflow.settings.AIRFLOW_MOVED_TABLE_PREFIX
opskit.compat.small_things:IS_WINDOWS
    airflow.utils.platform.IS_WINDOWS
opskit.compat.small_things:Resources
    airflow.utils.operator_resources.Resources airflow.sdk.definitions._internal.operator_resources.Resources
    airflow.sdk.definitions.operator_resources.Resources
opskit.compat.small_things:add_deprecated_classes
    airflow.utils.deprecation_tools.add_deprecated_classes
opskit.compat.small_things:check_cycle
    airflow.utils.dag_cycle_tester.check_cycle airflow.utils.dag_cycle_tester.test_cycle
opskit.compat.small_things:execute_in_subprocess
    airflow.utils.process_utils.execute_in_subprocess
opskit.compat.small_things:execute_in_subprocess_with_kwargs
    airflow.utils.process_utils.execute_in_subprocess_with_kwargs
opskit.compat.small_things:get_host_ip_address
    airflow.utils.net.get_host_ip_address
opskit.compat.small_things:get_hostname
    airflow.utils.net.get_hostname airflow.utils.net.getfqdn
opskit.compat.small_things:get_random_string
    airflow.utils.strings.get_random_string
opskit.compat.small_things:getuser
    airflow.utils.platform.getuser
opskit.compat.small_things:is_tty
    airflow.utils.platform.is_tty
opskit.compat.small_things:md5
    airflow.utils.hashlib_wrapper.md5
opskit.compat.small_things:patch_environ
    airflow.utils.process_utils.patch_environ
opskit.compat.small_things:print_stuff
    airflow.example_dags.libs.helper.print_stuff airflow.contrib.example_dags.libs.helper.print_stuff
opskit.compat.small_things:timeout
    airflow.utils.timeout.timeout airflow.utils.timeout.TimeoutPosix airflow.sdk.execution_time.timeout.timeout
    airflow.providers.common.compat.sdk.timeout
opskit.compat.small_things:to_boolean
    airflow.utils.strings.to_boolean
opskit.compat.small_tools
    airflow.utils.helpers airflow.sdk.definitions._internal.helpers
opskit.compat.states
    airflow.utils.state
opskit.compat.states:DagRunState
    airflow.utils.state.DagRunState airflow.sdk.DagRunState airflow.sdk.api.datamodels._generated.DagRunState
opskit.compat.states:TaskInstanceState
    airflow.utils.state.TaskInstanceState airflow.sdk.TaskInstanceState
    airflow.sdk.api.datamodels._generated.TaskInstanceState
opskit.compat.statistics:Stats
    airflow.stats.Stats airflow.sdk.observability.stats.Stats airflow.sdk._shared.observability.metrics.stats.Stats
    airflow.providers.common.compat.sdk.Stats
opskit.compat.timezone
    airflow.utils.timezone airflow.sdk.timezone airflow.sdk._shared.timezones.timezone
opskit.compat.yaml_text
    airflow.utils.yaml
opskit.core.dag.context:_running
    airflow.models.taskinstance._CURRENT_CONTEXT
opskit.core.dag.exceptions
    airflow.exceptions airflow.sdk.exceptions airflow.providers.common.compat.sdk
opskit.core.dag.exceptions:AirflowException
    airflow.AirflowException airflow.exceptions.AirflowException airflow.sdk.exceptions.AirflowException
opskit.core.dag.operator_links:BaseOperatorLink
    airflow.models.baseoperator.BaseOperatorLink airflow.models.baseoperatorlink.BaseOperatorLink
    airflow.models.BaseOperatorLink airflow.sdk.BaseOperatorLink airflow.sdk.bases.operatorlink.BaseOperatorLink
opskit.core.dag.operator_links:XComOperatorLink
    airflow.serialization.definitions.operatorlink.XComOperatorLink
opskit.core.dag.parsing_context
    airflow.utils.dag_parsing_context airflow.sdk.definitions.context
opskit.core.dag.parsing_context:get_parsing_context
    airflow.sdk.get_parsing_context airflow.sdk.definitions.context.get_parsing_context
    airflow.utils.dag_parsing_context.get_parsing_context
opskit.core.dag.plugins:AirflowPlugin
    airflow.plugins_manager.AirflowPlugin airflow.sdk.plugins_manager.AirflowPlugin
    airflow.providers.common.compat.sdk.AirflowPlugin
opskit.core.dag.plugins:AirflowPluginException
    airflow.plugins_manager.AirflowPluginException
"""
