"""KubernetesHook: clients of a cluster's API."""

from __future__ import annotations

import json
from functools import cached_property
from typing import Any, ClassVar

from opskit.core.dag.connection import Connection
from opskit.core.dag.exceptions import AirflowException, AirflowNotFoundException
from opskit.core.dag.hooks.base import BaseHook
from opskit.providers.optional import library


class KubernetesHook(BaseHook):
    """A cluster: by a kubeconfig (`config_file`, `config_dict`, or the default one) with `cluster_context`, or from
    inside of it (`in_cluster`). The connection's extras: in_cluster, kube_config_path, kube_config (its content),
    cluster_context, namespace. Arguments win."""

    conn_name_attr: ClassVar[str] = "kubernetes_conn_id"
    default_conn_name: ClassVar[str] = "kubernetes_default"
    conn_type: ClassVar[str] = "kubernetes"
    hook_name: ClassVar[str] = "Kubernetes Cluster Connection"

    def __init__(
        self,
        conn_id: str | None = None,
        kubernetes_conn_id: str | None = default_conn_name,
        client_configuration: Any = None,
        cluster_context: str | None = None,
        config_file: str | None = None,
        config_dict: dict[str, Any] | None = None,
        in_cluster: bool | None = None,
        **_: Any,
    ) -> None:
        super().__init__()
        self.conn_id = conn_id or kubernetes_conn_id
        self.client_configuration = client_configuration
        self.cluster_context = cluster_context
        self.config_file = config_file
        self.config_dict = config_dict
        self.in_cluster = in_cluster

    @cached_property
    def conn_extras(self) -> dict[str, Any]:
        """The extras; none without a connection, where its id is the default one."""
        if not self.conn_id:
            return {}
        try:
            found = self.get_connection(self.conn_id).extra_dejson
        except AirflowNotFoundException:
            if self.conn_id != self.default_conn_name:
                raise
            found = Connection().extra_dejson
        # Airflow's forms write the long names.
        return {name.removeprefix("extra__kubernetes__"): value for name, value in found.items()}

    @property
    def core_v1_client(self) -> Any:
        return library("kubernetes.client", extra="kubernetes", needed_by="KubernetesHook").CoreV1Api(self.api_client)

    @property
    def batch_v1_client(self) -> Any:
        return library("kubernetes.client", extra="kubernetes", needed_by="KubernetesHook").BatchV1Api(self.api_client)

    @property
    def custom_object_client(self) -> Any:
        client = library("kubernetes.client", extra="kubernetes", needed_by="KubernetesHook")
        return client.CustomObjectsApi(self.api_client)

    @cached_property
    def api_client(self) -> Any:
        """`kubernetes.client.ApiClient`. AirflowException when there is no configuration, or more than one."""
        client = library("kubernetes.client", extra="kubernetes", needed_by="KubernetesHook")
        config = library("kubernetes.config", extra="kubernetes", needed_by="KubernetesHook")
        if self.client_configuration is not None:
            return client.ApiClient(configuration=self.client_configuration)
        extra = self.conn_extras
        inside = self.in_cluster if self.in_cluster is not None else _flag(extra.get("in_cluster"))
        context = self.cluster_context or extra.get("cluster_context") or None
        path = self.config_file or extra.get("kube_config_path") or None
        content = self.config_dict or extra.get("kube_config") or None
        if [bool(inside), path is not None, content is not None].count(True) > 1:
            raise AirflowException(
                "Invalid connection configuration. Options kube_config_path, kube_config, in_cluster are mutually "
                "exclusive. You can only use one option at a time."
            )
        made = client.Configuration()
        try:
            if inside:
                config.load_incluster_config(client_configuration=made)
            elif content is not None:
                data = json.loads(content) if isinstance(content, str) else content
                config.load_kube_config_from_dict(data, context=context, client_configuration=made)
            else:
                config.load_kube_config(path, context=context, client_configuration=made)
        except config.ConfigException as error:
            raise AirflowException(f"there is no configuration for a Kubernetes cluster: {error}") from error
        return client.ApiClient(configuration=made)

    def get_conn(self) -> Any:
        return self.api_client

    def get_namespace(self) -> str | None:
        """The namespace that the connection names."""
        found = self.conn_extras.get("namespace")
        return str(found) if found else None

    def get_pod(self, name: str, namespace: str) -> Any:
        return self.core_v1_client.read_namespaced_pod(name=name, namespace=namespace)

    def get_pod_logs(self, pod_name: str, container: str | None = "", namespace: str | None = None) -> str:
        return str(
            self.core_v1_client.read_namespaced_pod_log(
                name=pod_name, container=container, namespace=namespace or self.get_namespace() or "default"
            )
        )

    def get_namespaced_pod_list(self, label_selector: str | None = "", namespace: str | None = None, **kw: Any) -> Any:
        return self.core_v1_client.list_namespaced_pod(
            namespace=namespace or self.get_namespace() or "default", label_selector=label_selector, **kw
        )

    def test_connection(self) -> tuple[bool, str]:
        try:
            self.core_v1_client.list_namespaced_pod(namespace=self.get_namespace() or "default", limit=1)
        except Exception as error:  # noqa: BLE001 -- whatever goes wrong is the answer
            return False, str(error)
        return True, "Connection successfully tested"


def _flag(value: Any) -> bool:
    return str(value).lower() == "true"
