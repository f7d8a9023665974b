"""KubernetesPodOperator: a pod as a task."""

from __future__ import annotations

import json
import secrets as random
from collections.abc import Container, Iterable, Sequence
from enum import StrEnum
from typing import Any, ClassVar

from opskit.core.dag.base_operator import BaseOperator
from opskit.core.dag.exceptions import AirflowException
from opskit.errors import DagInvalid
from opskit.providers.kubernetes.hook import KubernetesHook
from opskit.providers.kubernetes.objects import Secret, merged, plain

XCOM_CONTAINER = "airflow-xcom-sidecar"
XCOM_PATH = "/airflow/xcom"
_WITHOUT_MEANING = (
    "base_container_status_polling_interval", "durable", "init_container_logs", "logging_interval", "poll_interval",
    "schedule_timeout_seconds", "startup_check_interval_seconds", "termination_message_policy", "trigger_kwargs",
)  # fmt: skip
"""Arguments of Airflow's that say how it looks and waits: they change no result."""


class OnFinishAction(StrEnum):
    """What becomes of the pod when the task has ended."""

    KEEP_POD = "keep_pod"
    DELETE_POD = "delete_pod"
    DELETE_SUCCEEDED_POD = "delete_succeeded_pod"
    DELETE_ACTIVE_POD = "delete_active_pod"


class PodPhase:
    """Phases of a pod."""

    PENDING = "Pending"
    RUNNING = "Running"
    FAILED = "Failed"
    SUCCEEDED = "Succeeded"
    terminal_states: ClassVar[set[str]] = {FAILED, SUCCEEDED}


class KubernetesPodOperator(BaseOperator):
    """Make a pod, follow its log, and succeed when it does. With do_xcom_push the JSON that it writes to
    `/airflow/xcom/return.json` is pushed. `skip_on_exit_code` of the main container skips the task.

    Objects of Kubernetes are models of its library, or dicts with the API's names. `full_pod_spec` and
    `pod_template_file` (YAML) or `pod_template_dict` are pods that the arguments are put over."""

    template_fields: Sequence[str] = (
        "image", "name", "hostname", "cmds", "annotations", "arguments", "env_vars", "labels", "config_file",
        "pod_template_file", "pod_template_dict", "namespace", "container_resources", "volumes", "volume_mounts",
        "cluster_context", "env_from", "configmaps", "node_selector", "kubernetes_conn_id", "base_container_name",
        "trigger_kwargs",
    )  # fmt: skip
    template_fields_renderers: ClassVar[dict[str, str]] = {"env_vars": "py"}
    BASE_CONTAINER_NAME = "base"

    def __init__(
        self,
        *,
        kubernetes_conn_id: str | None = KubernetesHook.default_conn_name,
        namespace: str | None = None,
        image: str | None = None,
        name: str | None = None,
        random_name_suffix: bool = True,
        cmds: list[str] | str | None = None,
        arguments: list[str] | str | None = None,
        ports: list[Any] | None = None,
        volume_mounts: list[Any] | None = None,
        volumes: list[Any] | None = None,
        env_vars: list[Any] | dict[str, Any] | None = None,
        env_from: list[Any] | None = None,
        configmaps: list[str] | None = None,
        secrets: list[Secret] | None = None,
        in_cluster: bool | None = None,
        cluster_context: str | None = None,
        config_file: str | None = None,
        labels: dict[str, str] | None = None,
        annotations: dict[str, str] | None = None,
        reattach_on_restart: bool | None = True,
        startup_timeout_seconds: int = 120,
        get_logs: bool = True,
        container_logs: Iterable[str] | str | bool | None = None,
        base_container_name: str | None = None,
        image_pull_policy: str | None = None,
        image_pull_secrets: list[Any] | str | None = None,
        container_resources: Any = None,
        resources: Any = None,
        affinity: Any = None,
        node_selector: dict[str, str] | None = None,
        node_selectors: dict[str, str] | None = None,
        tolerations: list[Any] | None = None,
        service_account_name: str | None = None,
        automount_service_account_token: bool | None = None,
        hostnetwork: bool = False,
        host_aliases: list[Any] | None = None,
        hostname: str | None = None,
        subdomain: str | None = None,
        dnspolicy: str | None = None,
        dns_config: Any = None,
        schedulername: str | None = None,
        priority_class_name: str | None = None,
        runtime_class_name: str | None = None,
        active_deadline_seconds: int | None = None,
        security_context: Any = None,
        container_security_context: Any = None,
        xcom_sidecar_container_image: str = "alpine:3.20",
        xcom_sidecar_container_resources: Any = None,
        xcom_sidecar_container_security_context: Any = None,
        init_containers: list[Any] | None = None,
        full_pod_spec: Any = None,
        pod_template_file: str | None = None,
        pod_template_dict: dict[str, Any] | None = None,
        do_xcom_push: bool = False,
        on_finish_action: str | None = None,
        is_delete_operator_pod: bool | None = None,
        termination_grace_period: int | None = None,
        skip_on_exit_code: int | Container[int] | None = None,
        deferrable: bool = False,
        **kwargs: Any,
    ) -> None:
        for argument in _WITHOUT_MEANING:
            kwargs.pop(argument, None)
        super().__init__(do_xcom_push=do_xcom_push, **kwargs)
        self.kubernetes_conn_id = kubernetes_conn_id
        self.namespace = namespace
        self.image = image
        self.name = name
        self.random_name_suffix = random_name_suffix
        self.cmds = _words(cmds)
        self.arguments = _words(arguments)
        self.ports = ports or []
        self.volume_mounts = volume_mounts or []
        self.volumes = volumes or []
        self.env_vars = env_vars or []
        self.env_from = env_from or []
        self.configmaps = configmaps or []
        self.secrets = secrets or []
        self.in_cluster = in_cluster
        self.cluster_context = cluster_context
        self.config_file = config_file
        self.labels = labels or {}
        self.annotations = annotations or {}
        self.reattach_on_restart = reattach_on_restart
        self.startup_timeout_seconds = startup_timeout_seconds
        self.get_logs = get_logs
        self.container_logs = container_logs
        self.base_container_name = base_container_name or self.BASE_CONTAINER_NAME
        self.image_pull_policy = image_pull_policy
        self.image_pull_secrets = image_pull_secrets
        self.container_resources = container_resources if container_resources is not None else resources
        self.affinity = affinity
        self.node_selector = node_selector or node_selectors or {}
        self.tolerations = tolerations or []
        self.service_account_name = service_account_name
        self.automount_service_account_token = automount_service_account_token
        self.hostnetwork = hostnetwork
        self.host_aliases = host_aliases
        self.hostname = hostname
        self.subdomain = subdomain
        self.dnspolicy = dnspolicy
        self.dns_config = dns_config
        self.schedulername = schedulername
        self.priority_class_name = priority_class_name
        self.runtime_class_name = runtime_class_name
        self.active_deadline_seconds = active_deadline_seconds
        self.security_context = security_context
        self.container_security_context = container_security_context
        self.xcom_sidecar_container_image = xcom_sidecar_container_image
        self.xcom_sidecar_container_resources = xcom_sidecar_container_resources
        self.xcom_sidecar_container_security_context = xcom_sidecar_container_security_context
        self.init_containers = init_containers or []
        self.full_pod_spec = full_pod_spec
        self.pod_template_file = pod_template_file
        self.pod_template_dict = pod_template_dict
        if is_delete_operator_pod is not None and on_finish_action is None:
            on_finish_action = "delete_pod" if is_delete_operator_pod else "keep_pod"
        try:
            self.on_finish_action = OnFinishAction(str(on_finish_action or "delete_pod"))
        except ValueError:
            raise DagInvalid(
                f"task {self.task_id}: on_finish_action is {on_finish_action!r}, choose {', '.join(OnFinishAction)}"
            ) from None
        self.termination_grace_period = termination_grace_period
        self.skip_on_exit_code: Container[int] = (
            [] if skip_on_exit_code is None else [skip_on_exit_code] if isinstance(skip_on_exit_code, int)
            else skip_on_exit_code
        )  # fmt: skip
        self.deferrable = deferrable
        self.trigger_kwargs: dict[str, Any] | None = None
        self.pod: Any = None
        self._hook: KubernetesHook | None = None

    @property
    def hook(self) -> KubernetesHook:
        if self._hook is None:
            self._hook = KubernetesHook(
                conn_id=self.kubernetes_conn_id,
                in_cluster=self.in_cluster,
                config_file=self.config_file,
                cluster_context=self.cluster_context,
            )
        return self._hook

    @property
    def client(self) -> Any:
        return self.hook.core_v1_client

    def execute(self, context: Any) -> Any:
        from opskit.providers.kubernetes.pod_run import run_pod

        return run_pod(self, context)

    def on_kill(self) -> None:
        from opskit.providers.kubernetes.pod_run import delete_pod

        if self.pod is not None:
            delete_pod(self, self.pod)

    def build_pod_request_obj(self, context: Any = None) -> dict[str, Any]:
        """The pod as the API takes it."""
        name = _pod_name(self.name or f"{self.dag_id}-{self.task_id}", self.random_name_suffix)
        spec = {
            "affinity": plain(self.affinity),
            "tolerations": plain(self.tolerations),
            "nodeSelector": self.node_selector,
            "serviceAccountName": self.service_account_name,
            "automountServiceAccountToken": self.automount_service_account_token,
            "hostNetwork": self.hostnetwork or None,
            "hostAliases": plain(self.host_aliases),
            "hostname": self.hostname,
            "subdomain": self.subdomain,
            "dnsPolicy": self.dnspolicy,
            "dnsConfig": plain(self.dns_config),
            "schedulerName": self.schedulername,
            "priorityClassName": self.priority_class_name,
            "runtimeClassName": self.runtime_class_name,
            "activeDeadlineSeconds": self.active_deadline_seconds,
            "imagePullSecrets": _pull_secrets(self.image_pull_secrets),
            "securityContext": plain(self.security_context),
            "initContainers": plain(self.init_containers),
            "volumes": plain(self.volumes),
            "containers": [self._container()],
            "restartPolicy": "Never",
        }
        pod: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": dict(self.labels), "annotations": dict(self.annotations)},
            "spec": {key: value for key, value in spec.items() if value not in (None, [], {})},
        }
        pod = merged(self._template(), pod)
        metadata = pod["metadata"]
        namespace = self.namespace or metadata.get("namespace") or self.hook.get_namespace()
        metadata["namespace"] = namespace or _own_namespace() or "default"
        metadata["labels"] = {**metadata.get("labels", {}), **self.task_labels(context)}
        base = next(item for item in pod["spec"]["containers"] if item["name"] == self.base_container_name)
        if not base.get("image"):
            raise AirflowException(f"task {self.task_id}: `image` of the pod's container is not given")
        pod["spec"]["containers"].sort(key=lambda item: item is not base)
        for number, secret in enumerate(self.secrets):
            secret.attach(pod, f"secretvol{number}")
        if self.do_xcom_push:
            self._add_sidecar(pod)
        return pod

    def task_labels(self, context: Any) -> dict[str, str]:
        """Labels by which the pod of a task instance is found again."""
        labels = {"dag_id": self.dag_id, "task_id": self.task_id, "kubernetes_pod_operator": "True"}
        ti = context.get("ti") if context else None
        if ti is not None:
            labels |= {"run_id": ti.run_id, "try_number": str(ti.try_number), "map_index": str(ti.map_index)}
        return {key: label(value) for key, value in labels.items()}

    def _container(self) -> dict[str, Any]:
        env = [{"name": key, "value": str(value)} for key, value in self.env_vars.items()] if isinstance(
            self.env_vars, dict
        ) else plain(self.env_vars)  # fmt: skip
        found = {
            "name": self.base_container_name,
            "image": self.image,
            "command": self.cmds,
            "args": self.arguments,
            "env": env,
            "envFrom": [*plain(self.env_from), *({"configMapRef": {"name": name}} for name in self.configmaps)],
            "ports": plain(self.ports),
            "volumeMounts": plain(self.volume_mounts),
            "resources": plain(self.container_resources),
            "imagePullPolicy": self.image_pull_policy,
            "securityContext": plain(self.container_security_context),
        }
        return {key: value for key, value in found.items() if value not in (None, [], {})}

    def _template(self) -> dict[str, Any]:
        pod: dict[str, Any] = {}
        if self.pod_template_file:
            from opskit.providers.optional import library

            with open(self.pod_template_file, encoding="utf-8") as file:
                pod = library("yaml", extra="yaml", needed_by="pod_template_file").safe_load(file)
        elif self.pod_template_dict:
            pod = plain(self.pod_template_dict)
        return merged(pod, plain(self.full_pod_spec)) if self.full_pod_spec is not None else pod

    def _add_sidecar(self, pod: dict[str, Any]) -> None:
        mount = {"name": "xcom", "mountPath": XCOM_PATH}
        pod["spec"].setdefault("volumes", []).append({"name": "xcom", "emptyDir": {}})
        pod["spec"]["containers"][0].setdefault("volumeMounts", []).append(mount)
        sidecar = {
            "name": XCOM_CONTAINER,
            "image": self.xcom_sidecar_container_image,
            "command": ["sh", "-c", 'trap "exit 0" INT; while true; do sleep 1; done;'],
            "volumeMounts": [mount],
            "resources": plain(self.xcom_sidecar_container_resources) or {"requests": {"cpu": "1m", "memory": "10Mi"}},
            "securityContext": plain(self.xcom_sidecar_container_security_context),
        }
        pod["spec"]["containers"].append({key: value for key, value in sidecar.items() if value is not None})

    def dry_run(self) -> None:
        """Print the pod that would be made."""
        print(json.dumps(self.build_pod_request_obj(), indent=2))  # noqa: T201 -- that is what it is for


def label(text: str) -> str:
    """A text as the value of a label: 63 letters at most, of those that are allowed; a hash tells that it changed."""
    import hashlib
    import re

    safe = re.sub(r"^[^a-z0-9A-Z]*|[^a-zA-Z0-9_\-.]|[^a-z0-9A-Z]*$", "", text)
    if safe == text and len(safe) <= 63:
        return safe
    digest = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()[:9]
    return f"{safe[: 63 - len(digest) - 1]}-{digest}"


def _pod_name(name: str, suffix: bool) -> str:
    import re

    safe = re.sub(r"[^a-z0-9.-]+", "-", name.lower()).strip("-.") or "pod"
    return f"{safe[:54].rstrip('-.')}-{random.token_hex(4)}" if suffix else safe[:63].rstrip("-.")


def _words(value: list[str] | str | None) -> list[str]:
    return [] if value is None else [value] if isinstance(value, str) else value


def _pull_secrets(value: list[Any] | str | None) -> Any:
    if isinstance(value, str):  # names with commas, in Airflow 1.10
        return [{"name": name.strip()} for name in value.split(",")]
    return plain(value)


def _own_namespace() -> str | None:
    """The namespace that this process runs in, where it runs in a pod."""
    try:
        with open("/var/run/secrets/kubernetes.io/serviceaccount/namespace", encoding="utf-8") as file:
            return file.read().strip() or None
    except OSError:
        return None
