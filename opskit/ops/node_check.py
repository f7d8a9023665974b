"""Loads DAG files on a node with the node's own interpreter, and says what environment that is. Sent with
`deploy_node`."""

from __future__ import annotations

import os
import sys

from opskit.ops.node_store import Node
from opskit.ops.node_tree import Refused, new_sha256
from opskit.ops.node_wire import to_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from opskit.ops.node_wire import Json


def environment() -> str:
    """A fingerprint of what decides how a DAG file loads: the interpreter and all installed distributions.

    This process is isolated, and has not read what is installed: it looks where a child of it will.
    """
    flags = os.environ.get("PYTHONPATH", "")
    version = "python{}.{}".format(*sys.version_info[:2])
    prefixes = [os.path.dirname(os.path.dirname(sys.executable)), sys.base_prefix, "/usr", "/usr/local"]
    folders = {
        os.path.join(prefix, "lib", python, packages)
        for prefix in prefixes
        for python in (version, "python3")
        for packages in ("site-packages", "dist-packages")
    }
    folders.update(path for path in [*flags.split(os.pathsep), _user_site()] if path)
    names: set[str] = set()
    for folder in folders:
        try:
            found = os.listdir(folder)
        except OSError:
            continue
        names.update(name for name in found if name.endswith((".dist-info", ".egg-info", ".egg-link", ".pth")))
    facts = [sys.version, sys.platform, os.uname().machine, os.path.realpath(sys.executable), flags, *sorted(names)]
    digest = new_sha256()
    digest.update("\n".join(facts).encode("utf-8", "surrogateescape"))
    found_digest: str = digest.hexdigest()[:32]
    return found_digest


def _user_site() -> str:
    return os.path.expanduser("~/.local/lib/python{}.{}/site-packages".format(*sys.version_info[:2]))


def parse(node: Node, request: Json) -> Json:
    """Load the DAG files with this node's interpreter: by opskit's own loader where it is installed, else their
    syntax. Answers {check, dags: {path: [dag_id]}, errors: {path: text}}."""
    import json
    import subprocess

    current = request.get("current", False)
    tree = node.current_tree() if current else node.staging
    child = subprocess.Popen(
        [sys.executable, "-c", PARSE, tree],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(os.environ, PYTHONDONTWRITEBYTECODE="1"),
        cwd="/",
        start_new_session=True,
    )
    try:
        out, err = child.communicate(
            to_json([request["load"], request["read"], request.get("known", {})]).encode(), timeout=request["timeout"]
        )
    except subprocess.TimeoutExpired:
        raise Refused("dag", "loading the DAG files took more than {:g} s".format(request["timeout"])) from None
    finally:
        try:
            os.killpg(child.pid, 9)
        except (ProcessLookupError, PermissionError):
            pass
        child.wait()
    if child.returncode != 0:
        lines = err.decode(errors="replace").strip().splitlines()
        raise Refused(
            "dag", "the check of the DAG files ended with {}: {}".format(child.returncode, lines[-1] if lines else "")
        )
    answer: Json = json.loads(out.splitlines()[-1].decode())
    if answer["check"] != "syntax" and not current:
        # User code ran beside the files: nothing may have changed in them.
        changed = node.compare(tree, request["files"], strict_modes=True)
        if changed:
            raise Refused("dag", f"loading the DAG files changed the DAG folder: {changed}")
    return answer


PARSE = r"""
import ast, json, os, sys
root = sys.argv[1]
load, read, known = json.load(sys.stdin)
out = os.dup(1)
os.dup2(2, 1)
errors, dags = {}, {}

def literal(call):
    given = call.args[:1] + [word.value for word in call.keywords if word.arg == "dag_id"]
    return [arg.value for arg in given if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]

def name(node):
    return getattr(node, "id", getattr(node, "attr", None))

def ids(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and name(node.func) == "DAG":
            yield from literal(node)
        for mark in getattr(node, "decorator_list", []):
            if name(mark) == "dag":
                yield node.name
            elif isinstance(mark, ast.Call) and name(mark.func) == "dag":
                yield from literal(mark) or [node.name]

for path in read:
    with open(os.path.join(root, path), "rb") as file:
        source = file.read()
    try:
        if path in known:
            compile(source, path, "exec", dont_inherit=True)
            dags[path] = known[path]
        else:
            dags[path] = sorted(set(ids(ast.parse(source, path))))
    except (SyntaxError, ValueError, RecursionError) as error:
        line = getattr(error, "lineno", None)
        errors[path] = "{}{}".format(getattr(error, "msg", error), ", line {}".format(line) if line else "")
answer = {"check": "syntax", "dags": dags, "errors": errors}
try:
    from opskit.platforms.core import dag_files
except ImportError:
    pass
else:
    answer = dag_files.check_as_json(root, [path for path in load if path not in errors])
    answer["dags"] = dict(dags, **answer["dags"])
    answer["errors"].update(errors)
os.write(out, json.dumps(answer).encode() + b"\n")
"""
