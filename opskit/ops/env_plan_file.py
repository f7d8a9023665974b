"""A plan as a file: what is to change, for people with fingerprints, for `apply` sealed with the target's own key."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from opskit.errors import ConfigError, GuardRefused, OpskitError, UsageError
from opskit.ops import env_document
from opskit.ops.env_plan import Change, Plan
from opskit.ops.env_secrets import Fingerprints, canonical, from_json, to_json
from opskit.platforms.configuration import Configuration

FORMAT = "opskit-env-plan/1"


def shown(plan: Plan) -> dict[str, Any]:
    """The plan as plain values without secrets."""
    return {
        "made_at": plan.made_at.isoformat(),
        "source": {"label": plan.source, "environment": plan.source_environment},
        "target": {"label": plan.target, "environment": plan.target_environment, "protected": plan.protected},
        "summary": {
            **{action: plan.count(action) for action in ("create", "update", "delete")},
            "blocked": len(plan.blocked),
            "left": len(plan.left),
            "unchanged": plan.unchanged,
        },
        "changes": [shown_change(change) for change in plan.changes],
        "blocked": dict(plan.blocked),
        "left": dict(plan.left),
    }


def shown_change(change: Change) -> dict[str, Any]:
    return {
        "object": change.object,
        "action": change.action,
        "fields": {path: [to_json(before), to_json(after)] for path, (before, after) in change.fields.items()},
        "notes": list(change.notes),
    }


def save(plan: Plan, path: Path, target: Configuration, fingerprints: Fingerprints, *, force: bool = False) -> None:
    """Write a plan (0600, never over another file without `force`)."""
    data: dict[str, Any] = {
        "format": FORMAT,
        "fingerprint_key": fingerprints.key_id,
        "present": plan.present,
        **shown(plan),
        "applies": [
            {
                "kind": change.kind,
                "name": change.name,
                "before": change.before_digest,
                "after": None if change.after is None else target.seal(canonical(change.after)),
            }
            for change in plan.changes
        ],
    }
    data["signature"] = fingerprints.sign("plan", canonical(data))
    env_document.write_file(path, env_document.json_text(data).encode(), force=force)


def is_plan(path: Path) -> bool:
    """Whether a file is a plan, and not something to make one from."""
    try:
        with path.open("rb") as file:
            return FORMAT.encode() in file.read(200)
    except OSError:
        return False


def load(path: Path, target: Configuration, fingerprints: Fingerprints) -> Plan:
    """Read a plan. GuardRefused when it was made for another environment, or changed since it was made; ConfigError
    when this environment has another fingerprint key; OpskitError when its Fernet key is gone."""
    content, _ = env_document.read_bytes(path, ())
    data = env_document.parse_json(content, str(path))
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise UsageError(f"{path} is no plan that this opskit reads", hint="make one with: opskit env plan --out")
    if data.get("fingerprint_key") != fingerprints.key_id:
        raise ConfigError(f"{path} was made with another fingerprint key", hint="see: opskit env key --help")
    signature = data.pop("signature", "")
    if signature != fingerprints.sign("plan", canonical(data)):
        raise GuardRefused(f"{path} is not as it was written", hint="make the plan again")
    if data["target"]["label"] != target.where:
        raise GuardRefused(f"{path} is a plan for {data['target']['label']}, this is {target.where}")
    changes = []
    for visible, applied in zip(data["changes"], data["applies"], strict=True):
        after = None
        if applied["after"] is not None:
            try:
                after = from_json(json.loads(target.unseal(applied["after"], f"{path}: {visible['object']}")))
            except OpskitError as error:
                raise OpskitError(error.message, hint="the Fernet key has changed: make the plan again") from error
        fields = {name: (from_json(pair[0]), from_json(pair[1])) for name, pair in visible["fields"].items()}
        changes.append(
            Change(
                applied["kind"],
                applied["name"],
                visible["action"],
                applied["before"],
                after,
                fields,
                tuple(visible["notes"]),
            )
        )
    return Plan(
        made_at=datetime.fromisoformat(data["made_at"]),
        source=data["source"]["label"],
        source_environment=data["source"]["environment"],
        target=data["target"]["label"],
        target_environment=data["target"]["environment"],
        protected=bool(data["target"]["protected"]),
        changes=tuple(changes),
        blocked=data["blocked"],
        left=data["left"],
        unchanged=data["summary"]["unchanged"],
        present=data["present"],
    )
