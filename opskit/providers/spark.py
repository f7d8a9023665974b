"""Spark: SparkSubmitHook and SparkSubmitOperator, over the program spark-submit."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from opskit.core.dag.base_operator import BaseOperator
from opskit.core.dag.connection import Connection
from opskit.core.dag.exceptions import AirflowException, AirflowNotFoundException
from opskit.core.dag.hooks.base import BaseHook

if TYPE_CHECKING:
    import subprocess

BINARIES = ("spark-submit", "spark2-submit", "spark3-submit")
GRACE_SECONDS = 5.0
_SECRET = re.compile(r"(\S*?(?:secret|password|token)\S*?[=\s]\s*['\"]?)([^'\"\s]+)", re.IGNORECASE)
_FLAGS = (
    ("files", "--files"), ("py_files", "--py-files"), ("archives", "--archives"),
    ("driver_class_path", "--driver-class-path"), ("jars", "--jars"), ("packages", "--packages"),
    ("exclude_packages", "--exclude-packages"), ("repositories", "--repositories"),
    ("num_executors", "--num-executors"), ("total_executor_cores", "--total-executor-cores"),
    ("executor_cores", "--executor-cores"), ("executor_memory", "--executor-memory"),
    ("driver_memory", "--driver-memory"), ("keytab", "--keytab"), ("principal", "--principal"),
    ("proxy_user", "--proxy-user"), ("name", "--name"), ("java_class", "--class"),
    ("properties_file", "--properties-file"),
)  # fmt: skip
"""Arguments and the options of spark-submit that they become, in this order."""


class SparkSubmitHook(BaseHook):
    """spark-submit on the cluster of a connection: host (and port) are the master, `yarn` without a connection. Extras:
    queue, deploy-mode, spark-binary, namespace (of Kubernetes). Arguments win."""

    conn_name_attr: ClassVar[str] = "conn_id"
    default_conn_name: ClassVar[str] = "spark_default"
    conn_type: ClassVar[str] = "spark"
    hook_name: ClassVar[str] = "Spark"

    def __init__(
        self,
        conf: dict[str, Any] | None = None,
        conn_id: str = default_conn_name,
        *,
        application_args: Sequence[Any] | None = None,
        env_vars: dict[str, Any] | None = None,
        verbose: bool = False,
        spark_binary: str | None = None,
        yarn_queue: str | None = None,
        deploy_mode: str | None = None,
        status_poll_interval: int = 1,
        name: str = "default-name",
        **options: Any,
    ) -> None:
        """`options` are those of `_FLAGS`. TypeError for any other."""
        super().__init__()
        unknown = sorted(options.keys() - {argument for argument, _ in _FLAGS})
        if unknown:
            raise TypeError(f"SparkSubmitHook has no argument {', '.join(unknown)}")
        self.conf = conf or {}
        self.conn_id = conn_id
        self.application_args = list(application_args or ())
        self.env_vars = env_vars or {}
        self.verbose = verbose
        self.status_poll_interval = status_poll_interval
        self.options = {"name": name, **options}
        self._given = {"queue": yarn_queue, "deploy-mode": deploy_mode, "spark-binary": spark_binary}
        self._process: subprocess.Popen[str] | None = None
        self._yarn_application_id: str | None = None
        self._driver_id: str | None = None

    def _settings(self) -> dict[str, Any]:
        """master, queue, deploy-mode, spark-binary, namespace."""
        try:
            conn = self.get_connection(self.conn_id)
        except AirflowNotFoundException:
            self.log.info("There is no connection %s: the master is yarn", self.conn_id)
            conn = Connection(self.conn_id, host="yarn")
        extra = conn.extra_dejson
        host = conn.host or ""
        # As a URI, the protocol of the master is the connection's type.
        if "://" not in host and conn.port:
            host = f"{conn.conn_type or 'spark'}://{host}"
        elif conn.conn_type and conn.conn_type not in ("spark", "yarn", "local") and "://" not in host:
            host = f"{conn.conn_type}://{host}"
        master = f"{host}:{conn.port}" if conn.port else host or str(conn.conn_type)
        settings: dict[str, Any] = {"master": master, "namespace": extra.get("namespace")}
        for key, given in self._given.items():
            settings[key] = given or extra.get(key)
        settings["spark-binary"] = settings["spark-binary"] or BINARIES[0]
        if os.path.basename(settings["spark-binary"]) not in BINARIES:
            raise AirflowException(
                f"the program {settings['spark-binary']!r} is refused: spark-binary can be {', '.join(BINARIES)}"
            )
        return settings

    def build_command(self, application: str, settings: dict[str, Any]) -> list[str]:
        """The command line."""
        master, mode = settings["master"], settings["deploy-mode"]
        command = [settings["spark-binary"], "--master", master]
        conf = dict(self.conf)
        for key, value in self.env_vars.items():
            if master.startswith("yarn"):
                conf[f"spark.yarn.appMasterEnv.{key}"] = value
            elif "k8s" in master:
                conf[f"spark.kubernetes.driverEnv.{key}"] = value
            elif mode == "cluster":
                raise AirflowException("SparkSubmitHook env_vars is not supported in standalone-cluster mode.")
        if "k8s" in master and settings["namespace"]:
            conf["spark.kubernetes.namespace"] = settings["namespace"]
        for key, value in conf.items():
            command += ["--conf", f"{key}={value}"]
        for argument, option in _FLAGS:
            value = self.options.get(argument)
            if value not in (None, ""):
                command += [option, str(value)]
        if self.verbose:
            command.append("--verbose")
        if settings["queue"]:
            command += ["--queue", settings["queue"]]
        if mode:
            command += ["--deploy-mode", mode]
        command.append(application)
        return command + [str(argument) for argument in self.application_args]

    def submit(self, application: str = "", **kwargs: Any) -> None:
        """Run it until it ends. AirflowException with its code when it fails, and when its driver does."""
        settings = self._settings()
        command = self.build_command(application, settings)
        shown = _masked(" ".join(command))
        self.log.info("Spark-Submit cmd: %s", shown)
        env = {**os.environ, **{key: str(value) for key, value in self.env_vars.items()}}
        code = self._run(command, env, **kwargs)
        standalone_cluster = settings["master"].startswith("spark://") and settings["deploy-mode"] == "cluster"
        if code:
            raise AirflowException(f"Cannot execute: {shown}. Error code is: {code}.")
        if standalone_cluster:
            self._follow_driver(settings)

    def _run(self, command: list[str], env: dict[str, str], **kwargs: Any) -> int:
        import subprocess

        try:
            process = self._process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="backslashreplace",
                env=env, start_new_session=True, **kwargs,
            )  # fmt: skip
        except FileNotFoundError:
            raise AirflowException(
                f"the program {command[0]} is not on PATH: install Spark on the hosts of the workers"
            ) from None
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                self._notice(line)
                self.log.info("%s", _masked(line.rstrip()))
        return process.wait()

    def _notice(self, line: str) -> None:
        """Keep the ids by which what was submitted is found again."""
        found = re.search(r"application_\d+_\d+", line)
        if found:
            self._yarn_application_id = found.group()
        found = re.search(r"driver-\d+-\d+", line)
        if found:
            self._driver_id = found.group()

    def _follow_driver(self, settings: dict[str, Any]) -> None:
        """Ask how the driver does until it has ended: in this mode spark-submit does not wait for it."""
        import subprocess

        if self._driver_id is None:
            raise AirflowException(
                "No driver id is known: something went wrong when executing the spark submit command"
            )
        command = [settings["spark-binary"], "--master", settings["master"], "--status", self._driver_id]
        missed = 0
        while True:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            text = done.stdout + done.stderr
            found = re.search(r'"?driverState"?\s*:\s*"?(\w+)', text) or re.search(
                r"State of driver-\S+ is (\w+)", text
            )
            state = (found.group(1) or found.group(2)).upper() if found else ""
            self.log.info("Driver %s: %s", self._driver_id, state or text.strip())
            if state == "FINISHED":
                return
            if state in ("FAILED", "KILLED", "ERROR", "UNKNOWN"):
                raise AirflowException(f"ERROR : Driver {self._driver_id} badly exited with status {state}")
            missed = 0 if state else missed + 1
            if missed >= 10:
                raise AirflowException(f"Failed to poll for the driver status {missed} times: {text.strip()}")
            time.sleep(self.status_poll_interval)

    def on_kill(self) -> None:
        """End the program, and what it has started on the cluster as far as it is known."""
        import signal
        import subprocess

        process = self._process
        if process is not None and process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        command: list[str] = []
        if self._yarn_application_id:
            command = ["yarn", "application", "-kill", self._yarn_application_id]
        elif self._driver_id:
            settings = self._settings()
            command = [settings["spark-binary"], "--master", settings["master"], "--kill", self._driver_id]
        if command:
            self.log.info("Killing it on the cluster: %s", " ".join(command))
            subprocess.run(command, capture_output=True, check=False)


class SparkSubmitOperator(BaseOperator):
    """Submit an application. The arguments are the options of spark-submit; `conf` becomes `--conf key=value`."""

    template_fields: Sequence[str] = (
        "application", "conf", "files", "py_files", "jars", "driver_class_path", "packages", "exclude_packages",
        "keytab", "principal", "proxy_user", "name", "application_args", "env_vars", "properties_file",
    )  # fmt: skip
    ui_color = "#FF9933"

    def __init__(
        self,
        *,
        application: str = "",
        conf: dict[str, Any] | None = None,
        conn_id: str = "spark_default",
        files: str | None = None,
        py_files: str | None = None,
        archives: str | None = None,
        driver_class_path: str | None = None,
        jars: str | None = None,
        java_class: str | None = None,
        packages: str | None = None,
        exclude_packages: str | None = None,
        repositories: str | None = None,
        total_executor_cores: int | None = None,
        executor_cores: int | None = None,
        executor_memory: str | None = None,
        driver_memory: str | None = None,
        keytab: str | None = None,
        principal: str | None = None,
        proxy_user: str | None = None,
        name: str = "arrow-spark",
        num_executors: int | None = None,
        status_poll_interval: int = 1,
        application_args: list[Any] | None = None,
        env_vars: dict[str, Any] | None = None,
        verbose: bool = False,
        spark_binary: str | None = None,
        properties_file: str | None = None,
        yarn_queue: str | None = None,
        deploy_mode: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.application = application
        self.conf = conf
        self.conn_id = conn_id
        self.files = files
        self.py_files = py_files
        self.archives = archives
        self.driver_class_path = driver_class_path
        self.jars = jars
        self.java_class = java_class
        self.packages = packages
        self.exclude_packages = exclude_packages
        self.repositories = repositories
        self.total_executor_cores = total_executor_cores
        self.executor_cores = executor_cores
        self.executor_memory = executor_memory
        self.driver_memory = driver_memory
        self.keytab = keytab
        self.principal = principal
        self.proxy_user = proxy_user
        self.name = name
        self.num_executors = num_executors
        self.status_poll_interval = status_poll_interval
        self.application_args = application_args
        self.env_vars = env_vars
        self.verbose = verbose
        self.spark_binary = spark_binary
        self.properties_file = properties_file
        self.yarn_queue = yarn_queue
        self.deploy_mode = deploy_mode
        self._hook: SparkSubmitHook | None = None

    def _get_hook(self) -> SparkSubmitHook:
        return SparkSubmitHook(
            conf=self.conf,
            conn_id=self.conn_id,
            application_args=self.application_args,
            env_vars=self.env_vars,
            verbose=self.verbose,
            spark_binary=self.spark_binary,
            yarn_queue=self.yarn_queue,
            deploy_mode=self.deploy_mode,
            status_poll_interval=self.status_poll_interval,
            **{argument: getattr(self, argument) for argument, _ in _FLAGS},
        )

    def execute(self, context: Any) -> None:
        self._hook = self._get_hook()
        self._hook.submit(self.application)

    def on_kill(self) -> None:
        if self._hook is not None:
            self._hook.on_kill()


def _masked(text: str) -> str:
    """The text without what looks like a secret's value."""
    return _SECRET.sub(r"\1******", text)
