"""Alias table: operators, sensors, hooks and triggers that need no provider."""

NAMES = """
opskit.core.dag.custom_decorators:DecoratedOperator
    airflow.decorators.base.DecoratedOperator airflow.sdk.bases.decorator.DecoratedOperator
    airflow.providers.common.compat.sdk.DecoratedOperator
opskit.core.dag.custom_decorators:get_unique_task_id
    airflow.decorators.base.get_unique_task_id airflow.sdk.bases.decorator.get_unique_task_id
    airflow.providers.common.compat.sdk.get_unique_task_id
opskit.core.dag.custom_decorators:task_decorator_factory
    airflow.decorators.base.task_decorator_factory airflow.sdk.bases.decorator.task_decorator_factory
    airflow.providers.common.compat.sdk.task_decorator_factory
opskit.core.dag.hooks.base:BaseHook
    airflow.hooks.base.BaseHook airflow.hooks.base_hook.BaseHook airflow.sdk.BaseHook airflow.sdk.bases.hook.BaseHook
    airflow.hooks.BaseHook
opskit.core.dag.hooks.filesystem:FSHook
    airflow.hooks.filesystem.FSHook airflow.contrib.hooks.fs_hook.FSHook
    airflow.providers.standard.hooks.filesystem.FSHook
opskit.core.dag.hooks.package_index:PackageIndexHook
    airflow.hooks.package_index.PackageIndexHook airflow.providers.standard.hooks.package_index.PackageIndexHook
opskit.core.dag.hooks.subprocess:SubprocessHook
    airflow.hooks.subprocess.SubprocessHook airflow.providers.standard.hooks.subprocess.SubprocessHook
opskit.core.dag.hooks.subprocess:SubprocessResult
    airflow.hooks.subprocess.SubprocessResult airflow.providers.standard.hooks.subprocess.SubprocessResult
opskit.core.dag.mail:build_mime_message
    airflow.utils.email.build_mime_message
opskit.core.dag.mail:get_email_address_list
    airflow.utils.email.get_email_address_list
opskit.core.dag.mail:send_email
    airflow.utils.email.send_email
opskit.core.dag.mail:send_email_smtp
    airflow.utils.email.send_email_smtp
opskit.core.dag.notifiers:BaseNotifier
    airflow.notifications.basenotifier.BaseNotifier airflow.sdk.BaseNotifier airflow.sdk.bases.notifier.BaseNotifier
    airflow.providers.common.compat.notifier.BaseNotifier airflow.providers.common.compat.sdk.BaseNotifier
opskit.core.dag.operator_links:ExternalDagLink
    airflow.sensors.external_task.ExternalDagLink airflow.providers.standard.sensors.external_task.ExternalDagLink
    airflow.sensors.external_task_sensor.ExternalDagLink airflow.sensors.external_task.ExternalTaskSensorLink
    airflow.sensors.external_task_sensor.ExternalTaskSensorLink
opskit.core.dag.operator_links:TriggerDagRunLink
    airflow.operators.trigger_dagrun.TriggerDagRunLink
    airflow.providers.standard.operators.trigger_dagrun.TriggerDagRunLink
opskit.core.dag.operators.asynchronous:BaseAsyncOperator
    airflow.sdk.bases.operator.BaseAsyncOperator
opskit.core.dag.operators.asynchronous:is_async_callable
    airflow.sdk.bases.decorator.is_async_callable
opskit.core.dag.operators.bash:BashOperator
    airflow.operators.bash.BashOperator airflow.operators.bash_operator.BashOperator airflow.operators.BashOperator
    airflow.providers.standard.operators.bash.BashOperator
opskit.core.dag.operators.branch:BaseBranchOperator
    airflow.operators.branch.BaseBranchOperator airflow.operators.branch_operator.BaseBranchOperator
    airflow.providers.standard.operators.branch.BaseBranchOperator airflow.sdk.bases.branch.BaseBranchOperator
    airflow.providers.common.compat.standard.operators.BaseBranchOperator
    airflow.providers.common.compat.sdk.BaseBranchOperator
opskit.core.dag.operators.branch:BranchMixIn
    airflow.operators.branch.BranchMixIn airflow.providers.standard.operators.branch.BranchMixIn
    airflow.sdk.bases.branch.BranchMixIn airflow.providers.common.compat.sdk.BranchMixIn
opskit.core.dag.operators.branch_time:BranchDateTimeOperator
    airflow.operators.datetime.BranchDateTimeOperator
    airflow.providers.standard.operators.datetime.BranchDateTimeOperator
opskit.core.dag.operators.branch_time:BranchDayOfWeekOperator
    airflow.operators.weekday.BranchDayOfWeekOperator
    airflow.providers.standard.operators.weekday.BranchDayOfWeekOperator
opskit.core.dag.operators.branch_time:target_times_as_dates
    airflow.operators.datetime.target_times_as_dates airflow.providers.standard.operators.datetime.target_times_as_dates
opskit.core.dag.operators.email:EmailOperator
    airflow.operators.email.EmailOperator airflow.operators.email_operator.EmailOperator airflow.operators.EmailOperator
opskit.core.dag.operators.empty:EmptyOperator
    airflow.operators.empty.EmptyOperator airflow.providers.standard.operators.empty.EmptyOperator
    airflow.operators.dummy.DummyOperator airflow.operators.dummy_operator.DummyOperator
    airflow.operators.dummy.EmptyOperator airflow.operators.dummy_operator.EmptyOperator airflow.operators.DummyOperator
    airflow.operators.EmptyOperator
opskit.core.dag.operators.hitl:ApprovalOperator
    airflow.providers.standard.operators.hitl.ApprovalOperator
opskit.core.dag.operators.hitl:HITLBranchOperator
    airflow.providers.standard.operators.hitl.HITLBranchOperator
opskit.core.dag.operators.hitl:HITLEntryOperator
    airflow.providers.standard.operators.hitl.HITLEntryOperator
opskit.core.dag.operators.hitl:HITLOperator
    airflow.providers.standard.operators.hitl.HITLOperator
opskit.core.dag.operators.hitl:HITLRejectException
    airflow.providers.standard.exceptions.HITLRejectException
opskit.core.dag.operators.hitl:HITLTimeoutError
    airflow.providers.standard.exceptions.HITLTimeoutError
opskit.core.dag.operators.hitl:HITLTriggerEventError
    airflow.providers.standard.exceptions.HITLTriggerEventError
opskit.core.dag.operators.latest_only:LatestOnlyOperator
    airflow.operators.latest_only.LatestOnlyOperator airflow.operators.latest_only_operator.LatestOnlyOperator
    airflow.providers.standard.operators.latest_only.LatestOnlyOperator airflow.operators.LatestOnlyOperator
opskit.core.dag.operators.python:BranchPythonOperator
    airflow.operators.python.BranchPythonOperator airflow.operators.python_operator.BranchPythonOperator
    airflow.providers.standard.operators.python.BranchPythonOperator airflow.operators.BranchPythonOperator
opskit.core.dag.operators.python:PythonOperator
    airflow.operators.python.PythonOperator airflow.operators.python_operator.PythonOperator
    airflow.operators.PythonOperator airflow.providers.standard.operators.python.PythonOperator
    airflow.providers.common.compat.standard.operators.PythonOperator
opskit.core.dag.operators.python:ShortCircuitOperator
    airflow.operators.python.ShortCircuitOperator airflow.operators.python_operator.ShortCircuitOperator
    airflow.providers.standard.operators.python.ShortCircuitOperator airflow.operators.ShortCircuitOperator
    airflow.providers.common.compat.standard.operators.ShortCircuitOperator
opskit.core.dag.operators.python_environment:is_venv_installed
    airflow.operators.python.is_venv_installed airflow.providers.standard.operators.python.is_venv_installed
opskit.core.dag.operators.smooth:SmoothOperator
    airflow.operators.smooth.SmoothOperator airflow.providers.standard.operators.smooth.SmoothOperator
opskit.core.dag.operators.subdag:SkippedStatePropagationOptions
    airflow.operators.subdag.SkippedStatePropagationOptions
opskit.core.dag.operators.subdag:SubDagOperator
    airflow.operators.subdag.SubDagOperator airflow.operators.subdag_operator.SubDagOperator
    airflow.operators.SubDagOperator
opskit.core.dag.operators.trigger_dagrun:DagRunOrder
    airflow.operators.dagrun_operator.DagRunOrder
opskit.core.dag.operators.trigger_dagrun:TriggerDagRunOperator
    airflow.operators.trigger_dagrun.TriggerDagRunOperator airflow.operators.dagrun_operator.TriggerDagRunOperator
    airflow.providers.standard.operators.trigger_dagrun.TriggerDagRunOperator airflow.operators.TriggerDagRunOperator
opskit.core.dag.operators.trigger_dagrun:XCOM_LOGICAL_DATE_ISO
    airflow.operators.trigger_dagrun.XCOM_LOGICAL_DATE_ISO airflow.operators.trigger_dagrun.XCOM_EXECUTION_DATE_ISO
    airflow.providers.standard.operators.trigger_dagrun.XCOM_LOGICAL_DATE_ISO
opskit.core.dag.operators.trigger_dagrun:XCOM_RUN_ID
    airflow.operators.trigger_dagrun.XCOM_RUN_ID airflow.providers.standard.operators.trigger_dagrun.XCOM_RUN_ID
opskit.core.dag.operators.virtualenv:BranchExternalPythonOperator
    airflow.operators.python.BranchExternalPythonOperator
    airflow.providers.standard.operators.python.BranchExternalPythonOperator
opskit.core.dag.operators.virtualenv:BranchPythonVirtualenvOperator
    airflow.operators.python.BranchPythonVirtualenvOperator
    airflow.providers.standard.operators.python.BranchPythonVirtualenvOperator
opskit.core.dag.operators.virtualenv:ExternalPythonOperator
    airflow.operators.python.ExternalPythonOperator airflow.providers.standard.operators.python.ExternalPythonOperator
opskit.core.dag.operators.virtualenv:PythonVirtualenvOperator
    airflow.operators.python.PythonVirtualenvOperator airflow.operators.python_operator.PythonVirtualenvOperator
    airflow.providers.standard.operators.python.PythonVirtualenvOperator
opskit.core.dag.sensors.base:BaseSensorOperator
    airflow.sensors.base.BaseSensorOperator airflow.sensors.base_sensor_operator.BaseSensorOperator
    airflow.operators.sensors.BaseSensorOperator airflow.sdk.BaseSensorOperator
    airflow.sdk.bases.sensor.BaseSensorOperator
opskit.core.dag.sensors.base:PokeReturnValue
    airflow.sensors.base.PokeReturnValue airflow.sdk.PokeReturnValue airflow.sdk.bases.sensor.PokeReturnValue
opskit.core.dag.sensors.base:poke_mode_only
    airflow.sensors.base.poke_mode_only airflow.sensors.base_sensor_operator.poke_mode_only
    airflow.sdk.bases.sensor.poke_mode_only airflow.providers.common.compat.sdk.poke_mode_only
opskit.core.dag.sensors.bash:BashSensor
    airflow.sensors.bash.BashSensor airflow.providers.standard.sensors.bash.BashSensor
    airflow.contrib.sensors.bash_sensor.BashSensor
opskit.core.dag.sensors.external_task:ExternalTaskMarker
    airflow.sensors.external_task.ExternalTaskMarker airflow.sensors.external_task_sensor.ExternalTaskMarker
    airflow.providers.standard.sensors.external_task.ExternalTaskMarker
opskit.core.dag.sensors.external_task:ExternalTaskSensor
    airflow.sensors.external_task.ExternalTaskSensor airflow.sensors.external_task_sensor.ExternalTaskSensor
    airflow.operators.sensors.ExternalTaskSensor airflow.providers.standard.sensors.external_task.ExternalTaskSensor
opskit.core.dag.sensors.filesystem:FileSensor
    airflow.sensors.filesystem.FileSensor airflow.contrib.sensors.file_sensor.FileSensor
    airflow.providers.standard.sensors.filesystem.FileSensor
opskit.core.dag.sensors.python:PythonSensor
    airflow.sensors.python.PythonSensor airflow.contrib.sensors.python_sensor.PythonSensor
    airflow.providers.standard.sensors.python.PythonSensor
opskit.core.dag.sensors.time:DateTimeSensor
    airflow.sensors.date_time.DateTimeSensor airflow.sensors.date_time_sensor.DateTimeSensor
    airflow.providers.standard.sensors.date_time.DateTimeSensor
opskit.core.dag.sensors.time:DateTimeSensorAsync
    airflow.sensors.date_time.DateTimeSensorAsync airflow.providers.standard.sensors.date_time.DateTimeSensorAsync
opskit.core.dag.sensors.time:TimeDeltaSensor
    airflow.sensors.time_delta.TimeDeltaSensor airflow.sensors.time_delta_sensor.TimeDeltaSensor
    airflow.operators.sensors.TimeDeltaSensor airflow.providers.standard.sensors.time_delta.TimeDeltaSensor
opskit.core.dag.sensors.time:TimeDeltaSensorAsync
    airflow.sensors.time_delta.TimeDeltaSensorAsync airflow.providers.standard.sensors.time_delta.TimeDeltaSensorAsync
opskit.core.dag.sensors.time:TimeSensor
    airflow.sensors.time_sensor.TimeSensor airflow.operators.sensors.TimeSensor
    airflow.providers.standard.sensors.time.TimeSensor
opskit.core.dag.sensors.time:TimeSensorAsync
    airflow.sensors.time_sensor.TimeSensorAsync airflow.providers.standard.sensors.time.TimeSensorAsync
opskit.core.dag.sensors.time:WaitSensor
    airflow.sensors.time_delta.WaitSensor airflow.providers.standard.sensors.time_delta.WaitSensor
opskit.core.dag.sensors.weekday:DayOfWeekSensor
    airflow.sensors.weekday.DayOfWeekSensor airflow.contrib.sensors.weekday_sensor.DayOfWeekSensor
    airflow.providers.standard.sensors.weekday.DayOfWeekSensor
opskit.core.dag.triggers.base
    airflow.triggers.base
opskit.core.dag.triggers.external_task
    airflow.triggers.external_task airflow.providers.standard.triggers.external_task
opskit.core.dag.triggers.file
    airflow.triggers.file airflow.providers.standard.triggers.file
opskit.core.dag.triggers.hitl:HITLTrigger
    airflow.providers.standard.triggers.hitl.HITLTrigger
opskit.core.dag.triggers.hitl:HITLUser
    airflow.sdk.execution_time.hitl.HITLUser airflow.providers.standard.triggers.hitl.HITLUser
opskit.core.dag.triggers.temporal
    airflow.triggers.temporal airflow.providers.standard.triggers.temporal
"""
