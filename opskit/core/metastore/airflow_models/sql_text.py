"""What a statement of SQL does, and to which tables: enough of its text is read to put Airflow's tables before it, and
to take an INSERT, an UPDATE or a DELETE apart."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache

_OPAQUE = re.compile(r"'(?:[^'\\]|''|\\.)*'|--[^\n]*|/\*.*?\*/|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$", re.DOTALL)
_WORD = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")
_NAME = r'(?:[`"]?\w+[`"]?\.)?[`"]?(?P<{0}>\w+)[`"]?'
_DELETE = re.compile(
    rf"DELETE\s+FROM\s+(?P<target>{_NAME.format('name')})(?:\s+(?:AS\s+)?(?P<alias>(?!WHERE\b|USING\b|RETURNING\b)\w+))?"
    r"\s*(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
_UPDATE = re.compile(
    rf"UPDATE\s+(?:ONLY\s+)?(?P<target>{_NAME.format('name')})(?:\s+(?:AS\s+)?(?P<alias>(?!SET\b)\w+))?\s+SET\s+(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
_INSERT = re.compile(
    rf"(?:INSERT|REPLACE)\s+(?:OR\s+\w+\s+|IGNORE\s+)?INTO\s+(?P<target>{_NAME.format('name')})\s*"
    r"(?:\((?P<columns>[^()]*)\)\s*)?(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
_DEFINES = re.compile(
    r"(?:CREATE|DROP|ALTER|TRUNCATE|RENAME|COPY|LOCK)\b(?:\s+(?:OR\s+REPLACE|TEMP|TEMPORARY|UNLOGGED|TABLE|TABLES|VIEW|INDEX|"
    rf"MATERIALIZED|ONLY|IF\s+NOT\s+EXISTS|IF\s+EXISTS))*\s+{_NAME.format('name')}",
    re.IGNORECASE | re.DOTALL,
)
_LOCKING = re.compile(
    r"\s+FOR\s+(?:NO\s+KEY\s+)?(?:UPDATE|(?:KEY\s+)?SHARE)(?:\s+OF\s+[\w\s,.\"`]+?)?(?:\s+(?:SKIP\s+LOCKED|NOWAIT))?\s*$",
    re.IGNORECASE,
)


class NotUnderstood(Exception):
    """A statement that can't be taken apart; the text says why."""


@dataclass(frozen=True, slots=True)
class Statement:
    """`verb`: select, insert, update, delete, define (CREATE, DROP, COPY …) or other; `target`: the table that it
    writes; `names`: all words in it that could be tables."""

    text: str
    verb: str
    target: str
    names: frozenset[str]
    locks: bool = False


@dataclass(frozen=True, slots=True)
class Parts:
    """Of an UPDATE or a DELETE. `tables` and `where` go behind FROM and WHERE; `assignments`: column → expression."""

    alias: str
    tables: str
    where: str
    assignments: tuple[tuple[str, str], ...] = ()


def masked(text: str) -> str:
    """The same text with literals and comments blanked, so that positions agree."""
    return _OPAQUE.sub(
        lambda found: ("'" + " " * (len(found[0]) - 2) + "'") if found[0][0] == "'" else " " * len(found[0]), text
    )


@lru_cache(maxsize=512)
def parse(text: str) -> Statement:
    """What a statement does. NotUnderstood for several in one text: the second would not be looked at."""
    hidden = masked(text)
    start = len(hidden) - len(hidden.lstrip(" \t\r\n("))
    end = len(hidden.rstrip(" \t\r\n;"))
    text, hidden, lead = text[:end], hidden[:end], hidden[start:end]
    if ";" in hidden:
        raise NotUnderstood("give one statement at a time")
    names = frozenset(word.lower() for word in _WORD.findall(hidden))
    first = _WORD.match(lead)
    word = first[0].lower() if first else ""
    if word in ("select", "values", "table"):
        locked = _LOCKING.search(hidden)
        return Statement(text[: locked.start()] if locked else text, "select", "", names, locked is not None)
    if word == "with":
        main = _behind_with(hidden, start)
        inner = parse(hidden[main:])
        return Statement(text, inner.verb, inner.target, names, inner.locks)
    pattern = {"delete": _DELETE, "update": _UPDATE, "insert": _INSERT, "replace": _INSERT}.get(word, _DEFINES)
    found = pattern.match(lead)
    if found is None:
        return Statement(text, "other", "", names)
    verb = word if word in ("delete", "update", "insert") else "insert" if word == "replace" else "define"
    return Statement(text, verb, found["name"].lower(), names)


def _behind_with(hidden: str, start: int) -> int:
    """Where the statement behind the common table expressions begins."""
    depth = 0
    for found in re.finditer(r"[()]|\b(?:SELECT|INSERT|UPDATE|DELETE|VALUES)\b", hidden[start:], re.IGNORECASE):
        if found[0] == "(":
            depth += 1
        elif found[0] == ")":
            depth -= 1
        elif depth == 0:
            return start + found.start()
    raise NotUnderstood("nothing stands behind its WITH")


def with_tables(text: str, expressions: str) -> str:
    """The statement with common table expressions before it (or, where it begins otherwise, before its SELECT)."""
    hidden = masked(text)
    start = len(hidden) - len(hidden.lstrip())
    head = re.compile(r"WITH\s+(?:RECURSIVE\s+)?", re.IGNORECASE)
    own = head.match(hidden, start)
    if own is not None:
        return f"{text[: own.end()]}{expressions}, {text[own.end() :]}"
    if re.match(r"(?:SELECT|VALUES|\()", hidden[start:], re.IGNORECASE):
        return f"WITH {expressions} {text}"
    inner = re.search(r"\b(?:SELECT|WITH)\b", hidden, re.IGNORECASE)
    if inner is None:
        return text
    return text[: inner.start()] + with_tables(text[inner.start() :], expressions)


def take_apart(statement: Statement) -> Parts:
    """Of an UPDATE or a DELETE. NotUnderstood for one that begins with WITH, joins in MySQL's way, or returns rows."""
    hidden = masked(statement.text)
    pattern = _DELETE if statement.verb == "delete" else _UPDATE
    found = pattern.match(hidden, len(hidden) - len(hidden.lstrip()))
    if found is None:
        raise NotUnderstood("write it without WITH and without a join")
    alias, begin = found["alias"] or "", found.start("rest")
    tables = f"{found['name']} {alias}".strip()
    rest, shown = statement.text[begin:], hidden[begin:]
    words = {word: _at_top(shown, word) for word in ("WHERE", "FROM", "USING", "RETURNING")}
    if words["RETURNING"] is not None:
        raise NotUnderstood("RETURNING is not offered")
    where_at = words["WHERE"]
    where = rest[where_at + len("WHERE") :] if where_at is not None else ""
    before = rest[:where_at] if where_at is not None else rest
    more = words["USING"] if statement.verb == "delete" else words["FROM"]
    if more is not None and (where_at is None or more < where_at):
        tables += ", " + before[more + len("USING" if statement.verb == "delete" else "FROM") :]
        before = before[:more]
    if statement.verb == "delete":
        if before.strip():
            raise NotUnderstood("only DELETE FROM … WHERE … is offered")
        return Parts(alias or found["name"], tables, where)
    return Parts(alias or found["name"], tables, where, tuple(_assignments(before)))


def inserted(statement: Statement) -> tuple[list[str], str]:
    """The columns of an INSERT, and a query that gives its rows. NotUnderstood for what is no plain INSERT."""
    hidden = masked(statement.text)
    found = _INSERT.match(hidden, len(hidden) - len(hidden.lstrip()))
    if found is None or found["columns"] is None:
        raise NotUnderstood("write INSERT INTO … (columns) VALUES …")
    columns = [name.strip(' \n\t`"').lower() for name in found["columns"].split(",")]
    begin = found.start("rest")
    rest, shown = statement.text[begin:], hidden[begin:]
    if _at_top(shown, "RETURNING") is not None or re.search(r"\bON\s+(?:CONFLICT|DUPLICATE)\b", shown, re.IGNORECASE):
        raise NotUnderstood("ON CONFLICT and RETURNING are not offered")
    if re.match(r"\s*(?:SELECT|WITH)\b", shown, re.IGNORECASE):
        return columns, rest
    values = re.match(r"\s*VALUES\b", shown, re.IGNORECASE)
    if values is None:
        raise NotUnderstood("write INSERT INTO … (columns) VALUES …")
    rows = []
    for part in _split(rest[values.end() :]):
        row = part.strip()
        items = _split(row[1:-1])
        if len(items) != len(columns):
            raise NotUnderstood(f"{len(items)} values for {len(columns)} columns")
        rows.append("SELECT " + ", ".join(f"{item} AS v{number}" for number, item in enumerate(items)))
    return columns, " UNION ALL ".join(rows)


def _assignments(text: str) -> list[tuple[str, str]]:
    found = []
    for part in _split(text):
        name, equals, value = part.partition("=")
        name = name.strip().rpartition(".")[2].strip('`" \n\t')
        if not equals or not name.isidentifier():
            raise NotUnderstood(f"{part.strip()!r} assigns nothing to a column")
        found.append((name.lower(), value.strip()))
    return found


def _split(text: str) -> list[str]:
    """At the commas that stand outside of brackets and literals."""
    hidden, depth, start, found = masked(text), 0, 0, []
    for index, letter in enumerate(hidden):
        if letter == "(":
            depth += 1
        elif letter == ")":
            depth -= 1
        elif letter == "," and depth == 0:
            found.append(text[start:index])
            start = index + 1
    return [*found, text[start:]]


def _at_top(hidden: str, word: str) -> int | None:
    depth = 0
    for found in re.finditer(rf"[()]|\b{word}\b", hidden, re.IGNORECASE):
        if found[0] == "(":
            depth += 1
        elif found[0] == ")":
            depth -= 1
        elif depth == 0:
            return found.start()
    return None


def mentioned(statement: Statement, tables: Collection[str]) -> list[str]:
    """Those of these tables that a statement may name."""
    return sorted(statement.names.intersection(tables))
