"""Every operation of Airflow's official client 2.10 against a running webserver: served, or 501 with a reason."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import pytest

from tests.api_site import CONSUMER, DAG_ID, PASSWORD, URI, ApiSite, api_site
from tests.dag_page_sample import MAPPED
from tests.databases import KINDS, Databases

client = pytest.importorskip("airflow_client.client")
from airflow_client.client import apis, models  # noqa: E402
from airflow_client.client.exceptions import (  # noqa: E402
    ApiException,
    ApiTypeError,
    ApiValueError,
    ForbiddenException,
    NotFoundException,
    UnauthorizedException,
)

OPERATIONS = 90
"""Of the client; one of them is in two of its classes."""
TASK = "transform.deep.join"


@pytest.fixture(scope="module", params=KINDS)
def site(
    request: pytest.FixtureRequest, databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ApiSite]:
    url = databases.migrated(request.param)
    environment = {"OPSKIT__WEBSERVER__EXPOSE_CONFIG": "yes", "OPSKIT__CORE__TEST_CONNECTION": "Enabled"}
    with api_site(tmp_path_factory.mktemp("home"), url, environment) as made:
        yield made
    databases.drop(url)


def api_client(site: ApiSite, username: str = "ada") -> Any:
    return client.ApiClient(client.Configuration(host=f"{site.url}/api/v1", username=username, password=PASSWORD))


def operations(api: Any) -> dict[tuple[str, str], Any]:
    """(class, operation) → the bound method, for every operation that the client has."""
    found = {}
    for name, made in inspect.getmembers(apis, inspect.isclass):
        if name.endswith("Api"):
            instance = made(api)
            for attribute, endpoint in vars(instance).items():
                if attribute.endswith("_endpoint"):
                    found[name, endpoint.settings["operation_id"]] = endpoint.call_with_http_info
                    found[name, endpoint.settings["operation_id"]] = getattr(
                        instance, attribute.removesuffix("_endpoint")
                    )
    return found


def calls(site: ApiSite) -> list[tuple[str, dict[str, Any]]]:
    """Each operation with plausible arguments, in an order in which what is read, changed and deleted is there."""
    run = {"dag_id": DAG_ID, "dag_run_id": site.run.run_id}
    task = {**run, "task_id": TASK}
    mapped = {**run, "task_id": MAPPED, "map_index": 7}
    token = _dag(site, DAG_ID)["file_token"]
    error = _get(site, "/importErrors")["import_errors"][0]["import_error_id"]
    line = _get(site, "/eventLogs")["event_logs"][0]["event_log_id"]
    role = models.Role(
        name="Auditor",
        actions=[
            models.ActionResource(action=models.Action(name="can_read"), resource=models.Resource(name="Audit Logs"))
        ],
    )
    user = models.User(
        username="grace",
        first_name="Grace",
        last_name="Example",
        email="grace@example.org",
        roles=[models.UserCollectionItemRoles(name="Auditor")],
        password="a good long password",
    )
    connection = models.Connection(
        connection_id="lake/1", conn_type="sqlite", host=str(site.home / "x.db"), password="hunter2", extra='{"a": 1}'
    )
    variable = models.Variable(key="region", value="eu", description="where")
    return [
        ("get_health", {}),
        ("get_version", {}),
        ("get_config", {"section": "core"}),
        ("get_value", {"section": "core", "option": "parallelism"}),
        ("get_plugins", {"limit": 1}),
        ("get_providers", {}),
        ("get_permissions", {}),
        # --- what administrators keep ---
        ("test_connection", {"connection": connection}),
        ("post_connection", {"connection": connection}),
        ("get_connections", {"limit": 10, "order_by": "-conn_type"}),
        ("get_connection", {"connection_id": "lake/1"}),
        ("patch_connection", {"connection_id": "lake/1", "connection": connection, "update_mask": ["host", "extra"]}),
        ("delete_connection", {"connection_id": "lake/1"}),
        ("post_variables", {"variable": variable}),
        ("get_variables", {"order_by": "key"}),
        ("get_variable", {"variable_key": "region"}),
        ("patch_variable", {"variable_key": "region", "variable": variable, "update_mask": ["value"]}),
        ("delete_variable", {"variable_key": "region"}),
        ("post_pool", {"pool": models.Pool(name="small", slots=2)}),
        ("get_pools", {"order_by": "-slots"}),
        ("get_pool", {"pool_name": "small"}),
        ("patch_pool", {"pool_name": "small", "pool": models.Pool(name="small", slots=3), "update_mask": ["slots"]}),
        ("delete_pool", {"pool_name": "small"}),
        ("post_role", {"role": role}),
        ("get_roles", {"order_by": "name"}),
        ("get_role", {"role_name": "Auditor"}),
        ("patch_role", {"role_name": "Auditor", "role": role, "update_mask": ["actions"]}),
        ("post_user", {"user": user}),
        ("get_users", {"order_by": "id"}),
        ("get_user", {"username": "grace"}),
        ("patch_user", {"username": "grace", "user": user, "update_mask": ["email"]}),
        ("delete_user", {"username": "grace"}),
        ("delete_role", {"role_name": "Auditor"}),
        ("get_event_logs", {"dag_id": DAG_ID, "included_events": "dags trigger", "order_by": "-when"}),
        ("get_event_log", {"event_log_id": line}),
        ("get_import_errors", {"order_by": "filename"}),
        ("get_import_error", {"import_error_id": error}),
        # --- datasets ---
        ("get_datasets", {"uri_pattern": "LAKE", "dag_ids": DAG_ID}),
        ("get_dataset", {"uri": URI}),
        ("get_dataset_events", {"source_dag_id": DAG_ID, "order_by": "-timestamp"}),
        ("create_dataset_event", {"create_dataset_event": models.CreateDatasetEvent(dataset_uri=URI, extra={"b": 2})}),
        ("get_dataset_queued_events", {"uri": URI}),
        ("get_dag_dataset_queued_events", {"dag_id": CONSUMER}),
        ("get_dag_dataset_queued_event", {"dag_id": CONSUMER, "uri": URI}),
        ("delete_dag_dataset_queued_event", {"dag_id": CONSUMER, "uri": URI}),
        ("delete_dag_dataset_queued_events", {"dag_id": CONSUMER}),
        ("delete_dataset_queued_events", {"uri": URI}),
        ("get_upstream_dataset_events", run),
        # --- DAGs ---
        ("get_dags", {"tags": ["daily"], "order_by": "dag_id", "only_active": True}),
        ("get_dag", {"dag_id": DAG_ID}),
        ("get_dag_details", {"dag_id": DAG_ID}),
        ("get_dag_source", {"file_token": token}),
        ("get_tasks", {"dag_id": DAG_ID}),
        ("get_task", {"dag_id": DAG_ID, "task_id": TASK}),
        ("patch_dag", {"dag_id": DAG_ID, "dag": models.DAG(is_paused=True), "update_mask": ["is_paused"]}),
        ("patch_dags", {"dag_id_pattern": "orders", "dag": models.DAG(is_paused=False)}),
        ("reparse_dag_file", {"file_token": token}),
        ("get_dag_stats", {"dag_ids": DAG_ID}),
        ("get_dag_warnings", {}),
        # --- runs ---
        ("post_dag_run", {"dag_id": DAG_ID, "dag_run": models.DAGRun(dag_run_id="by_hand", conf={"a": 1}, note="why")}),
        ("get_dag_runs", {"dag_id": "~", "state": ["running", "queued"], "order_by": "-start_date"}),
        ("get_dag_run", run),
        ("get_dag_runs_batch", {"list_dag_runs_form": models.ListDagRunsForm(dag_ids=[DAG_ID], page_limit=2)}),
        ("set_dag_run_note", {**run, "set_dag_run_note": models.SetDagRunNote(note="look")}),
        # --- task instances ---
        ("get_task_instances", {**run, "state": ["failed"], "limit": 5}),
        ("get_task_instance", task),
        ("get_mapped_task_instances", {**run, "task_id": MAPPED, "limit": 5}),
        ("get_mapped_task_instance", mapped),
        (
            "get_task_instances_batch",
            {"list_task_instance_form": models.ListTaskInstanceForm(dag_ids=[DAG_ID], state=[_state("failed")])},
        ),
        ("get_task_instance_tries", task),
        ("get_mapped_task_instance_tries", mapped),
        ("get_task_instance_try_details", {**task, "task_try_number": 1}),
        ("get_mapped_task_instance_try_details", {**mapped, "task_try_number": 1}),
        ("get_task_instance_dependencies", task),
        ("get_mapped_task_instance_dependencies", mapped),
        ("get_extra_links", task),
        ("get_log", {**task, "task_try_number": 3, "full_content": True}),
        ("get_xcom_entries", {**run, "task_id": "extract.orders"}),
        ("get_xcom_entry", {**run, "task_id": "extract.orders", "xcom_key": "return_value"}),
        ("set_task_instance_note", {**task, "set_task_instance_note": models.SetTaskInstanceNote(note="seen")}),
        ("set_mapped_task_instance_note", {**mapped, "set_task_instance_note": models.SetTaskInstanceNote(note="s")}),
        (
            "patch_task_instance",
            {**task, "update_task_instance": models.UpdateTaskInstance(new_state=models.UpdateTaskState("success"))},
        ),
        (
            "patch_mapped_task_instance",
            {
                **mapped,
                "update_task_instance": models.UpdateTaskInstance(
                    dry_run=False, new_state=models.UpdateTaskState("success")
                ),
            },
        ),
        (
            "post_set_task_instances_state",
            {
                "dag_id": DAG_ID,
                "update_task_instances_state": models.UpdateTaskInstancesState(
                    dry_run=True, task_id="load", dag_run_id=site.run.run_id, new_state=models.UpdateTaskState("failed")
                ),
            },
        ),
        (
            "post_clear_task_instances",
            {
                "dag_id": DAG_ID,
                "clear_task_instances": models.ClearTaskInstances(
                    dry_run=False, dag_run_id=site.run.run_id, task_ids=[TASK], include_downstream=True
                ),
            },
        ),
        ("clear_dag_run", {**run, "clear_dag_run": models.ClearDagRun(dry_run=True)}),
        ("update_dag_run_state", {**run, "update_dag_run_state": models.UpdateDagRunState(state="failed")}),
        ("delete_dag_run", {"dag_id": DAG_ID, "dag_run_id": "by_hand"}),
        ("delete_dag", {"dag_id": CONSUMER}),
    ]


QUEUED_AGAIN = ("delete_dag_dataset_queued_events", "delete_dataset_queued_events")
"""Each empties the queue: before it, an event is made."""


def test_each_operation_of_the_official_client_is_served_or_refused_with_a_reason(site: ApiSite) -> None:
    found = operations(api_client(site))
    assert len(found) == OPERATIONS
    todo = calls(site)
    assert {name for name, _ in todo} == {name for _, name in found}
    refused, wrong = {}, {}
    for name, arguments in todo:
        if name in QUEUED_AGAIN:
            _post(site, "/datasets/events", {"dataset_uri": URI})
        for (_, operation), call in found.items():
            if operation != name:
                continue
            try:
                call(**arguments)  # the client checks the types of the answer, too
            except ApiException as problem:
                if problem.status == 501 and '"detail"' in str(problem.body):
                    refused[name] = problem.body
                else:
                    wrong[name] = f"{problem.status}: {problem.body}"
            except (ApiTypeError, ApiValueError) as problem:
                wrong[name] = f"the client can't read the answer: {problem}"
    assert wrong == {}
    assert set(refused) == NOT_SERVED


NOT_SERVED: set[str] = set()


def test_what_the_client_sends_is_what_it_reads_back(site: ApiSite) -> None:
    api = api_client(site)
    connections, variables, pools = apis.ConnectionApi(api), apis.VariableApi(api), apis.PoolApi(api)

    made = connections.post_connection(
        models.Connection(
            connection_id="crm", conn_type="http", host="crm.example.org", login="opskit", schema="https", port=8443,
            password="hunter2", extra='{"token": "hunter3", "timeout": 5}', description="customers",
        )
    )  # fmt: skip
    assert made.port == 8443
    assert "hunter" not in str(made)
    assert made.extra == '{"token": "***", "timeout": 5}'
    changed = connections.patch_connection("crm", models.Connection(port=443), update_mask=["port"])
    assert (changed.port, changed.host, changed.description) == (443, "crm.example.org", "customers")
    connections.patch_connection("crm", models.Connection(extra='{"token": "***", "timeout": 9}'))
    kept = _stored_connection(site, "crm")
    assert (kept.password, kept.extra_dejson) == ("hunter2", {"token": "hunter3", "timeout": 9})
    with pytest.raises(ApiException) as conflict:
        connections.post_connection(models.Connection(connection_id="crm", conn_type="http"))
    assert conflict.value.status == 409
    connections.delete_connection("crm")
    with pytest.raises(NotFoundException):
        connections.get_connection("crm")

    variables.post_variables(models.Variable(key="a/b", value="1", description="d"))
    variables.patch_variable("a/b", models.Variable(key="a/b", value="2"), update_mask=["value"])
    assert variables.get_variable("a/b").to_dict() == {"key": "a/b", "value": "2", "description": "d"}
    variables.post_variables(models.Variable(key="api_key", value="hunter4"))
    assert variables.get_variable("api_key").value == "***"
    variables.delete_variable("a/b")
    variables.delete_variable("api_key")

    pools.post_pool(models.Pool(name="etl", slots=4, description="loads"))
    pools.patch_pool("etl", models.Pool(name="elt", slots=5))
    assert (pools.get_pool("elt").slots, pools.get_pool("elt").open_slots) == (5, 5)
    pools.delete_pool("elt")
    assert {one.name for one in pools.get_pools().pools} == {"default_pool"}


@pytest.mark.parametrize("site", ["sqlite"], indirect=True)
def test_what_the_client_does_with_users_and_roles_holds_for_signing_in(site: ApiSite) -> None:
    api = api_client(site)
    users, roles = apis.UserApi(api), apis.RoleApi(api)
    pools = models.ActionResource(action=models.Action(name="can_read"), resource=models.Resource(name="Pools"))
    roles.post_role(models.Role(name="Plumber", actions=[pools]))
    users.post_user(
        models.User(
            username="linus", first_name="L", last_name="E", email="linus@example.org",
            roles=[models.UserCollectionItemRoles(name="Plumber")], password=PASSWORD,
        )
    )  # fmt: skip

    theirs = api_client(site, "linus")
    assert apis.PoolApi(theirs).get_pools().total_entries == 1
    with pytest.raises(ForbiddenException):
        apis.VariableApi(theirs).get_variables()

    roles.patch_role("Plumber", models.Role(name="Fitter", actions=[pools]))
    assert [one.name for one in users.get_user("linus").roles] == ["Fitter"]
    users.patch_user("linus", models.User(first_name="Linus"), update_mask=["first_name"])
    assert users.get_user("linus").first_name == "Linus"
    users.delete_user("linus")
    with pytest.raises(UnauthorizedException):
        apis.PoolApi(theirs).get_pools()
    roles.delete_role("Fitter")
    assert "Fitter" not in {one.name for one in roles.get_roles().roles}


@pytest.mark.parametrize("site", ["sqlite"], indirect=True)
def test_a_viewer_changes_nothing_through_the_client(site: ApiSite) -> None:
    api = api_client(site, "viola")
    attempts = [
        lambda: apis.ConnectionApi(api).post_connection(models.Connection(connection_id="x", conn_type="http")),
        lambda: apis.ConnectionApi(api).test_connection(models.Connection(connection_id="x", conn_type="http")),
        lambda: apis.VariableApi(api).post_variables(models.Variable(key="x", value="1")),
        lambda: apis.PoolApi(api).patch_pool("default_pool", models.Pool(slots=1), update_mask=["slots"]),
        lambda: apis.PoolApi(api).delete_pool("default_pool"),
        lambda: apis.DatasetApi(api).create_dataset_event(models.CreateDatasetEvent(dataset_uri=URI)),
        lambda: apis.DatasetApi(api).delete_dataset_queued_events(URI),
        lambda: apis.UserApi(api).delete_user("ada"),
        lambda: apis.RoleApi(api).delete_role("Viewer"),
    ]
    for attempt in attempts:
        with pytest.raises(ForbiddenException):
            attempt()


def _state(name: str) -> Any:
    return models.TaskState(name)


def _get(site: ApiSite, path: str) -> Any:
    with site.http() as http:
        return http.get(f"/api/v1{path}").raise_for_status().json()


def _post(site: ApiSite, path: str, body: Any) -> None:
    with site.http() as http:
        http.post(f"/api/v1{path}", json=body).raise_for_status()


def _dag(site: ApiSite, dag_id: str) -> Any:
    return _get(site, f"/dags/{dag_id}")


def _stored_connection(site: ApiSite, conn_id: str) -> Any:
    from opskit.core.metastore import connections, crypto
    from opskit.core.metastore.engine import reading

    with reading(site.engine) as database:
        return connections.get_connection(database, crypto.open_cipher(site.config), conn_id)
