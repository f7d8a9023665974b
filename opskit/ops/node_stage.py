# ruff: noqa: UP035, PTH104 -- it runs on Python 3.7 too
"""Builds a release beside the DAG folder, out of what the node has and what is sent. Sent with `deploy_node`."""

from __future__ import annotations

import os
import stat
import zlib

from opskit.ops.node_store import Node
from opskit.ops.node_tree import (
    Refused,
    check_path,
    clone,
    file_sha256,
    is_release_name,
    new_sha256,
    remove_tree,
    scan,
)
from opskit.ops.node_wire import Payload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterator

    from opskit.ops.node_wire import Json


def need(node: Node, request: Json) -> Json:
    """Which of the `wanted` contents the controller has to send: those that are, unchanged, in no release here.
    `current` False leaves out the current tree: the controller knows what it has."""
    node.have = {}
    wanted = set(request["wanted"])
    for tree, manifest in _trees(node, request["current"]):
        if not wanted:
            break
        for path in _candidates(tree, manifest, wanted):
            try:
                digest = file_sha256(os.path.join(tree, path))
            except OSError:
                continue
            if digest in wanted:
                wanted.discard(digest)
                node.have[digest] = os.path.join(tree, path)
    return {"missing": sorted(wanted)}


def _trees(node: Node, current: bool) -> Iterator[tuple[str, Json | None]]:
    """Where contents may lie: the current tree, other releases with their manifests, what a broken transfer left."""
    kind, name = node.current()
    if current and kind != "absent":
        yield node.current_tree(), None
    if os.path.isdir(node.root):
        for entry in sorted(os.listdir(node.root)):
            if entry.endswith(".partial"):
                yield os.path.join(node.root, entry), None
            elif is_release_name(entry) and entry != name and os.path.isdir(os.path.join(node.root, entry)):
                try:
                    yield os.path.join(node.root, entry), node.manifest(entry)
                except Refused:
                    continue


def _candidates(tree: str, manifest: Json | None, wanted: set[str]) -> list[str]:
    if manifest is None:
        return list(scan(tree)[0])
    return [path for path, entry in manifest["files"].items() if entry[0] in wanted]


def stage(node: Node, request: Json, payload: Payload) -> Json:
    """Build the tree in staging, with owner, group and mode.

    `sending`: the contents in the payload, a zlib stream, one after the other. `reuse`: {sha256: path in the current
    tree}, as its manifest says; only for a tree that is sealed. What arrives is hashed before it is written.
    """
    files, sending = request["files"], request["sending"]
    name = node.free_name(request["hash"])
    staging = os.path.join(node.root, name + ".staging")
    os.mkdir(staging, 0o700)
    node.staging, node.name, node.reused = staging, name, False
    node.expected = files
    if request["reuse"]:
        current = node.current_tree()
        node.have.update({digest: f"{current}/{path}" for digest, path in request["reuse"].items()})
    paths: dict[str, list[str]] = {}
    sizes: dict[str, int] = {}
    folders: set[str] = set()
    for path, (digest, size, _) in files.items():
        paths.setdefault(digest, []).append(check_path(path))
        sizes[digest] = size
        folder = path.rpartition("/")[0]
        while folder and folder not in folders:
            folders.add(folder)
            folder = folder.rpartition("/")[0]
    for folder in sorted(folders):
        os.mkdir(os.path.join(staging, folder), 0o700)
    _write_sent(node, request, payload, paths, sizes)
    linked = 0
    for digest, targets in paths.items():
        here = node.have.get(digest)
        if here is None:
            raise Refused("verification", f"{targets[0]!r} was not sent")
        for path in targets:
            linked += _reuse(node, here, f"{staging}/{path}", files[path][2])
    for folder in [*sorted(folders, reverse=True), ""]:
        node.own(os.path.join(staging, folder), int(node.policy["dir_mode"], 8))
    for entry in os.listdir(node.root):
        if entry.endswith(".partial"):
            remove_tree(os.path.join(node.root, entry))
    return {"name": name, "sent": len(sending), "linked": linked}


def _write_sent(
    node: Node, request: Json, payload: Payload, paths: dict[str, list[str]], sizes: dict[str, int]
) -> None:
    """Take the contents that are sent from `paths` and write them."""
    node.receiving = True
    stream, buffer = zlib.decompressobj(), bytearray()
    for digest in request["sending"]:
        targets = paths.pop(digest, None)
        if targets is None:
            raise Refused("verification", f"{digest} was sent, which the manifest does not have")
        size = sizes[digest]
        while len(buffer) < size:
            data = payload.read()
            if not data:
                raise Refused("verification", f"{targets[0]!r} arrived incomplete")
            buffer += stream.decompress(data)
        content = bytes(buffer[:size])
        del buffer[:size]
        found = new_sha256(size)
        found.update(content)
        if found.hexdigest() != digest:
            raise Refused("verification", f"{targets[0]!r} arrived with other content")
        for path in targets:
            _write_file(node, os.path.join(node.staging, path), content, request["files"][path][2])
    node.receiving = False


def _write_file(node: Node, path: str, content: bytes, executable: bool) -> None:
    mode = node.file_mode(executable)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode & 0o700)
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        if node.uid == -1 and node.gid == -1:
            os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)
    if node.uid != -1 or node.gid != -1:
        node.own(path, mode)


def _reuse(node: Node, source: str, target: str, executable: bool) -> int:
    """Share blocks, else the inode, else copy. 1 when something is shared.

    Blocks are safe against edits in place. A shared inode is not: what runs, and what is rolled back to, is verified.
    """
    info = os.lstat(source)
    wanted = node.file_mode(executable)
    same = stat.S_IMODE(info.st_mode) == wanted and node.uid in (-1, info.st_uid) and node.gid in (-1, info.st_gid)
    # A file of a plain folder is edited in place by someone; releases share inodes only among themselves.
    inside = source.startswith(node.root + "/")
    if node.clones and clone(source, target, wanted):
        node.own(target, wanted)
        return 1
    node.clones = False
    if same and inside:
        try:
            os.link(source, target, follow_symlinks=False)
            return 1
        except OSError:
            pass  # a file system without hard links, or too many of them
    with open(source, "rb") as file:
        _write_file(node, target, file.read(), executable)
    return 0


def drop(node: Node, _: Json) -> Json:
    """Remove what is staged and not yet prepared; keep it when the transfer broke off."""
    if node.staging and not node.reused:
        if node.receiving:
            partial = os.path.join(node.root, node.name + ".partial")
            remove_tree(partial)
            os.rename(node.staging, partial)
        else:
            remove_tree(node.staging)
    node.staging = ""
    return {}


def choose(node: Node, request: Json) -> Json:
    """Make an existing release the one to switch to, and compare it with its manifest."""
    name = request["name"]
    tree = os.path.join(node.root, name)
    if not is_release_name(name) or not os.path.isdir(tree):
        raise Refused("usage", f"there is no release {name!r}")
    node.staging, node.name, node.reused = tree, name, True
    if node.is_sealed(name):
        return {"differences": {}}
    manifest = node.manifest(name)
    return {"differences": node.compare(tree, manifest["files"], strict_modes=manifest["policy"] is not None)}
