"""What the text of a DAG file asks for: imports, variables, connections. Found without running it, so all of it is
found, and not only the first that is missing."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

IMPORT, VARIABLE, CONNECTION = "import", "variable", "connection"
_VARIABLES_IN_TEXT = re.compile(r"\{[{%][^}%]*?\bvar\.(?:value|json)\.(\w+)")
_CONNECTIONS_IN_TEXT = re.compile(r"\{[{%][^}%]*?\bconn\.(\w+)")
_GETTERS = ("get", "get_value", "get_open")
_TOLERATED = ("ImportError", "ModuleNotFoundError", "Exception", "BaseException", "AttributeError")
_CONNECTION_CALLS = ("get_connection", "get_hook", "get_connection_from_secrets")


@dataclass(frozen=True, slots=True)
class Need:
    """One thing that a line of a file asks for."""

    line: int
    kind: str
    """import, variable or connection."""
    module: str
    """Of an import: the module; else the key or conn_id."""
    name: str = ""
    """Of `from module import name`."""
    at_load: bool = True
    """Whether the file asks when it is loaded; else it does when a task runs."""
    optional: bool = False
    """Whether the file goes on without it: an import in `try`, a variable with a default."""


def of_source(source: bytes | str) -> list[Need]:
    """Sorted by line. SyntaxError for a file that is none."""
    found: list[Need] = []
    _visit(ast.parse(source), found, at_load=True, optional=False)
    return sorted(set(found), key=lambda need: (need.line, need.kind, need.module, need.name))


def _visit(node: ast.AST, found: list[Need], *, at_load: bool, optional: bool) -> None:
    found.extend(_needs_of(node, at_load, optional))
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        for outside in [*node.decorator_list, *node.args.defaults, *filter(None, node.args.kw_defaults)]:
            _visit(outside, found, at_load=at_load, optional=optional)
        runs_at_load = at_load and any(_ends_with(decorator, "dag") for decorator in node.decorator_list)
        for inner in node.body:
            _visit(inner, found, at_load=runs_at_load, optional=optional)
    elif isinstance(node, ast.Lambda):
        _visit(node.body, found, at_load=False, optional=optional)
    elif isinstance(node, ast.Try):
        for inner in node.body:
            _visit(inner, found, at_load=at_load, optional=optional or _catches_imports(node))
        for handler in node.handlers:
            # What a handler imports instead is needed only where the first one failed.
            _visit(handler, found, at_load=at_load, optional=optional or _catches_imports(node))
        for inner in [*node.orelse, *node.finalbody]:
            _visit(inner, found, at_load=at_load, optional=optional)
    elif isinstance(node, ast.If) and _is_for_checkers(node.test):
        for inner in node.orelse:
            _visit(inner, found, at_load=at_load, optional=optional)
    elif isinstance(node, ast.If):
        _visit(node.test, found, at_load=at_load, optional=optional)
        for inner in [*node.body, *node.orelse]:
            _visit(inner, found, at_load=at_load, optional=True)  # it may be for another version, or for __main__
    else:
        for child in ast.iter_child_nodes(node):
            _visit(child, found, at_load=at_load, optional=optional)


def _needs_of(node: ast.AST, at_load: bool, optional: bool) -> Iterator[Need]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield Need(node.lineno, IMPORT, alias.name, "", at_load, optional)
    elif isinstance(node, ast.ImportFrom):
        if node.module and not node.level:
            for alias in node.names:
                yield Need(node.lineno, IMPORT, node.module, "" if alias.name == "*" else alias.name, at_load, optional)
    elif isinstance(node, ast.Call):
        yield from _needs_of_call(node, at_load, optional)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "{" in node.value:
        for pattern, kind in ((_VARIABLES_IN_TEXT, VARIABLE), (_CONNECTIONS_IN_TEXT, CONNECTION)):
            for name in pattern.findall(node.value):
                if name not in _GETTERS:
                    yield Need(node.lineno, kind, name, "", False, optional)


def _needs_of_call(node: ast.Call, at_load: bool, optional: bool) -> Iterator[Need]:
    function = node.func
    called = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    owner = getattr(function.value, "id", "") if isinstance(function, ast.Attribute) else ""
    named = {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg}
    text = _text(node.args[0] if node.args else named.get("key") or named.get("conn_id"))
    if (owner, called) == ("Variable", "get") and text:
        has_default = len(node.args) > 1 or bool(named.keys() & {"default_var", "default"})
        yield Need(node.lineno, VARIABLE, text, "", at_load, optional or has_default)
    elif owner and text and (called in _CONNECTION_CALLS or (owner, called) == ("Connection", "get")):
        yield Need(node.lineno, CONNECTION, text, "", at_load, optional)
    elif called not in ("Connection", "dict"):
        # An operator opens it when its task runs; the line is that of the argument.
        for argument, value in named.items():
            conn_id = _text(value) if argument == "conn_id" or argument.endswith("_conn_id") else None
            if conn_id and "{" not in conn_id:
                yield Need(value.lineno, CONNECTION, conn_id, "", False, optional)


def _text(node: ast.expr | None) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _ends_with(decorator: ast.expr, name: str) -> bool:
    target = decorator.func if isinstance(decorator, ast.Call) else decorator
    return (isinstance(target, ast.Name) and target.id == name) or (
        isinstance(target, ast.Attribute) and target.attr == name
    )


def _catches_imports(node: ast.Try) -> bool:
    for handler in node.handlers:
        kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
        if any(kind is None or getattr(kind, "id", None) in _TOLERATED for kind in kinds):
            return True
    return False


def _is_for_checkers(test: ast.expr) -> bool:
    return _ends_with(test, "TYPE_CHECKING")
