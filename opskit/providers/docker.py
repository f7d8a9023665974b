"""Docker: DockerHook and DockerOperator, over the library docker (`opskit[docker]`)."""

from __future__ import annotations

import os
from collections.abc import Container, Iterable, Sequence
from functools import cached_property
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

from opskit.core.dag.base_operator import BaseOperator
from opskit.core.dag.exceptions import AirflowException, AirflowSkipException
from opskit.core.dag.hooks.base import BaseHook
from opskit.errors import DagInvalid
from opskit.providers.optional import library

DEFAULT_SECONDS = 60
DEFAULT_URL = "unix:///var/run/docker.sock"
_REMOVALS = ("never", "success", "force")


class DockerContainerFailedException(AirflowException):
    """The container ended with a code other than 0; `logs` are its lines."""

    def __init__(self, message: str, logs: list[str] | None = None) -> None:
        super().__init__(message)
        self.logs = logs


class DockerContainerFailedSkipException(AirflowSkipException):
    """The container ended with one of skip_on_exit_code."""

    def __init__(self, message: str, logs: list[str] | None = None) -> None:
        super().__init__(message)
        self.logs = logs


class DockerHook(BaseHook):
    """A Docker engine: the first of `base_url` that answers. The connection, where one is named, is a login at a
    registry: host and port, login, password; extras `email`, `reauth`."""

    conn_name_attr: ClassVar[str] = "docker_conn_id"
    default_conn_name: ClassVar[str] = "docker_default"
    conn_type: ClassVar[str] = "docker"
    hook_name: ClassVar[str] = "Docker"

    def __init__(
        self,
        docker_conn_id: str | None = default_conn_name,
        base_url: str | list[str] | None = None,
        version: str | None = None,
        tls: Any = None,
        timeout: int = DEFAULT_SECONDS,
    ) -> None:
        super().__init__()
        self.docker_conn_id = docker_conn_id
        self.base_url = [base_url] if isinstance(base_url, str) else list(base_url or [DEFAULT_URL])
        self.version = version or "auto"
        self.tls = tls or False
        self.timeout = timeout

    @staticmethod
    def construct_tls_config(
        ca_cert: str | None = None,
        client_cert: str | None = None,
        client_key: str | None = None,
        verify: bool = True,
        assert_hostname: str | bool | None = None,  # noqa: ARG004 -- newer versions of the library have neither
        ssl_version: str | None = None,  # noqa: ARG004
    ) -> Any:
        """The TLS settings, or False when there is nothing to verify with."""
        if not (ca_cert and client_cert and client_key):
            return False
        docker = library("docker", extra="docker", needed_by="DockerHook")
        return docker.tls.TLSConfig(ca_cert=ca_cert, client_cert=(client_cert, client_key), verify=verify)

    @cached_property
    def api_client(self) -> Any:
        """`docker.APIClient`, logged in where there is a connection. AirflowException when no engine answers."""
        docker = library("docker", extra="docker", needed_by="DockerHook")
        errors: list[str] = []
        for url in self.base_url:
            if self.tls and url.startswith("tcp://"):
                url = "https://" + url.removeprefix("tcp://")
            try:
                client = docker.APIClient(base_url=url, version=self.version, tls=self.tls, timeout=self.timeout)
            except docker.errors.DockerException as error:
                errors.append(f"{url}: {error}")
                continue
            if self.docker_conn_id:
                self._login(client)
            return client
        raise AirflowException(f"Failed to establish connection to any given Docker hosts. {'; '.join(errors)}")

    def _login(self, client: Any) -> None:
        conn = self.get_connection(str(self.docker_conn_id))
        if not conn.host:
            raise AirflowException(f"connection {conn.conn_id}: the host, a Docker registry, is missing")
        if not conn.login:
            raise AirflowException(f"connection {conn.conn_id}: the login is missing")
        extra = conn.extra_dejson
        client.login(
            username=conn.login,
            password=conn.password,
            registry=f"{conn.host}:{conn.port}" if conn.port else conn.host,
            email=extra.get("email"),
            reauth=str(extra.get("reauth", True)).lower() != "false",
        )

    def get_conn(self) -> Any:
        return self.api_client

    def test_connection(self) -> tuple[bool, str]:
        try:
            self.api_client.ping()
        except Exception as error:  # noqa: BLE001 -- whatever goes wrong is the answer
            return False, str(error)
        return True, "Connection successfully tested"


class DockerOperator(BaseOperator):
    """Run a command in a new container. Its last line (xcom_all: all of them) is pushed, or, with retrieve_output, what
    it pickled into the file `retrieve_output_path`. Code 0: success, `skip_on_exit_code`: skipped, any other: failed.

    `auto_remove`: never, success (when it has ended) or force. `mounts`: docker.types.Mount or dicts of its arguments;
    with mount_tmp_dir a new folder of this host is at `tmp_dir`. `private_environment` is not rendered or shown."""

    template_fields: Sequence[str] = (
        "image", "command", "environment", "env_file", "container_name", "mounts", "docker_conn_id",
    )  # fmt: skip
    template_fields_renderers: ClassVar[dict[str, str]] = {"env_file": "yaml"}
    template_ext: Sequence[str] = (".sh", ".bash", ".env")

    def __init__(
        self,
        *,
        image: str,
        api_version: str | None = None,
        command: str | list[str] | None = None,
        container_name: str | None = None,
        cpus: float = 1.0,
        docker_url: str | list[str] | None = None,
        environment: dict[str, Any] | None = None,
        private_environment: dict[str, Any] | None = None,
        env_file: str | None = None,
        force_pull: bool = False,
        mem_limit: float | str | None = None,
        host_tmp_dir: str | None = None,
        network_mode: str | None = None,
        tls_ca_cert: str | None = None,
        tls_client_cert: str | None = None,
        tls_client_key: str | None = None,
        tls_verify: bool = True,
        tls_hostname: str | bool | None = None,
        tls_ssl_version: str | None = None,
        mount_tmp_dir: bool = True,
        tmp_dir: str = "/tmp/airflow",  # noqa: S108 -- in the container
        user: str | int | None = None,
        mounts: list[Any] | None = None,
        volumes: list[str] | None = None,
        entrypoint: str | list[str] | None = None,
        working_dir: str | None = None,
        xcom_all: bool = False,
        docker_conn_id: str | None = None,
        dns: list[str] | None = None,
        dns_search: list[str] | None = None,
        auto_remove: bool | str = "never",
        shm_size: int | None = None,
        tty: bool = False,
        hostname: str | None = None,
        privileged: bool = False,
        cap_add: Iterable[str] | None = None,
        extra_hosts: dict[str, str] | None = None,
        retrieve_output: bool = False,
        retrieve_output_path: str | None = None,
        timeout: int = DEFAULT_SECONDS,
        device_requests: list[Any] | None = None,
        log_opts_max_size: str | None = None,
        log_opts_max_file: str | None = None,
        ipc_mode: str | None = None,
        skip_exit_code: int | Container[int] | None = None,
        skip_on_exit_code: int | Container[int] | None = None,
        port_bindings: dict[Any, Any] | None = None,
        ulimits: list[Any] | None = None,
        labels: dict[str, str] | list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if isinstance(auto_remove, bool):  # Airflow up to 2.5
            auto_remove = "success" if auto_remove else "never"
        if auto_remove not in _REMOVALS:
            raise DagInvalid(f"task {self.task_id}: auto_remove is {auto_remove!r}, choose never, success or force")
        if port_bindings and network_mode == "host":
            raise DagInvalid(f"task {self.task_id}: port_bindings have no meaning in the network of the host")
        self.image = image
        self.api_version = api_version
        self.command = command
        self.container_name = container_name
        self.cpus = cpus
        self.docker_url = docker_url or os.environ.get("DOCKER_HOST") or DEFAULT_URL
        self.environment = environment or {}
        self._private_environment = private_environment or {}
        self.env_file = env_file
        self.force_pull = force_pull
        self.mem_limit = mem_limit
        self.host_tmp_dir = host_tmp_dir
        self.network_mode = network_mode
        self.tls_ca_cert = tls_ca_cert
        self.tls_client_cert = tls_client_cert
        self.tls_client_key = tls_client_key
        self.tls_verify = tls_verify
        self.tls_hostname = tls_hostname
        self.tls_ssl_version = tls_ssl_version
        self.mount_tmp_dir = mount_tmp_dir
        self.tmp_dir = tmp_dir
        self.user = user
        self.mounts = mounts or []
        self.volumes = volumes or []
        self.entrypoint = entrypoint
        self.working_dir = working_dir
        self.xcom_all = xcom_all
        self.docker_conn_id = docker_conn_id
        self.dns = dns
        self.dns_search = dns_search
        self.auto_remove = auto_remove
        self.shm_size = shm_size
        self.tty = tty
        self.hostname = hostname
        self.privileged = privileged
        self.cap_add = list(cap_add) if cap_add is not None else None
        self.extra_hosts = extra_hosts
        self.retrieve_output = retrieve_output
        self.retrieve_output_path = retrieve_output_path
        self.timeout = timeout
        self.device_requests = device_requests
        self.log_opts_max_size = log_opts_max_size
        self.log_opts_max_file = log_opts_max_file
        self.ipc_mode = ipc_mode
        codes = skip_on_exit_code if skip_on_exit_code is not None else skip_exit_code
        self.skip_on_exit_code: Container[int] = [] if codes is None else [codes] if isinstance(codes, int) else codes
        self.port_bindings = port_bindings or {}
        self.ulimits = ulimits or []
        self.labels = labels
        self.container: dict[str, Any] = {}
        self._hook: DockerHook | None = None

    @property
    def hook(self) -> DockerHook:
        if self._hook is None:
            self._hook = DockerHook(
                docker_conn_id=self.docker_conn_id,
                base_url=self.docker_url,
                version=self.api_version,
                tls=DockerHook.construct_tls_config(
                    ca_cert=self.tls_ca_cert,
                    client_cert=self.tls_client_cert,
                    client_key=self.tls_client_key,
                    verify=self.tls_verify,
                ),
                timeout=self.timeout,
            )
        return self._hook

    @property
    def cli(self) -> Any:
        return self.hook.api_client

    def execute(self, context: Any) -> Any:
        try:
            return self._run()
        finally:
            hook, self._hook = self._hook, None
            if hook is not None and "api_client" in hook.__dict__:
                hook.api_client.close()

    def _run(self) -> Any:
        from opskit.providers.docker_run import pull, run_container

        if self.force_pull or not self.cli.images(name=self.image):
            pull(self.cli, self.image, self.log)
        if not self.mount_tmp_dir:
            return run_container(self, self.mounts)
        docker = library("docker", extra="docker", needed_by="DockerOperator")
        self.environment = {**self.environment, "AIRFLOW_TMP_DIR": self.tmp_dir}
        with TemporaryDirectory(prefix="airflowtmp", dir=self.host_tmp_dir) as folder:
            try:
                return run_container(self, [*self.mounts, docker.types.Mount(self.tmp_dir, folder, "bind")])
            except docker.errors.APIError as error:
                if folder not in str(error):
                    raise
                self.log.warning(
                    "The Docker engine does not see folders of this host: the container runs without %s (set "
                    "mount_tmp_dir=False to have no such warning)", self.tmp_dir,
                )  # fmt: skip
        del self.environment["AIRFLOW_TMP_DIR"]
        return run_container(self, self.mounts)

    @staticmethod
    def format_command(command: list[str] | str | None) -> list[str] | str | None:
        """The command; a text that is a list of Python's becomes one."""
        if isinstance(command, str) and command.strip().startswith("["):
            import ast

            found: list[str] = ast.literal_eval(command.strip())
            return found
        return command

    @staticmethod
    def unpack_environment_variables(env_str: str) -> dict[str, str]:
        """The variables of an environment file: NAME=value lines, quotes around values taken off."""
        found: dict[str, str] = {}
        for line in env_str.splitlines():
            name, separator, value = line.strip().removeprefix("export ").partition("=")
            if separator and not name.startswith("#"):
                value = value.strip()
                if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
                    value = value[1:-1]
                found[name.strip()] = value
        return found

    def on_kill(self) -> None:
        if self._hook is not None and self.container:
            self.log.info("Stopping docker container")
            self.cli.stop(self.container["Id"])
            if self.auto_remove == "force":
                self.cli.remove_container(self.container["Id"], force=True)
