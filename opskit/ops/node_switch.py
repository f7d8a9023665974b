# ruff: noqa: PTH104 -- it runs on Python 3.7 too
"""Prepares, switches, finishes and undoes on one node. Sent to the nodes with `deploy_node`."""

from __future__ import annotations

import errno
import os
import time

from opskit.ops.node_store import Node
from opskit.ops.node_tree import (
    Refused,
    exchange,
    leaves_tree,
    manifest_hash,
    remove_file,
    scan,
    seal_of,
    sync_folder,
    tree_files,
)
from opskit.ops.node_wire import to_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from opskit.ops.node_wire import Json


def prepare(node: Node, request: Json) -> Json:
    """Give the staged release its name, and write down what is about to happen. From here on a killed deployment can
    be finished or undone."""
    kind, current = node.current()
    old = {"kind": kind, "name": current}
    if kind == "folder":
        old["name"] = _record_folder(node, request)
    if not node.reused:
        node.write(node.name + ".json", request["manifest"], flush=None)
        node.write(node.name + ".in-use", "", flush=None)
        os.rename(node.staging, os.path.join(node.root, node.name))
        node.staging = ""
    node.write_journal(
        {
            "deployment": request["deployment"],
            "who": request["who"],
            "at": request["at"],
            "hosts": request["hosts"],
            "old": old,
            "new": node.name,
            "reused": node.reused,
            "rollback": request["rollback"],
        },
        with_all=not node.reused,
    )
    return {}


def _record_folder(node: Node, request: Json) -> str:
    """A manifest for the plain folder that will become the oldest release; its name."""
    _try_exchange(node)
    files, others = tree_files(node.dags)
    escaping = [path for path in others if leaves_tree(node.dags, path)]
    if escaping:
        raise Refused(
            "guard",
            f"{node.dags}/{escaping[0]} is {others[escaping[0]]}: as part of a release it would break",
            "replace it by an absolute link or by a file, then deploy again",
        )
    manifest: Json = {
        "files": files,
        "policy": None,
        "hash": manifest_hash(files, None),
        "dags": {},
        "at": request["at"],
        "by": "the folder before the first deployment",
        "source": node.dags,
    }
    name = node.free_name(manifest["hash"])
    node.write(name + ".json", to_json(manifest))
    node.write(name + ".in-use", "", flush=None)
    return name


def _try_exchange(node: Node) -> None:
    """Find out before any host has switched whether a plain DAG folder can change places with a link."""
    names = [os.path.join(node.root, name) for name in ("first.link", "second.link")]
    try:
        if os.lstat(node.dags).st_dev != os.lstat(node.root).st_dev or os.path.ismount(node.dags):
            raise OSError(errno.EXDEV, "it is a mount point")
        for name in names:
            os.symlink("nowhere", name)
        exchange(*names)
    except OSError as error:
        raise Refused(
            "remote",
            f"{node.dags} is a plain folder and can't change places with a link in one step: {error.strerror}",
            "where it is a mount point, set [deploy] dags_folder to a folder below it; else move it away by hand "
            "while nothing runs, and deploy the whole folder",
        ) from None
    finally:
        for name in names:
            remove_file(name)


def switch(node: Node, _: Json) -> Json:
    """Point the DAG folder to the prepared release, in one step; then read back what lies there now."""
    journal = node.journal()
    if journal is None:
        raise Refused("verification", "nothing is prepared on this node")
    if not journal["switched"]:
        node.point_to(journal["new"], journal["old"])
    at = time.time()
    sync_folder(node.parent)
    name = node.current()[1]
    if name is None or name != journal["new"]:
        raise Refused("verification", "the DAG folder does not point to the new release")
    if node.expected is not None and not node.reused:
        tree = node.current_tree()
        scanned = scan(tree)
        differences = node.compare_scanned(tree, scanned, node.expected, strict_modes=True, contents=False)
        node.seal = seal_of(*scanned)
        if differences:
            raise Refused("verification", f"the release {name} is not what its manifest says: {differences}")
    return {"at": at, "name": name}


def finish(node: Node, _: Json) -> Json:
    """Remember the release and forget the journal. `tidy` comes next."""
    journal = node.journal()
    if journal is None:
        return {}
    order, old, new = node.history()[1], journal["old"], journal["new"]
    if old["kind"] == "folder" and old["name"] not in order:
        order.append(old["name"])
    if not journal["rollback"]:
        # Releases that were rolled back become the oldest: the way back from here leads to what ran before.
        last = order.index(old["name"]) + 1 if old["name"] in order else len(order)
        order = [name for name in order[last:] + order[:last] if name != new] + [new]
    # Whoever dies before the journal is gone for good does this again.
    node.write_history(order)
    os.unlink(os.path.join(node.root, "journal"))
    node.noted = None
    return {}


def tidy(node: Node, request: Json) -> Json:
    """Remove the releases that are too old and that nobody uses, and seal the one that is used from now on."""
    order, new = node.history()[1], node.current()[1]
    if new is None:
        return {"removed": [], "in_use": []}
    pointed = {os.readlink(entry.path).rpartition("/")[2] for entry in os.scandir(node.parent) if entry.is_symlink()}
    keep = set(order[-(request["keep"] + 1) :]) | pointed | {new}
    surplus = [name for name in order if name not in keep]
    removed = [name for name in surplus if node.remove_unused(name)]
    if removed:
        node.write_history([name for name in order if name not in removed])
    if removed or not node.seal:  # a removal touches the inodes that the releases share
        node.seal = seal_of(*scan(os.path.join(node.root, new)))
    node.write(new + ".seal", node.seal, flush=None)
    return {"removed": removed, "in_use": [name for name in surplus if name not in removed]}


def back(node: Node, _: Json) -> Json:
    """Undo: point the DAG folder to what was there before, then forget the deployment."""
    journal = node.journal()
    if journal is not None:
        old = journal["old"]
        if journal["switched"]:
            if old["kind"] == "link":
                node.point_to(old["name"], old)
            elif old["kind"] == "folder":
                place = os.path.join(node.root, old["name"])
                exchange(place, node.dags)
                os.unlink(place)
            else:
                os.unlink(node.dags)
            sync_folder(node.parent)
        if old["kind"] == "folder":
            for ending in (".json", ".in-use"):
                remove_file(os.path.join(node.root, old["name"] + ending))
        node.forget_journal()
        if not journal["reused"]:
            node.remove_release(journal["new"])
    node.clear_leftovers()
    return {}
