"""Decides what an environment must change to become what a file or another environment says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from opskit.errors import UsageError
from opskit.ops import env_document
from opskit.ops.env_mapping import EnvMapping, Recipe, substitute
from opskit.ops.env_secrets import Fingerprints, Rules, Secret, canonical, redact
from opskit.ops.env_sources import Environment, chosen
from opskit.platforms.configuration import Fields, Unreadable

DEFAULT_POOL = "default_pool"
_EMPTY: dict[str, Fields] = {
    "connections": {
        "conn_type": "",
        **dict.fromkeys(("description", "host", "login", "password", "schema", "port")),
        "extra": {},
    },
    "variables": {"description": None},
    "pools": {"description": None},
    "dags": {},
}
_NEEDED = {"connections": (), "variables": ("value",), "pools": ("slots",), "dags": ("paused",)}
_PRUNED = ("connections", "variables", "pools")


class _Missing:
    pass


_MISSING = _Missing()
Resolve = Callable[[str, str], str]
"""(origin, what for) → a secret; see env_resolve."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How much of the source is brought to the target."""

    policy: str = "update"
    """create: only what is not there. update: also the fields that the source names. replace: all fields. ignore."""
    secrets: str = ""
    """source, target (keep), fill (keep, else the source's), empty (keep, else none); empty: see `secrets_mode`."""
    prune: bool = False
    protect: tuple[str, ...] = ()
    mapping: EnvMapping = field(default_factory=EnvMapping)


@dataclass(frozen=True, slots=True)
class Change:
    """One object, with its secrets in the clear: never shown or written as it is."""

    kind: str
    name: str
    action: str
    """create, update, delete."""
    before_digest: str
    """Keyed digest of the object that was seen; empty: there was none."""
    after: Fields | None
    fields: Mapping[str, tuple[Any, Any]]
    """Path of a field → before and after, redacted."""
    notes: tuple[str, ...] = ()

    @property
    def object(self) -> str:
        return f"{self.kind}/{self.name}"


@dataclass(frozen=True, slots=True)
class Plan:
    made_at: datetime
    source: str
    source_environment: str
    target: str
    target_environment: str
    protected: bool
    changes: tuple[Change, ...]
    blocked: Mapping[str, str]
    """Object → why it can't be brought over."""
    left: Mapping[str, str]
    """Object that differs and stays as it is → why."""
    unchanged: int
    present: int
    """Objects in the target that the plan could have touched."""

    def count(self, action: str) -> int:
        return sum(change.action == action for change in self.changes)


def secrets_mode(source: Environment, target: Environment) -> str:
    """Where secrets come from when nobody says: the source within one environment, else the target keeps its own. A
    file of no environment was made to be brought in."""
    if source.platform is None and not source.name:
        return "source"
    return "source" if source.name and source.name == target.name else "target"


def digest(fingerprints: Fingerprints, fields: Fields | None) -> str:
    """Of an object's content, secrets included; empty for none."""
    return "" if fields is None else fingerprints.of(fields)


def decide(
    source: Environment,
    target: Environment,
    policy: Policy,
    rules: Rules,
    fingerprints: Fingerprints,
    resolve: Resolve,
    now: datetime,
) -> Plan:
    """What to change in the target. UsageError when two objects would become one, or a rule does not fit."""
    decision = _Decision(target, policy, policy.secrets or secrets_mode(source, target), rules, fingerprints, resolve)
    for kind in source.document.kinds:
        present = target.document.objects.get(kind, {})
        taken: dict[str, str] = {}
        for name, fields in source.document.objects.get(kind, {}).items():
            recipe = policy.mapping.recipe(kind, name)
            if recipe.name in taken:
                raise UsageError(
                    f"{kind}/{name} and {kind}/{taken[recipe.name]} would both become {kind}/{recipe.name}",
                    hint="see the rename rules of the mapping file",
                )
            taken[recipe.name] = name
            decision.bring(kind, name, fields, recipe, present.get(recipe.name))
        if kind in _PRUNED:
            for name in sorted(present.keys() - taken.keys()):
                decision.prune(kind, name, present[name])
    order = {"create": 0, "update": 1, "delete": 2}
    return Plan(
        made_at=now,
        source=source.label,
        source_environment=source.name,
        target=target.label,
        target_environment=target.name,
        protected=target.protected,
        changes=tuple(sorted(decision.changes, key=lambda change: (order[change.action], change.kind, change.name))),
        blocked=decision.blocked,
        left=decision.left,
        unchanged=decision.unchanged,
        present=sum(len(target.document.objects.get(kind, {})) for kind in source.document.kinds),
    )


class _Decision:
    def __init__(
        self,
        target: Environment,
        policy: Policy,
        secrets: str,
        rules: Rules,
        fingerprints: Fingerprints,
        resolve: Resolve,
    ) -> None:
        self._target, self._policy, self._secrets = target, policy, secrets
        self._rules, self._fingerprints, self._resolve = rules, fingerprints, resolve
        self.changes: list[Change] = []
        self.blocked: dict[str, str] = {}
        self.left: dict[str, str] = {}
        self.unchanged = 0

    def bring(self, kind: str, name: str, fields: Fields, recipe: Recipe, there: Fields | None) -> None:
        policy = recipe.policy or self._policy.policy
        what = f"{kind}/{recipe.name}"
        if policy == "ignore":
            self.left[f"{kind}/{name}"] = "a rule says so"
            return
        if kind == "dags" and there is None:
            self.left[what] = "there is no such DAG"
            return
        said = substitute(fields, recipe, name, what)
        env_document.check_fields(kind, recipe.name, said, "the mapping")
        settling = _Settling(self, kind, name, recipe, recipe.secrets or self._secrets, keeps_more=policy == "update")
        wanted = settling.settle(said, there)
        blocked = settling.blocked
        for key in [key for key, value in wanted.items() if isinstance(value, Unreadable) and key in said]:
            if there is None or policy == "replace":
                blocked.append(f"{key} can't be read in the source")
            else:
                settling.notes.append(f"{key}: can't be read in the source, stays as it is")
                wanted[key] = there.get(key)
        after = {**(there if there is not None and policy == "update" else _EMPTY[kind]), **wanted}
        blocked += [f"{key} is not given" for key in _NEEDED[kind] if key not in after]
        if there is not None and canonical(after) == canonical(there):
            self.unchanged += 1
        elif chosen(kind, recipe.name, self._policy.protect):
            self.left[what] = "protected"
        elif there is not None and policy == "create":
            self.left[what] = "exists, and the policy is create"
        elif blocked:
            self.blocked[what] = "; ".join(blocked)
        else:
            self._change(kind, recipe.name, there, after, tuple(settling.notes))

    def prune(self, kind: str, name: str, there: Fields) -> None:
        wanted = self._policy.mapping.recipe(kind, name).prune
        if not (self._policy.prune if wanted is None else wanted):
            return
        if chosen(kind, name, self._policy.protect) or (kind == "pools" and name == DEFAULT_POOL):
            self.left[f"{kind}/{name}"] = "protected"
        else:
            self._change(kind, name, there, None, ())

    def _change(self, kind: str, name: str, there: Fields | None, after: Fields | None, notes: tuple[str, ...]) -> None:
        shown = [
            {} if fields is None else redact(self._rules, self._fingerprints, kind, name, fields)
            for fields in (there, after)
        ]
        action = "create" if there is None else "delete" if after is None else "update"
        self.changes.append(
            Change(
                kind,
                name,
                action,
                digest(self._fingerprints, there),
                after,
                {path: (before, new) for path, before, new in differences(shown[0], shown[1])},
                notes,
            )
        )

    def is_secret(self, kind: str, name: str, path: tuple[str, ...], value: Any) -> bool:
        return self._rules.is_secret(kind, name, path, value)

    def same(self, value: Any, there: Any) -> bool:
        if isinstance(value, Secret):
            return self._fingerprints.of(there) == value.fingerprint
        return canonical(value) == canonical(there)

    def resolve(self, origin: str, what: str) -> str:
        return self._resolve(origin, what)


class _Settling:
    """Finds the secrets of one object, and where each is to come from."""

    def __init__(
        self, decision: _Decision, kind: str, source_name: str, recipe: Recipe, mode: str, *, keeps_more: bool
    ) -> None:
        """`keeps_more`: secrets that only the target has stay, where secrets are its own."""
        self._decision, self._kind, self._recipe, self._mode = decision, kind, recipe, mode
        self._source_name = source_name
        self._keeps_more = keeps_more
        self._visited: set[str] = set()
        self.notes: list[str] = []
        self.blocked: list[str] = []

    def settle(self, fields: Fields, there: Fields | None) -> Fields:
        done = {
            name: self._value(value, _inside(there, name), (name,), self._nothing(name))
            for name, value in fields.items()
        }
        for path in self._recipe.secret.keys() - self._visited:
            # The source has nothing there.
            *above, key = path.split(".")
            holder: Any = done
            for name in above:
                holder = holder.setdefault(name, {}) if isinstance(holder, dict) else None
            if not isinstance(holder, dict):
                raise UsageError(f"{self._kind}/{self._recipe.name}: {path} leads through what is no object")
            found = self._secret(None, _at(there, path.split(".")), path, _MISSING)
            if found is not _MISSING:
                holder[key] = found
        return done

    def _nothing(self, name: str) -> Any:
        return "" if self._kind == "variables" and name == "value" else None

    def _value(self, value: Any, there: Any, path: tuple[str, ...], nothing: Any = _MISSING) -> Any:
        dotted = ".".join(path)
        if isinstance(value, Unreadable) and self._mode == "source" and dotted not in self._recipe.secret:
            return value
        if dotted in self._recipe.secret or self._is_secret(path, value):
            return self._secret(value, there, dotted, nothing)
        if self._mode != "source" and value in (None, "") and self._is_secret(path, there):
            return self._secret(None, there, dotted, nothing)
        if isinstance(value, dict):
            found = {key: self._value(item, _inside(there, key), (*path, key)) for key, item in value.items()}
            if self._mode != "source" and self._keeps_more and isinstance(there, dict):
                for key in there.keys() - value.keys():
                    if self._is_secret((*path, key), there[key]):
                        found[key] = self._secret(None, there[key], f"{dotted}.{key}", _MISSING)
            return {key: item for key, item in found.items() if item is not _MISSING}
        if isinstance(value, list):
            return [
                self._value(
                    item, there[index] if isinstance(there, list) and index < len(there) else _MISSING, path, None
                )
                for index, item in enumerate(value)
            ]
        return value

    def _is_secret(self, path: tuple[str, ...], value: Any) -> bool:
        return value is not _MISSING and self._decision.is_secret(self._kind, self._recipe.name, path, value)

    def _secret(self, value: Any, there: Any, path: str, nothing: Any) -> Any:
        self._visited.add(path)
        origin = self._recipe.secret.get(path, self._mode)
        has = there is not _MISSING and there not in (None, "")
        if origin not in ("source", "target", "fill", "empty"):
            if origin == "prompt" and has:
                return there
            text = self._decision.resolve(
                origin.replace("{name}", self._source_name), f"{self._kind}/{self._recipe.name}: {path}"
            )
            return _like(text, there if isinstance(there, (dict, list)) else value)
        if has and not isinstance(there, Unreadable) and self._decision.same(value, there):
            return there
        if origin != "source" and has:
            self.notes.append(f"{path}: the target's is kept (the source has another)")
            return there
        if origin in ("source", "fill") and not isinstance(value, (Secret, Unreadable)):
            return nothing if value is None else value
        if origin == "empty":
            self.notes.append(f"{path}: left empty")
            return nothing
        known = "the source tells its fingerprint only" if isinstance(value, Secret) else "it is not to be copied"
        self.blocked.append(f"{path} is secret: {known}, and the target has none" if not has else f"{path}: {known}")
        return nothing


def _inside(value: Any, key: str) -> Any:
    return value.get(key, _MISSING) if isinstance(value, dict) else _MISSING


def _at(value: Any, path: list[str]) -> Any:
    for key in path:
        value = _inside(value, key)
    return value


def _like(text: str, example: Any) -> Any:
    """A resolved secret in the shape of the one it replaces: an object stays an object."""
    if not isinstance(example, (dict, list)):
        return text
    return env_document.parse_json(text.encode(), "the secret")


def differences(before: Any, after: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(path, before, after) of what differs between two redacted values, down to single fields; None: not there."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys()):
            yield from differences(before.get(key), after.get(key), f"{path}.{key}" if path else key)
    elif canonical(before) != canonical(after):
        yield path, before, after
