"""KubernetesPodOperator with Kubernetes' library, against a small server that plays its API."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from opskit import DAG
from opskit.core.dag.connection import Connection
from opskit.core.dag.exceptions import AirflowException, AirflowSkipException
from opskit.errors import DagInvalid
from opskit.providers.kubernetes.hook import KubernetesHook
from opskit.providers.kubernetes.objects import Secret, merged, plain
from opskit.providers.kubernetes.pod import KubernetesPodOperator, label
from tests.unit.providers.kubernetes_api import Api, kubernetes_api

# Kubernetes' library leaves its connections to the garbage collector.
pytestmark = pytest.mark.filterwarnings(
    "ignore:unclosed <socket:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture
def api(connect: Callable[..., Connection], monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """A server behind the connection kubernetes_default."""
    monkeypatch.setattr("opskit.providers.kubernetes.pod_run.POLL_SECONDS", 0.01)
    with kubernetes_api() as made:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "clusters": [{"name": "c", "cluster": {"server": made.url}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
            "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
        }
        extra = {"kube_config": json.dumps(config), "namespace": "jobs"}
        connect("kubernetes_default", conn_type="kubernetes", extra=extra)
        yield made
    gc.collect()


def run(**options: Any) -> Any:
    return KubernetesPodOperator(**{"task_id": "t", "image": "alpine", **options}).execute({})


def test_a_pod_is_made_followed_and_its_result_is_pushed(api: Api, dag: DAG, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    KubernetesPodOperator(
        task_id="t",
        name="my_pod",
        image="alpine:3",
        cmds=["echo"],
        arguments=["{{ dag.dag_id }}"],
        env_vars={"A": "{{ task.task_id }}"},
        labels={"team": "data"},
        do_xcom_push=True,
        configmaps=["settings"],
        secrets=[Secret("env", "token", "vault", "key"), Secret("volume", "/certs", "tls")],
        container_resources={"requests": {"cpu": "100m"}},
    )
    result = dag.test()
    assert result.state == "success", result.reasons
    assert result.xcoms["t"]["return_value"] == {"answer": 42}
    assert result.xcoms["t"]["pod_namespace"] == "jobs"
    pod = api.made[0]
    assert pod["metadata"]["name"].startswith("my-pod-")
    assert (
        pod["metadata"]["labels"].items() >= {"team": "data", "dag_id": "d", "task_id": "t", "try_number": "1"}.items()
    )
    base, sidecar = pod["spec"]["containers"]
    assert (base["command"], base["args"], base["image"]) == (["echo"], ["d"], "alpine:3")
    assert base["env"] == [
        {"name": "A", "value": "t"},
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "vault", "key": "key"}}},
    ]
    assert base["envFrom"] == [{"configMapRef": {"name": "settings"}}]
    assert [mount["mountPath"] for mount in base["volumeMounts"]] == ["/certs", "/airflow/xcom"]
    assert sidecar["name"] == "airflow-xcom-sidecar"
    assert "[base] hello" in caplog.text
    assert api.deleted == [pod["metadata"]["name"]]


def test_the_code_of_the_main_container_decides(api: Api) -> None:
    api.code = 3
    with pytest.raises(AirflowException, match="exit code 3"):
        run()
    with pytest.raises(AirflowException, match="exit code 3"):
        run(do_xcom_push=True)
    with pytest.raises(AirflowSkipException):
        run(skip_on_exit_code=3)


def test_what_becomes_of_the_pod_is_told_by_on_finish_action(api: Api) -> None:
    run(on_finish_action="keep_pod")
    assert api.deleted == []
    run(is_delete_operator_pod=False)
    run(on_finish_action="delete_active_pod")
    assert api.deleted == []
    run(on_finish_action="delete_succeeded_pod")
    assert len(api.deleted) == 1
    api.code = 1
    with pytest.raises(AirflowException):
        run(on_finish_action="delete_succeeded_pod")
    assert len(api.deleted) == 1
    with pytest.raises(DagInvalid, match="keep_pod"):
        KubernetesPodOperator(task_id="bad", on_finish_action="burn")


def test_a_pod_that_does_not_start_is_given_up(api: Api) -> None:
    api.starts = False
    with pytest.raises(AirflowException, match="ErrImagePull: no such image"):
        run(startup_timeout_seconds=0)
    assert len(api.deleted) == 1


def test_no_result_and_a_bad_one(api: Api) -> None:
    api.xcom = "__airflow_xcom_result_empty__"
    assert run(do_xcom_push=True) is None
    api.commands.clear()
    api.xcom = "no json"
    with pytest.raises(AirflowException, match="no JSON"):
        run(do_xcom_push=True)


def test_a_killed_task_deletes_its_pod(api: Api) -> None:
    task = KubernetesPodOperator(task_id="t", image="alpine", on_finish_action="keep_pod")
    task.on_kill()
    task.execute({})
    task.on_kill()
    task.on_kill()  # it is gone already
    assert len(api.deleted) == 1


def test_objects_are_models_or_dicts_and_templates_lie_below(api: Api, tmp_path: Path) -> None:
    from kubernetes.client import models as k8s

    (tmp_path / "pod.yaml").write_text(
        "metadata: {labels: {from: file}, namespace: other}\n"
        "spec:\n  nodeSelector: {disk: ssd}\n  containers:\n  - {name: base, image: file, env: [{name: F, value: x}]}\n"
    )
    task = KubernetesPodOperator(
        task_id="t",
        image="mine",
        pod_template_file=str(tmp_path / "pod.yaml"),
        env_vars=[k8s.V1EnvVar(name="A", value="1")],
        volumes=[k8s.V1Volume(name="v", host_path=k8s.V1HostPathVolumeSource(path="/p"))],
        volume_mounts=[{"name": "v", "mountPath": "/v"}],
        tolerations=[k8s.V1Toleration(key="gpu", operator="Exists")],
        full_pod_spec=k8s.V1Pod(metadata=k8s.V1ObjectMeta(annotations={"a": "b"})),
    )
    pod = task.build_pod_request_obj()
    assert (pod["metadata"]["namespace"], pod["metadata"]["annotations"]) == ("other", {"a": "b"})
    assert pod["metadata"]["labels"]["from"] == "file"
    spec = pod["spec"]
    assert spec["nodeSelector"] == {"disk": "ssd"}
    assert spec["volumes"] == [{"name": "v", "hostPath": {"path": "/p"}}]
    assert spec["tolerations"] == [{"key": "gpu", "operator": "Exists"}]
    assert spec["containers"][0]["image"] == "mine"
    assert spec["containers"][0]["env"] == [{"name": "F", "value": "x"}, {"name": "A", "value": "1"}]
    with pytest.raises(AirflowException, match="`image`"):
        KubernetesPodOperator(task_id="none").build_pod_request_obj()
    assert merged({"a": [1], "b": {"c": 1}}, {"a": [2], "b": {"d": 2}}) == {"a": [1, 2], "b": {"c": 1, "d": 2}}
    assert plain({"x": None, "y": (1, 2)}) == {"y": [1, 2]}


def test_labels_are_made_fit() -> None:
    assert label("plain") == "plain"
    long = label("scheduled__2024-01-01T00:00:00+00:00" * 3)
    assert len(long) <= 63
    assert ":" not in long
    assert label("a:b") != label("ab")


def test_a_cluster_is_named_in_one_way(api: Api, connect: Callable[..., Connection], tmp_path: Path) -> None:
    assert KubernetesHook().test_connection() == (True, "Connection successfully tested")
    connect("two", conn_type="kubernetes", extra={"in_cluster": True, "kube_config_path": "x"})
    with pytest.raises(AirflowException, match="mutually exclusive"):
        KubernetesHook("two").get_conn()
    with pytest.raises(AirflowException, match="no configuration"):
        KubernetesHook(conn_id=None, kubernetes_conn_id=None, config_file=str(tmp_path / "nothing")).get_conn()
