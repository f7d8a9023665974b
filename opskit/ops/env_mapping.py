"""The mapping file: how objects of one environment become objects of another, rule by rule.

    [[rule]]
    match = "connections/pg_*"            # globs over kind/name; one or a list
    rename = "dev_{name}"
    policy = "update"                     # create, update, replace, ignore
    secrets = "target"                    # source, target, fill, empty
    set = { host = "pg.dev", "extra.sslmode" = "disable" }
    unset = ["extra.keepalives"]
    secret = { password = "command:pass show dev/{name}", "extra.token" = "env:DEV_TOKEN" }

Rules are read in order, and a later one adds to or overrides what earlier ones say. `{name}` is the name in the source,
`{value}` in `set` what stands there.
"""

from __future__ import annotations

import fnmatch
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opskit.errors import UsageError
from opskit.ops.env_secrets import Rules
from opskit.platforms.configuration import KINDS, Fields

POLICIES = ("create", "update", "replace", "ignore")
SECRETS = ("source", "target", "fill", "empty")
SECRET_SOURCES = ("file", "command", "env", "prompt")
_KEYS = {"match", "rename", "policy", "secrets", "set", "unset", "secret", "prune"}


@dataclass(frozen=True, slots=True)
class Recipe:
    """What the rules say about one object."""

    name: str
    """In the target."""
    policy: str = ""
    secrets: str = ""
    prune: bool | None = None
    set: Mapping[str, Any] = field(default_factory=dict)
    unset: tuple[str, ...] = ()
    secret: Mapping[str, str] = field(default_factory=dict)
    """Path of a field → where its secret comes from: file:…, command:…, env:…, prompt, source, target."""


@dataclass(frozen=True, slots=True)
class EnvMapping:
    """The rules of a mapping file; none for no file."""

    rules: tuple[dict[str, Any], ...] = ()

    def recipe(self, kind: str, name: str) -> Recipe:
        """For the object of this name in the source."""
        merged: dict[str, Any] = {"set": {}, "unset": (), "secret": {}}
        for rule in self.rules:
            if not any(fnmatch.fnmatchcase(f"{kind}/{name}", glob) for glob in rule["match"]):
                continue
            for key in ("set", "secret"):
                merged[key] = {**merged[key], **rule.get(key, {})}
            merged["unset"] = (*merged["unset"], *rule.get("unset", ()))
            merged |= {key: rule[key] for key in ("rename", "policy", "secrets", "prune") if key in rule}
        renamed = str(merged.pop("rename", "{name}")).replace("{name}", name)
        return Recipe(renamed, **merged)


def load(path: Path, secret_rules: Rules) -> EnvMapping:
    """Read a mapping file. UsageError naming the rule for what does not fit, or a secret that stands there itself."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from error
    if data.keys() - {"rule"} or not isinstance(data.get("rule", []), list):
        raise UsageError(f"{path} holds something else than rules", hint="each begins with [[rule]]")
    return EnvMapping(
        tuple(
            _rule(rule, f"{path}, rule {number}", secret_rules) for number, rule in enumerate(data.get("rule", []), 1)
        )
    )


def _rule(rule: Any, where: str, secret_rules: Rules) -> dict[str, Any]:
    if not isinstance(rule, dict) or rule.keys() - _KEYS or "match" not in rule:
        raise UsageError(f"{where}: a rule has match, and some of {', '.join(sorted(_KEYS - {'match'}))}")
    match = [rule["match"]] if isinstance(rule["match"], str) else rule["match"]
    if not isinstance(match, list) or not all(isinstance(glob, str) and _names_a_kind(glob) for glob in match):
        raise UsageError(f"{where}: match is a glob over kind/name", hint='for example "connections/pg_*"')
    for key, choices in (("policy", POLICIES), ("secrets", SECRETS), ("prune", (True, False))):
        if key in rule and rule[key] not in choices:
            raise UsageError(f"{where}: {key} is one of {', '.join(map(str, choices))}")
    if not isinstance(rule.get("rename", ""), str):
        raise UsageError(f"{where}: rename is a text with {{name}} in it")
    for key in ("set", "secret"):
        if not isinstance(rule.get(key, {}), dict):
            raise UsageError(f"{where}: {key} is a table of fields")
    unset = rule.get("unset", [])
    if not isinstance(unset, list) or not all(isinstance(path, str) and path for path in unset):
        raise UsageError(f"{where}: unset is a list of fields")
    for path, value in rule.get("set", {}).items():
        if any(True for _ in secret_rules.leaves(value, path.rpartition(".")[2])):
            raise UsageError(
                f"{where}: what {path} is set to looks like a secret",
                hint=f'name where it is kept: secret = {{ "{path}" = "file:…" }}',
            )
    for path, origin in rule.get("secret", {}).items():
        kind = str(origin).partition(":")[0]
        if not isinstance(origin, str) or kind not in (*SECRET_SOURCES, *SECRETS):
            raise UsageError(
                f"{where}: the secret of {path} comes from {', '.join((*SECRET_SOURCES, *SECRETS))}",
                hint='for example "file:/run/secrets/{name}" or "command:pass show {name}"',
            )
    return {**rule, "match": match}


def _names_a_kind(glob: str) -> bool:
    kind = glob.partition("/")[0]
    return "/" in glob and any(fnmatch.fnmatchcase(known, kind) for known in KINDS)


def substitute(fields: Fields, recipe: Recipe, source_name: str, where: str) -> Fields:
    """The fields after `set` and `unset`. UsageError when a path leads through something that is no object."""
    done = {name: _copied(value) for name, value in fields.items()}
    for path, value in recipe.set.items():
        holder, key = _holder(done, path, where)
        if isinstance(value, str):
            before = holder.get(key)
            value = value.replace("{name}", source_name).replace("{value}", "" if before is None else str(before))
        holder[key] = value
    for path in recipe.unset:
        holder, key = _holder(done, path, where)
        if holder is done:
            holder[key] = {} if key == "extra" else None
        else:
            holder.pop(key, None)
    return done


def _holder(fields: Fields, path: str, where: str) -> tuple[dict[str, Any], str]:
    *above, key = path.split(".") if not path.startswith("extra.") else ["extra", path.removeprefix("extra.")]
    holder: Any = fields
    for name in above:
        holder = holder.setdefault(name, {})
        if not isinstance(holder, dict):
            raise UsageError(f"{where}: {path} leads through {name}, which is no object")
    return holder, key


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_copied(item) for item in value]
    return value
