"""Alias table: the metastore: sessions, engine and models."""

NAMES = """
opskit.core.metastore.airflow_models:Base
    airflow.models.Base airflow.models.base.Base airflow.models.baseoperator.Base
opskit.core.metastore.airflow_models:BaseJob
    airflow.jobs.BaseJob airflow.jobs.base_job.BaseJob
opskit.core.metastore.airflow_models:BaseXCom
    airflow.models.xcom.BaseXCom airflow.sdk.bases.xcom.BaseXCom airflow.sdk.execution_time.xcom.BaseXCom
opskit.core.metastore.airflow_models:DagCode
    airflow.models.DagCode airflow.models.dagcode.DagCode
opskit.core.metastore.airflow_models:DagModel
    airflow.models.DagModel airflow.models.dag.DagModel
opskit.core.metastore.airflow_models:DagPickle
    airflow.models.DagPickle airflow.models.dagpickle.DagPickle
opskit.core.metastore.airflow_models:DagRun
    airflow.models.DagRun airflow.models.dagrun.DagRun
opskit.core.metastore.airflow_models:DagTag
    airflow.models.DagTag airflow.models.dag.DagTag
opskit.core.metastore.airflow_models:DagWarning
    airflow.models.DagWarning airflow.models.dagwarning.DagWarning
opskit.core.metastore.airflow_models:DatasetEvent
    airflow.models.dataset.DatasetEvent airflow.models.asset.AssetEvent
opskit.core.metastore.airflow_models:DatasetModel
    airflow.models.dataset.DatasetModel airflow.models.asset.AssetModel
opskit.core.metastore.airflow_models:ImportError
    airflow.models.ImportError airflow.models.errors.ImportError
opskit.core.metastore.airflow_models:Job
    airflow.jobs.job.Job airflow.jobs.Job
opskit.core.metastore.airflow_models:Log
    airflow.models.Log airflow.models.log.Log
opskit.core.metastore.airflow_models:NEW_SESSION
    airflow.utils.session.NEW_SESSION
opskit.core.metastore.airflow_models:ParseImportError
    airflow.models.errors.ParseImportError
opskit.core.metastore.airflow_models:Pool
    airflow.models.Pool airflow.models.pool.Pool
opskit.core.metastore.airflow_models:RenderedTaskInstanceFields
    airflow.models.RenderedTaskInstanceFields airflow.models.renderedtifields.RenderedTaskInstanceFields
opskit.core.metastore.airflow_models:SerializedDagModel
    airflow.models.serialized_dag.SerializedDagModel airflow.models.SerializedDagModel
opskit.core.metastore.airflow_models:Session
    airflow.settings.Session airflow.Session
opskit.core.metastore.airflow_models:SlaMiss
    airflow.models.SlaMiss airflow.models.slamiss.SlaMiss
opskit.core.metastore.airflow_models:TaskFail
    airflow.models.TaskFail airflow.models.taskfail.TaskFail
opskit.core.metastore.airflow_models:TaskInstance
    airflow.models.TaskInstance airflow.models.taskinstance.TaskInstance
opskit.core.metastore.airflow_models:TaskMap
    airflow.models.taskmap.TaskMap
opskit.core.metastore.airflow_models:TaskReschedule
    airflow.models.TaskReschedule airflow.models.taskreschedule.TaskReschedule
opskit.core.metastore.airflow_models:Trigger
    airflow.models.Trigger airflow.models.trigger.Trigger
opskit.core.metastore.airflow_models:XCom
    airflow.models.XCom airflow.models.xcom.XCom airflow.sdk.execution_time.xcom.XCom
opskit.core.metastore.airflow_models:XComModel
    airflow.models.xcom.XComModel
opskit.core.metastore.airflow_models:clear_task_instances
    airflow.models.clear_task_instances airflow.models.taskinstance.clear_task_instances
opskit.core.metastore.airflow_models:create_session
    airflow.utils.session.create_session airflow.utils.db.create_session
opskit.core.metastore.airflow_models:engine
    airflow.settings.engine
opskit.core.metastore.airflow_models:provide_session
    airflow.utils.session.provide_session airflow.utils.db.provide_session
"""
