# ruff: noqa: UP006, UP035 -- it runs on Python 3.7 too
"""The program that `deploy-dag` and `dags-drift` run on each node: stages, checks, switches and compares releases.

It is sent over the connection with the `node_*` modules and needs nothing there but python3 (3.7 or newer) and its
standard library. It answers requests on stdin one by one (see `node_wire`), ends when the connection ends, and the
kernel frees its lock with it.

    <parent>/dags                              → .opskit-releases/<name>, a symbolic link, switched by rename
    <parent>/.opskit-releases/<name>/          a release: the whole tree, never changed again
    <parent>/.opskit-releases/<name>.json      its manifest: hash, policy, files {path: [sha256, size, executable]}
    <parent>/.opskit-releases/<name>.in-use    whoever still uses the release holds a shared flock on it
    <parent>/.opskit-releases/<name>.seal      what the kernel said of the tree when it was last verified
    <parent>/.opskit-releases/<name>.staging/  a release in the making
    <parent>/.opskit-releases/<name>.partial/  what had arrived when a transfer broke off
    <parent>/.opskit-releases/history          the DAG folder it serves, then the releases, oldest first
    <parent>/.opskit-releases/journal          the deployment that is between "prepared" and "finished"
    <parent>/.opskit-releases/lock             one deployment at a time

<name> is the hash of the manifest, with a number behind it where a damaged release had to be made again.
"""

from __future__ import annotations

import os
import sys
import time
import zlib

from opskit.ops import node_check, node_stage, node_switch, node_wire
from opskit.ops.node_store import Node
from opskit.ops.node_tree import Refused, is_release_name, tree_files, user_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict

    from opskit.ops.node_wire import Json


def hello(node: Node, request: Json) -> Json:
    """Take the lock (unless it is only to look), clear away what a killed deployment left, and tell what is."""
    node.open(request["dags"], request["policy"])
    if request["lock"]:
        node.lock(request["who"])
        node.clear_leftovers()
    return look(node, request)


def look(node: Node, _: Json) -> Json:
    """What is here. The manifest of the current release is told as it lies there, for the controller to read."""
    kind, name = node.current()
    observed: Json = {
        "user": user_name(),
        "python": "{}.{}.{}".format(*sys.version_info[:3]),
        "environment": node_check.environment(),
        "clock": time.time(),
        "dags": node.dags,
        "kind": kind,
        "current": name,
        "sealed": False,
        "manifest": None,
        "files": None,
        "problems": {},
        "releases": [],
        "partial": False,
        "journal": None,
    }
    if name is not None:
        observed["manifest"] = node.read(name + ".json")
        if observed["manifest"] is None or not os.path.isdir(os.path.join(node.root, name)):
            node.manifest(name)  # says what is wrong with it
            raise Refused("verification", f"the release {name} is gone", "deploy the whole DAG folder again")
        observed["sealed"] = node.is_sealed(name)
    elif kind == "folder":
        observed["files"], observed["problems"] = tree_files(node.dags)
    if os.path.isdir(node.root):
        names = os.listdir(node.root)
        # One without a manifest is damaged: not offered.
        observed["releases"] = [name for name in node.history()[1] if name + ".json" in names]
        observed["partial"] = any(name.endswith(".partial") for name in names)
        observed["journal"] = node.journal()
    return observed


def inspect(node: Node, request: Json) -> Json:
    """Compare the current tree with `files`, every byte of it; with `deep` False an untouched release is believed."""
    kind, name = node.current()
    if kind == "absent":
        return {"name": None, "differences": {"missing": sorted(request["files"])}}
    if name is not None and not request["deep"] and node.is_sealed(name):
        return {"name": name, "differences": {}}
    return {
        "name": name,
        "differences": node.compare(node.current_tree(), request["files"], strict_modes=kind == "link"),
    }


def describe(node: Node, request: Json) -> Json:
    """The manifest of a release."""
    if not is_release_name(request["name"]):
        raise Refused("usage", "there is no release {!r}".format(request["name"]))
    return {"manifest": node.manifest(request["name"])}


def fetch(node: Node, request: Json) -> Json:
    """The contents with these hashes that lie in the current release: {sha256: zlib-compressed, as hex digits}."""
    name = node.current()[1]
    found: Json = {}
    if name is not None and is_release_name(name):
        for path, (digest, size, _) in node.manifest(name)["files"].items():
            if digest in request["digests"] and digest not in found:
                with open(os.path.join(node.root, name, path), "rb") as file:
                    found[digest] = zlib.compress(file.read(size), 1).hex()
    return {"contents": found}


OPERATIONS: Dict[str, Callable[..., Json]] = {
    "hello": hello,
    "look": look,
    "inspect": inspect,
    "describe": describe,
    "fetch": fetch,
    "need": node_stage.need,
    "stage": node_stage.stage,
    "drop": node_stage.drop,
    "choose": node_stage.choose,
    "parse": node_check.parse,
    "prepare": node_switch.prepare,
    "switch": node_switch.switch,
    "finish": node_switch.finish,
    "tidy": node_switch.tidy,
    "back": node_switch.back,
}


def serve() -> None:
    # What the checks print must not run into the answers.
    out = os.dup(1)
    os.dup2(2, 1)
    os.umask(0o077)
    node = Node()
    node_wire.send(out, node_wire.MARKER)
    try:
        converse(node, out)
    except (EOFError, BrokenPipeError):
        pass  # the controller is gone; so are we, and our lock
    finally:
        node_stage.drop(node, {})


def converse(node: Node, out: int) -> None:
    """Answer requests until there are no more; EOFError at the end of the connection."""
    idle = 60.0
    while True:
        received = node_wire.receive(idle)
        if received is None:
            return  # the controller is gone without a goodbye: the lock must not outlive it
        request, payload = received
        idle = request["idle"]
        call: Any = OPERATIONS[request["op"]]
        try:
            answer = call(node, request, payload) if request["op"] == "stage" else call(node, request)
        except Refused as refused:
            answer = {"error": [refused.kind, refused.message, refused.hint]}
        except zlib.error as error:
            answer = {"error": ["verification", f"the contents arrived damaged: {error}", None]}
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            answer = {"error": ["remote", f"{error.strerror or error}{where}", None]}
        while payload.rest:
            payload.read()
        node_wire.answer(out, answer)


if __name__ == "__main__":
    serve()
