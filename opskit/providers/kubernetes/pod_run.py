"""One pod from its creation to its result."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from opskit.core.dag.exceptions import AirflowException, AirflowSkipException
from opskit.providers.kubernetes.objects import plain
from opskit.providers.optional import library

if TYPE_CHECKING:
    from opskit.providers.kubernetes.pod import KubernetesPodOperator

POLL_SECONDS = 1.0
_EXEC_SECONDS = 60
_EMPTY = "__airflow_xcom_result_empty__"


def run_pod(task: KubernetesPodOperator, context: Any) -> Any:
    """What is pushed as XCom; AirflowException when the pod fails, or does not start in time."""
    request = task.build_pod_request_obj(context)
    pod = _running_one(task, context, request["metadata"]["namespace"]) if task.reattach_on_restart else None
    if pod is None:
        pod = plain(task.client.create_namespaced_pod(namespace=request["metadata"]["namespace"], body=request))
        task.log.info("Made the pod %s in namespace %s", pod["metadata"]["name"], pod["metadata"]["namespace"])
    task.pod = pod
    try:
        _await_start(task, pod)
        base = _await_base_container(task, pod)
        result = _result(task, pod) if task.do_xcom_push and base["exitCode"] == 0 else None
        pod = _await_end(task, pod)
    finally:
        _clean_up(task)
    _judge(task, pod, base)
    if context and "ti" in context and task.do_xcom_push:
        context["ti"].xcom_push(key="pod_name", value=pod["metadata"]["name"])
        context["ti"].xcom_push(key="pod_namespace", value=pod["metadata"]["namespace"])
    return result


def delete_pod(task: KubernetesPodOperator, pod: dict[str, Any]) -> None:
    """Have it deleted, unless it is gone already."""
    options = {} if task.termination_grace_period is None else {"grace_period_seconds": task.termination_grace_period}
    metadata = pod["metadata"]
    error_class = library("kubernetes.client", extra="kubernetes", needed_by="KubernetesPodOperator").ApiException
    try:
        task.client.delete_namespaced_pod(name=metadata["name"], namespace=metadata["namespace"], **options)
    except error_class as error:
        if error.status != 404:
            raise


def _running_one(task: KubernetesPodOperator, context: Any, namespace: str) -> dict[str, Any] | None:
    """The pod that an earlier attempt of this try has left running."""
    labels = task.task_labels(context)
    if "run_id" not in labels:
        return None
    selector = ",".join(f"{key}={value}" for key, value in labels.items() if key != "try_number")
    found = task.client.list_namespaced_pod(namespace=namespace, label_selector=selector).items
    alive: list[dict[str, Any]] = [pod for pod in map(plain, found) if _phase(pod) in ("Pending", "Running")]
    if not alive:
        return None
    task.log.info("Found the pod %s, which runs already", alive[-1]["metadata"]["name"])
    return alive[-1]


def _read(task: KubernetesPodOperator, pod: dict[str, Any]) -> dict[str, Any]:
    metadata = pod["metadata"]
    found: dict[str, Any] = plain(
        task.client.read_namespaced_pod(name=metadata["name"], namespace=metadata["namespace"])
    )
    return found


def _phase(pod: dict[str, Any]) -> str:
    return str(pod.get("status", {}).get("phase", "Pending"))


def _await_start(task: KubernetesPodOperator, pod: dict[str, Any]) -> None:
    deadline = time.monotonic() + task.startup_timeout_seconds
    while True:
        current = _read(task, pod)
        if _phase(current) != "Pending":
            return
        if time.monotonic() > deadline:
            reasons = [
                f"{state['waiting'].get('reason')}: {state['waiting'].get('message', '')}"
                for status in current.get("status", {}).get("containerStatuses", ())
                if "waiting" in (state := status.get("state", {}))
            ]
            raise AirflowException(
                f"Pod {pod['metadata']['name']} took longer than {task.startup_timeout_seconds} seconds to start. "
                f"{'; '.join(reasons)}"
            )
        time.sleep(POLL_SECONDS)


def _terminated(task: KubernetesPodOperator, pod: dict[str, Any]) -> dict[str, Any] | None:
    """How the main container ended; None while it runs."""
    status = pod.get("status", {})
    for container in status.get("containerStatuses", ()):
        if container["name"] == task.base_container_name and "terminated" in container.get("state", {}):
            ended: dict[str, Any] = container["state"]["terminated"]
            return ended
    if _phase(pod) in ("Failed", "Succeeded"):  # evicted, or its node is gone: nothing is known of its containers
        return {"exitCode": 0 if _phase(pod) == "Succeeded" else 1, "reason": status.get("reason")}
    return None


def _await_base_container(task: KubernetesPodOperator, pod: dict[str, Any]) -> dict[str, Any]:
    last, since = "", None
    while True:
        ended = _terminated(task, _read(task, pod))
        if task.get_logs:
            asked = time.monotonic()
            last = _follow(task, pod, last, since)
            since = asked
        if ended is not None:
            return ended
        if not task.get_logs or _terminated(task, _read(task, pod)) is None:
            time.sleep(POLL_SECONDS)


def _follow(task: KubernetesPodOperator, pod: dict[str, Any], last: str, since: float | None) -> str:
    """Log what the main container says until the stream ends; the time of the last line. Those up to `last` are
    known."""
    client = library("kubernetes.client", extra="kubernetes", needed_by="KubernetesPodOperator")
    metadata = pod["metadata"]
    options = {} if since is None else {"since_seconds": int(time.monotonic() - since) + 5}
    try:
        stream = task.client.read_namespaced_pod_log(
            name=metadata["name"],
            namespace=metadata["namespace"],
            container=task.base_container_name,
            follow=True,
            timestamps=True,
            _preload_content=False,
            **options,
        )
    except client.ApiException as error:
        task.log.warning("the log of the pod can't be read: %s", error.reason)
        return last
    rest = b""
    try:
        for block in stream.stream(amt=None, decode_content=False):
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                last = _log_line(task, line, last)
        if rest:
            last = _log_line(task, rest, last)
    except library("urllib3.exceptions", extra="kubernetes", needed_by="KubernetesPodOperator").HTTPError as error:
        task.log.warning("the log of the pod broke off, it is asked for again: %s", error)
    finally:
        stream.release_conn()
    return last


def _log_line(task: KubernetesPodOperator, line: bytes, last: str) -> str:
    stamp, _, text = line.decode("utf-8", "replace").partition(" ")
    if stamp > last:
        task.log.info("[%s] %s", task.base_container_name, text)
        return stamp
    return last


def _result(task: KubernetesPodOperator, pod: dict[str, Any]) -> Any:
    """What the main container wrote into return.json. AirflowException when it is no JSON."""
    from opskit.providers.kubernetes.pod import XCOM_PATH

    path = f"{XCOM_PATH}/return.json"
    try:
        text = _run_in_sidecar(task, pod, f"if [ -s {path} ]; then cat {path}; else echo {_EMPTY}; fi").strip()
    finally:
        _run_in_sidecar(task, pod, "kill -2 1")
    if text == _EMPTY:
        task.log.info("xcom result file is empty.")
        return None
    try:
        return json.loads(text)
    except ValueError as error:
        raise AirflowException(f"the pod wrote no JSON into {path}: {error}") from error


def _run_in_sidecar(task: KubernetesPodOperator, pod: dict[str, Any], command: str) -> str:
    from opskit.providers.kubernetes.pod import XCOM_CONTAINER

    stream = library("kubernetes.stream", extra="kubernetes", needed_by="KubernetesPodOperator").stream
    client = library("kubernetes.client", extra="kubernetes", needed_by="KubernetesPodOperator")
    metadata = pod["metadata"]
    # A client of its own: the library turns the one that it is given into one for web sockets while it is used.
    api = client.CoreV1Api(client.ApiClient(configuration=task.hook.api_client.configuration))
    conversation = stream(
        api.connect_get_namespaced_pod_exec,
        name=metadata["name"],
        namespace=metadata["namespace"],
        container=XCOM_CONTAINER,
        command=["sh", "-c", command],
        stdin=False,
        stdout=True,
        stderr=True,
        tty=False,
        _preload_content=False,
    )
    try:
        conversation.run_forever(timeout=_EXEC_SECONDS)
        return str(conversation.read_stdout(timeout=0) or "")
    finally:
        conversation.close()


def _await_end(task: KubernetesPodOperator, pod: dict[str, Any]) -> dict[str, Any]:
    """The pod when all of it has ended; when nothing but others' sidecars runs, it is not waited for."""
    while True:
        current = _read(task, pod)
        if _phase(current) in ("Failed", "Succeeded") or not task.do_xcom_push:
            return current
        base = _terminated(task, current)
        if base is not None and base["exitCode"] != 0:
            return current  # the sidecar waits for a file that never comes
        time.sleep(POLL_SECONDS)


def _judge(task: KubernetesPodOperator, pod: dict[str, Any], base: dict[str, Any]) -> None:
    code = base["exitCode"]
    if code in task.skip_on_exit_code:
        raise AirflowSkipException(f"Pod {pod['metadata']['name']} returned exit code {code}. Skipping.")
    if code != 0 or _phase(pod) == "Failed":
        reason = " ".join(str(base[key]) for key in ("reason", "message") if base.get(key))
        raise AirflowException(f"Pod {pod['metadata']['name']} returned a failure (exit code {code}). {reason}".strip())


def _clean_up(task: KubernetesPodOperator) -> None:
    """Delete the pod as on_finish_action says; what goes wrong with that does not change the result."""
    action, pod = str(task.on_finish_action), task.pod
    try:
        if action == "keep_pod":
            return
        if action != "delete_pod":
            current = _read(task, pod)
            ended = _terminated(task, current)
            succeeded = ended is not None and ended["exitCode"] == 0 and _phase(current) != "Failed"
            if not (succeeded if action == "delete_succeeded_pod" else ended is None):
                return
        delete_pod(task, pod)
    except Exception:
        task.log.exception("the pod %s could not be deleted", pod["metadata"]["name"])
