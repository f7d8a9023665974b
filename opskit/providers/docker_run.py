"""One container from its creation to its result."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from opskit.core.dag.exceptions import AirflowException
from opskit.providers.optional import library

if TYPE_CHECKING:
    from opskit.providers.docker import DockerOperator


def pull(client: Any, image: str, log: logging.Logger) -> None:
    """Fetch an image, and log what changes on the way. AirflowException when the engine can't."""
    log.info("Pulling docker image %s", image)
    seen: dict[str, str] = {}
    for message in client.pull(image, stream=True, decode=True):
        if "error" in message:
            raise AirflowException(f"the image {image} can't be pulled: {message['error']}")
        status, part = message.get("status", ""), message.get("id", "")
        if seen.get(part) != status:
            seen[part] = status
            log.info("%s", f"{part}: {status}" if part else status)


def run_container(task: DockerOperator, mounts: list[Any]) -> Any:
    """What is pushed as XCom."""
    from opskit.providers.docker import DockerContainerFailedException, DockerContainerFailedSkipException

    client = task.cli
    task.container = client.create_container(
        command=task.format_command(task.command),
        name=task.container_name,
        environment=_environment(task),
        ports=list(task.port_bindings),
        host_config=_host_config(task, mounts),
        image=task.image,
        user=task.user,
        entrypoint=task.format_command(task.entrypoint),
        working_dir=task.working_dir,
        tty=task.tty,
        hostname=task.hostname,
        labels=task.labels,
    )
    container = task.container["Id"]
    try:
        stream = client.attach(container=container, stdout=True, stderr=True, stream=True)
        client.start(container)
        lines: list[str] = []
        for chunk in stream:
            text = _text(chunk)
            lines.append(text)
            for line in text.split("\n"):
                task.log.info("%s", line)
        result = client.wait(container)
        code = result["StatusCode"]
        if code in task.skip_on_exit_code:
            raise DockerContainerFailedSkipException(f"Docker container returned exit code {code}. Skipping.", lines)
        if code != 0:
            raise DockerContainerFailedException(f"Docker container failed: {result!r}", lines)
        if task.retrieve_output:
            return _pickled(client, container, task.retrieve_output_path)
        if not task.do_xcom_push:
            return None
        tail = {} if task.xcom_all else {"tail": 1}
        logged = [_text(line) for line in client.logs(container, stdout=True, stderr=True, stream=True, **tail)]
        return logged if task.xcom_all else logged[-1] if logged else None
    finally:
        if task.auto_remove != "never":
            client.remove_container(container, force=task.auto_remove == "force")


def _environment(task: DockerOperator) -> dict[str, Any]:
    from_file = task.unpack_environment_variables(task.env_file) if task.env_file else {}
    return {**from_file, **task.environment, **task._private_environment}


def _host_config(task: DockerOperator, mounts: list[Any]) -> Any:
    docker = library("docker", extra="docker", needed_by="DockerOperator")
    options = {"max-size": task.log_opts_max_size, "max-file": task.log_opts_max_file}
    options = {name: value for name, value in options.items() if value is not None}
    return task.cli.create_host_config(
        auto_remove=False,  # its result is read when it has ended
        mounts=[docker.types.Mount(**mount) if _is_arguments(mount) else mount for mount in mounts],
        binds=task.volumes or None,
        network_mode=task.network_mode,
        shm_size=task.shm_size,
        dns=task.dns,
        dns_search=task.dns_search,
        cpu_shares=round(task.cpus * 1024),
        port_bindings=task.port_bindings,
        mem_limit=task.mem_limit,
        cap_add=task.cap_add,
        extra_hosts=task.extra_hosts,
        privileged=task.privileged,
        device_requests=task.device_requests,
        log_config=docker.types.LogConfig(config=options) if options else None,
        ipc_mode=task.ipc_mode,
        ulimits=task.ulimits,
    )


def _is_arguments(mount: Any) -> bool:
    """Whether it is a dict of Mount's arguments; a Mount is a dict, too, with other keys."""
    return type(mount) is dict and "target" in mount


def _text(chunk: str | bytes) -> str:
    return (chunk.decode("utf-8", "backslashreplace") if isinstance(chunk, bytes) else chunk).strip()


def _pickled(client: Any, container: str, path: str | None) -> Any:
    """What the container pickled into a file; None when it wrote none."""
    import io
    import pickle
    import tarfile

    docker = library("docker", extra="docker", needed_by="DockerOperator")
    try:
        stream, _ = client.get_archive(container, path)
    except docker.errors.NotFound:
        return None
    with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as archive:
        member = archive.next()
        file = archive.extractfile(member) if member is not None else None
        # The container runs what the DAG's author named: it is as trusted as the DAG file.
        return None if file is None else pickle.loads(file.read())  # noqa: S301
