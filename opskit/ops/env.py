"""Exports, compares and promotes environments: connections, variables, pools and pause states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from opskit.errors import UsageError
from opskit.ops import env_document, env_mapping, env_plan, env_resolve
from opskit.ops.env_mapping import EnvMapping
from opskit.ops.env_plan import Plan, Policy, differences
from opskit.ops.env_secrets import Fingerprints, Secret, canonical, redact, to_json
from opskit.ops.env_sources import Access, Environment, fingerprints_for, open_environment, rules_of
from opskit.platforms.configuration import KINDS, Unreadable
from opskit.system import encryption
from opskit.telemetry import metrics


@dataclass(frozen=True, slots=True)
class ExportReport:
    content: bytes
    counts: Mapping[str, int]
    encrypted_for: int
    unreadable: tuple[str, ...]
    """Values that can't be decrypted here: marked in the export."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One object that is not the same. `fields`: path → its value in each, without secrets."""

    object: str
    where: str
    """both, only first, only second."""
    fields: Mapping[str, tuple[Any, Any]]


@dataclass(frozen=True, slots=True)
class DriftReport:
    first: str
    second: str
    differences: tuple[Difference, ...]
    same: int
    unreadable: tuple[str, ...]


def export(access: Access, spec: str, *, recipients: Sequence[str] = ()) -> ExportReport:
    """The file of an environment: fingerprints in the place of secrets or, encrypted for `recipients`, with them.

    UsageError for a source that knows only fingerprints itself, where secrets are wanted.
    """
    side = open_environment(spec, access)
    rules = rules_of(access.platform)
    if recipients:
        if side.document.key_id:
            raise UsageError(f"{side.label} has fingerprints, not secrets", hint="export from where the secrets are")
        text = env_document.dump(side.document, rules, None)
        content = encryption.encrypt_bytes(text.encode(), recipients)
    else:
        content = env_document.dump(side.document, rules, fingerprints_for(access.platform, side)).encode()
    counts = {kind: len(side.document.objects[kind]) for kind in side.document.kinds}
    return ExportReport(content, counts, len(recipients), tuple(env_document.unreadable(side.document.objects)))


def make_plan(
    access: Access,
    source: Environment,
    target: Environment,
    now: datetime,
    *,
    policy: str = "update",
    secrets: str = "",
    prune: bool = False,
    protect: Sequence[str] = (),
    mapping: Path | None = None,
    ask: env_resolve.Ask | None = None,
) -> tuple[Plan, Fingerprints]:
    """What would bring `source` to `target`. UsageError when the target is a file."""
    if target.platform is None:
        raise UsageError(f"{target.label} is a file: nothing can be applied to it", hint="name a home or a database")
    rules = rules_of(target.platform)
    fingerprints = fingerprints_for(access.platform, source)
    chosen = Policy(
        policy,
        secrets,
        prune,
        (*target.platform.config.get("env", "protect"), *protect),
        env_mapping.load(mapping, rules) if mapping else EnvMapping(),
    )
    resolve = env_resolve.resolver(mapping.parent if mapping else Path(), ask)
    return env_plan.decide(source, target, chosen, rules, fingerprints, resolve, now), fingerprints


def drift(access: Access, first: Environment, second: Environment, *, mapping: Path | None = None) -> DriftReport:
    """What differs between two environments; `mapping` is first applied to the names and fields of the first one."""
    rules = rules_of(access.platform)
    fingerprints = fingerprints_for(access.platform, first, second)
    renames = env_mapping.load(mapping, rules) if mapping else EnvMapping()
    found: list[Difference] = []
    same = 0
    for kind in KINDS:
        if kind not in first.document.kinds or kind not in second.document.kinds:
            continue
        one = _mapped(kind, first.document.objects[kind], renames)
        two = second.document.objects[kind]
        for name in sorted(one.keys() | two.keys()):
            before, after = one.get(name), two.get(name)
            if before is not None and after is not None:
                before, after = _both(before, after)
                if canonical(before) == canonical(after):
                    same += 1
                    continue
                before, after = _aligned(before, after, fingerprints), _aligned(after, before, fingerprints)
                if canonical(before) == canonical(after):
                    same += 1
                    continue
            if kind == "dags" and (before is None or after is None):
                continue  # DAGs come by deployment; only their pause state is configuration
            shown = [{} if side is None else redact(rules, fingerprints, kind, name, side) for side in (before, after)]
            fields = {path: (left, right) for path, left, right in differences(shown[0], shown[1])}
            if not fields and before is not None and after is not None:
                same += 1
                continue
            where = (
                "both" if before is not None and after is not None else f"only {'first' if after is None else 'second'}"
            )
            found.append(Difference(f"{kind}/{name}", where, fields))
    metrics.gauge("opskit_env_drift_objects_count", len(found))
    metrics.gauge("opskit_env_compared_objects_count", len(found) + same)
    unreadable = [
        f"{label}: {value}"
        for label, side in (("first", first), ("second", second))
        for value in env_document.unreadable(side.document.objects)
    ]
    return DriftReport(first.label, second.label, tuple(found), same, tuple(unreadable))


def _mapped(kind: str, objects: dict[str, dict[str, Any]], mapping: EnvMapping) -> dict[str, dict[str, Any]]:
    if not mapping.rules:
        return objects
    found = {}
    for name, fields in objects.items():
        recipe = mapping.recipe(kind, name)
        if recipe.policy != "ignore":
            found[recipe.name] = env_mapping.substitute(fields, recipe, name, f"{kind}/{name}")
    return found


def _both(before: dict[str, Any], after: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Only the fields that both say: a URI says no description."""
    if before.keys() == after.keys():
        return before, after
    shared = before.keys() & after.keys()
    return {name: before[name] for name in shared}, {name: after[name] for name in shared}


def _aligned(value: Any, other: Any, fingerprints: Fingerprints) -> Any:
    """`value`, with its fingerprint where only that is known of the other side."""
    if isinstance(other, Secret) and value is not None and not isinstance(value, (Secret, Unreadable)):
        return Secret(fingerprints.of(value))
    if isinstance(value, dict) and isinstance(other, dict):
        return {key: _aligned(item, other.get(key), fingerprints) for key, item in value.items()}
    if isinstance(value, list) and isinstance(other, list) and len(value) == len(other):
        return [_aligned(item, twin, fingerprints) for item, twin in zip(value, other, strict=True)]
    return value


def shown_difference(difference: Difference) -> dict[str, Any]:
    """Plain values without secrets."""
    return {
        "object": difference.object,
        "where": difference.where,
        "fields": {path: [to_json(left), to_json(right)] for path, (left, right) in difference.fields.items()},
    }
