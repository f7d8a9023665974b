"""`@task.sftp_sensor`: a function that is called when a file has come to a host."""

from __future__ import annotations

from collections.abc import Sequence

from opskit.core.dag.decorated import _Bound
from opskit.providers.sftp import SFTPSensor


class _DecoratedSFTPSensor(_Bound, SFTPSensor):
    """With arguments, it gets the paths as `files_found` besides."""

    template_fields: Sequence[str] = (*SFTPSensor.template_fields, "op_args", "op_kwargs")
    custom_operator_name = "@task.sftp_sensor"
