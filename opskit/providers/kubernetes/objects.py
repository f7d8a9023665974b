"""Kubernetes objects as plain data: what DAG files give (models of the library, dicts) and what the API takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from opskit.core.dag.exceptions import AirflowException


def plain(value: Any) -> Any:
    """Models of the library kubernetes as dicts with the API's names, whatever they lie in; None values left out. Dicts
    are taken as the API's already."""
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    names = getattr(type(value), "attribute_map", None)
    if names is not None:
        found = {key: plain(getattr(value, name)) for name, key in names.items()}
        return {key: item for key, item in found.items() if item is not None}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, Iterable):
        return [plain(item) for item in value]
    return str(value)  # times, enumerations


class Secret:
    """A secret of Kubernetes for a pod: as an environment variable (`deploy_type="env"`, `deploy_target` its name;
    None: all keys of the secret), or as a volume (`deploy_target` its path; `items` some of its keys)."""

    template_fields = ("secret", "key")

    def __init__(
        self,
        deploy_type: str,
        deploy_target: str | None,
        secret: str,
        key: str | None = None,
        items: list[Any] | None = None,
    ) -> None:
        if deploy_type not in ("env", "volume"):
            raise AirflowException(f"Invalid Kubernetes Secret type: {deploy_type}, choose env or volume")
        if deploy_type == "env" and deploy_target is not None:
            deploy_target = deploy_target.upper()
        if key is not None and deploy_target is None:
            raise AirflowException("If `key` is set, `deploy_target` should not be None")
        self.deploy_type = deploy_type
        self.deploy_target = deploy_target
        self.secret = secret
        self.key = key
        self.items = items or []

    def attach(self, pod: dict[str, Any], name: str) -> None:
        """Put it into a pod and its first container; `name` is the volume's."""
        container = pod["spec"]["containers"][0]
        if self.deploy_type == "volume":
            source = {"secretName": self.secret, **({"items": plain(self.items)} if self.items else {})}
            pod["spec"].setdefault("volumes", []).append({"name": name, "secret": source})
            container.setdefault("volumeMounts", []).append(
                {"name": name, "mountPath": self.deploy_target, "readOnly": True}
            )
        elif self.deploy_target is None:
            container.setdefault("envFrom", []).append({"secretRef": {"name": self.secret}})
        else:
            reference = {"secretKeyRef": {"name": self.secret, "key": self.key}}
            container.setdefault("env", []).append({"name": self.deploy_target, "valueFrom": reference})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash((self.deploy_type, self.deploy_target, self.secret, self.key))

    def __repr__(self) -> str:
        return f"Secret({self.deploy_type}, {self.deploy_target}, {self.secret}, {self.key})"


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """A pod over another: dicts grow together, containers meet by their names, other lists are added, and of plain
    values the upper one counts."""
    found = dict(base)
    for key, value in over.items():
        below = found.get(key)
        if isinstance(below, dict) and isinstance(value, dict):
            found[key] = merged(below, value)
        elif key in ("containers", "initContainers") and isinstance(below, list):
            found[key] = _merged_by_name(below, value)
        elif isinstance(below, list) and isinstance(value, list) and key not in ("command", "args"):
            found[key] = below + [item for item in value if item not in below]
        elif value not in (None, [], {}):
            found[key] = value
    return found


def _merged_by_name(base: list[dict[str, Any]], over: list[dict[str, Any]]) -> list[dict[str, Any]]:
    names = [item.get("name") for item in base]
    found = list(base)
    for item in over:
        if item.get("name") in names:
            place = names.index(item.get("name"))
            found[place] = merged(found[place], item)
        else:
            found.append(item)
    return found
