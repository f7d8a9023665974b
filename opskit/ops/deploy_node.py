# ruff: noqa: UP006, UP035, PTH104, PTH114, PTH117 -- it runs on Python 3.7 too
"""The program that `deploy-dag` runs on each node: stages, checks and switches releases of a DAG folder.

It is sent as source over the connection and needs nothing there but python3 (3.7 or newer) and its standard
library; so it imports nothing but `node_tree`, which is sent with it. It answers requests on stdin one by one: a 4-byte
big-endian length and a JSON object, both ways. It ends when the connection ends, and the kernel frees its lock with it.

    <parent>/dags                              → .opskit-releases/<name>, a symbolic link, switched by rename
    <parent>/.opskit-releases/<name>/          a release: the whole tree, never changed again
    <parent>/.opskit-releases/<name>.json      its manifest: hash, policy, files {path: [sha256, size, executable]}
    <parent>/.opskit-releases/<name>.staging/  a release in the making
    <parent>/.opskit-releases/history.json     the DAG folder it serves, and the releases, oldest first
    <parent>/.opskit-releases/journal          the deployment that is between "prepared" and "finished"
    <parent>/.opskit-releases/lock             one deployment at a time

<name> is the hash of the manifest, with a number behind it where a damaged release had to be made again.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import select
import stat
import struct
import subprocess
import sys
import tarfile
import time
from typing import Any, Dict

from opskit.ops.node_tree import (
    NAME,
    RELEASES,
    Refused,
    check_path,
    exchange,
    file_sha256,
    flush_filesystem,
    leaves_tree,
    manifest_hash,
    remove_file,
    remove_tree,
    resolve_owner,
    scan,
    sync_folder,
    tree_files,
    user_name,
)

Json = Dict[str, Any]


class Node:
    """One DAG folder and its releases. Each public method answers one request; see `serve`."""

    def __init__(self) -> None:
        self.lock = -1
        self.dags = self.root = self.parent = ""
        self.policy: dict[str, str] = {}
        self.uid = self.gid = -1
        self.have: dict[str, str] = {}
        """sha256 → a file of the current tree with this content."""
        self.staging = self.name = ""
        self.reused = False

    # -- first words

    def hello(self, request: Json) -> Json:
        """Take the lock (unless it is only to look), clear away what a killed deployment left, and tell what is."""
        dags = os.path.expanduser(request["dags"])
        if not os.path.isabs(dags) or os.path.normpath(dags) == "/":
            raise Refused("usage", "the DAG folder {!r} must be an absolute path".format(request["dags"]))
        parent = os.path.realpath(os.path.dirname(os.path.normpath(dags)))
        if not os.path.isdir(parent):
            raise Refused("remote", f"the folder {parent} does not exist", "create it, or set [deploy] dags_folder")
        self.parent, self.dags = parent, os.path.join(parent, os.path.basename(os.path.normpath(dags)))
        self.root = os.path.join(parent, RELEASES)
        self.policy = request["policy"]
        self.uid, self.gid = resolve_owner(self.policy)
        if request["lock"]:
            self.take_lock(request["who"])
            self.clear_leftovers()
        return self.observe()

    def look(self, request: Json) -> Json:
        """Tell again what is here."""
        return self.observe()

    def take_lock(self, who: str) -> None:
        if not os.path.lexists(self.root):
            if not os.access(self.parent, os.W_OK):
                raise Refused(
                    "remote",
                    f"{user_name()} may not write to {self.parent}",
                    "releases lie beside the DAG folder: give the user that folder, or log in as another",
                )
            os.mkdir(self.root, 0o700)
            self.own(self.root, int(self.policy["dir_mode"], 8))
        if not stat.S_ISDIR(os.lstat(self.root).st_mode):
            raise Refused("guard", f"{self.root} is not a folder")
        served = self.history()["dags"]
        if served != self.dags:
            raise Refused("guard", f"{self.root} belongs to the DAG folder {served}")
        path = os.path.join(self.root, "lock")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o660)
        deadline = time.monotonic() + 3.0  # a deployment that was killed just now needs a moment to let go
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    owner = os.pread(descriptor, 4096, 0).decode(errors="replace").strip()
                    raise Refused(
                        "lock",
                        "another deployment is at work on {}: {}".format(self.dags, owner or "unknown"),
                        "wait until it has ended; its lock goes with it",
                    ) from None
                time.sleep(0.05)
        text = "{} since {}".format(who, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())).encode()
        os.pwrite(descriptor, text, 0)
        os.ftruncate(descriptor, len(text))
        self.lock = descriptor

    def clear_leftovers(self) -> None:
        """Remove what no release, journal or link names: staging, links in the making, releases half removed."""
        journal = self.journal()
        kept = {self.current_name()} | ({journal["new"], journal["old"]["name"]} if journal else set())
        kept.update(self.history()["releases"])
        complete = os.path.exists(os.path.join(self.root, "history.json"))
        for name in os.listdir(self.root):
            path = os.path.join(self.root, name)
            stem = name[:-5] if name.endswith(".json") else name
            if name.endswith(".staging") and NAME.fullmatch(name[: -len(".staging")]):
                remove_tree(path)
            elif name.endswith((".tmp", ".link")) or (NAME.fullmatch(name) and os.path.islink(path)):
                os.unlink(path)
            elif NAME.fullmatch(stem) and stem not in kept and complete:
                remove_tree(path) if stem == name else os.unlink(path)

    def observe(self) -> Json:
        kind, name = self.current()
        observed: Json = {
            "user": user_name(),
            "python": "{}.{}.{}".format(*sys.version_info[:3]),
            "dags": self.dags,
            "kind": kind,
            "current": name,
            "manifest": None,
            "problems": {},
            "releases": [],
            "journal": self.journal(),
        }
        if name is not None:
            observed["manifest"] = self.manifest(name)
        elif kind == "folder":
            files, others = tree_files(self.dags)
            observed["manifest"] = {"hash": None, "policy": None, "files": files, "dags": {}}
            observed["problems"] = others
        if os.path.isdir(self.root):
            for release in self.history()["releases"]:
                try:
                    manifest = self.manifest(release)
                except Refused:
                    continue  # damaged: not offered
                observed["releases"].append(
                    dict({key: manifest.get(key) for key in ("hash", "at", "by", "source")}, name=release)
                )
        return observed

    def current(self) -> tuple[str, str | None]:
        """("absent", None), ("folder", None) or ("link", release)."""
        try:
            info = os.lstat(self.dags)
        except FileNotFoundError:
            return "absent", None
        if stat.S_ISDIR(info.st_mode):
            return "folder", None
        if stat.S_ISLNK(info.st_mode):
            target = os.readlink(self.dags)
            folder, _, name = target.partition("/")
            if folder == RELEASES and NAME.fullmatch(name):
                return "link", name
            raise Refused(
                "guard",
                f"{self.dags} is a symbolic link to {target}, which opskit did not make",
                "remove the link, or set [deploy] dags_folder to another folder",
            )
        raise Refused("guard", f"{self.dags} is neither a folder nor a link")

    def current_name(self) -> str | None:
        return self.current()[1]

    def manifest(self, name: str) -> Json:
        try:
            with open(os.path.join(self.root, name + ".json"), encoding="utf-8") as file:
                found: Json = json.load(file)
        except (OSError, ValueError) as error:
            raise Refused(
                "verification",
                f"the manifest of release {name} can't be read: {error}",
                "deploy the whole DAG folder again",
            ) from None
        return found

    def history(self) -> Json:
        found = self.read_json("history.json")
        return found if found is not None else {"dags": self.dags, "releases": []}

    def journal(self) -> Json | None:
        found = self.read_json("journal")
        if found is not None:
            found["switched"] = self.current_name() == found["new"]
        return found

    def read_json(self, name: str) -> Json | None:
        path = os.path.join(self.root, name)
        try:
            with open(path, encoding="utf-8") as file:
                found: Json = json.load(file)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValueError as error:
            raise Refused("verification", f"{path} is damaged: {error}", "move it away by hand") from None
        return found

    # -- staging

    def need(self, request: Json) -> Json:
        """Which contents the controller has to send: those that are not, unchanged, in the current tree."""
        kind, _ = self.current()
        self.have = {}
        wanted = {entry[0] for entry in request["files"].values()}
        if kind != "absent":
            base = os.path.realpath(self.dags)
            files, _, _ = scan(base)
            for path in files:
                digest = file_sha256(os.path.join(base, path))
                if digest in wanted:
                    self.have.setdefault(digest, os.path.join(base, path))
        return {"missing": sorted(wanted - set(self.have))}

    def stage(self, request: Json, payload: Payload) -> Json:
        """Build the tree in staging: contents from the current tree and from the payload (a tar.gz, members named by
        sha256), with owner, group and mode."""
        manifest = request["manifest"]
        files = manifest["files"]
        name = self.free_name(manifest["hash"])
        staging = os.path.join(self.root, name + ".staging")
        os.mkdir(staging, 0o700)
        self.staging, self.name, self.reused = staging, name, False
        paths: dict[str, list[str]] = {}
        for path, entry in files.items():
            paths.setdefault(entry[0], []).append(check_path(path))
        folders = {""}
        for path in files:
            parts = path.split("/")[:-1]
            folders.update("/".join(parts[: count + 1]) for count in range(len(parts)))
        for folder in sorted(folders):
            if folder:
                os.mkdir(os.path.join(staging, folder), 0o700)
        sent = 0
        stream: Any = payload
        if request["payload"]:
            with tarfile.open(fileobj=stream, mode="r|gz") as archive:
                for member in archive:
                    source = archive.extractfile(member) if member.isreg() else None
                    if source is None or member.name not in paths:
                        raise Refused("verification", f"the archive holds {member.name!r}, which the manifest does not")
                    data = source.read()
                    for path in paths.pop(member.name):
                        self.write_file(os.path.join(staging, path), data, files[path][2])
                    sent += 1
        linked = 0
        for digest, targets in paths.items():
            here = self.have.get(digest)
            if here is None:
                raise Refused("verification", f"{targets[0]!r} was not sent")
            for path in targets:
                linked += self.link_or_copy(here, os.path.join(staging, path), files[path][2])
        for folder in sorted(folders, reverse=True):
            self.own(os.path.join(staging, folder), int(self.policy["dir_mode"], 8))
        flush_filesystem(staging)
        return {"name": name, "sent": sent, "linked": linked}

    def free_name(self, digest: str) -> str:
        """The manifest's hash, or with a number when that release exists (and is damaged, or it would be reused)."""
        name, number = digest, 1
        while os.path.lexists(os.path.join(self.root, name)):
            number += 1
            name = f"{digest}.{number}"
        return name

    def drop(self, request: Json) -> Json:
        """Remove what is staged and not yet prepared."""
        if self.staging and not self.reused:
            remove_tree(self.staging)
        self.staging = ""
        return {}

    def choose(self, request: Json) -> Json:
        """Make an existing release the one to switch to."""
        name = request["name"]
        if not NAME.fullmatch(name) or not os.path.isdir(os.path.join(self.root, name)):
            raise Refused("usage", f"there is no release {name!r}")
        self.staging, self.name, self.reused = os.path.join(self.root, name), name, True
        return {"name": name}

    def write_file(self, path: str, data: bytes, executable: bool) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(data)
        self.own(path, self.file_mode(executable))

    def link_or_copy(self, source: str, target: str, executable: bool) -> int:
        info = os.lstat(source)
        wanted = self.file_mode(executable)
        same = stat.S_IMODE(info.st_mode) == wanted and self.uid in (-1, info.st_uid) and self.gid in (-1, info.st_gid)
        # A file of a plain folder is edited in place by someone; releases share inodes only among themselves.
        if same and source.startswith(self.root + "/"):
            try:
                os.link(source, target, follow_symlinks=False)
                return 1
            except OSError:
                pass  # a file system without hard links, or too many of them
        with open(source, "rb") as file:
            self.write_file(target, file.read(), executable)
        return 0

    def file_mode(self, executable: bool) -> int:
        mode = int(self.policy["file_mode"], 8)
        return mode | ((mode & 0o444) >> 2) if executable else mode

    def own(self, path: str, mode: int) -> None:
        if self.uid != -1 or self.gid != -1:
            try:
                os.chown(path, self.uid, self.gid)
            except PermissionError:
                raise Refused(
                    "remote",
                    "{} may not give {} to {}:{}".format(
                        user_name(), path, self.policy["owner"] or "-", self.policy["group"] or "-"
                    ),
                    "log in as root or as the owner, or change [deploy] owner and group",
                ) from None
        os.chmod(path, mode)

    # -- checks

    def verify(self, request: Json) -> Json:
        """Compare a tree with its manifest: content, mode, owner of every file, and nothing beside them."""
        if request.get("current"):
            name = self.current_name()
            assert name is not None
            tree, manifest = os.path.join(self.root, name), self.manifest(name)
        elif self.reused:
            tree, manifest = self.staging, self.manifest(self.name)
        else:
            tree, manifest = self.staging, request["manifest"]
        differences = self.differences(tree, manifest, strict_modes=manifest["policy"] is not None)
        return {"files": len(manifest["files"]), "differences": differences[:20]}

    def differences(self, tree: str, manifest: Json, strict_modes: bool) -> list[str]:
        files, folders, others = scan(tree)
        wanted = manifest["files"]
        found = [f"{path}: {text}" for path, text in others.items() if strict_modes]
        found += [f"{path}: missing" for path in wanted if path not in files]
        found += [f"{path}: not in the manifest" for path in files if path not in wanted]
        for path, info in files.items():
            if path not in wanted:
                continue
            digest, size, executable = wanted[path]
            if info.st_size != size or file_sha256(os.path.join(tree, path)) != digest:
                found.append(f"{path}: other content")
            elif strict_modes:
                found += self.differences_of_mode(path, info, self.file_mode(executable))
        if strict_modes:
            for path, info in folders.items():
                found += self.differences_of_mode(path, info, int(self.policy["dir_mode"], 8))
        return sorted(found)

    def differences_of_mode(self, path: str, info: os.stat_result, mode: int) -> list[str]:
        if stat.S_IMODE(info.st_mode) != mode:
            return [f"{path}: mode {stat.S_IMODE(info.st_mode):o} and not {mode:o}"]
        if self.uid not in (-1, info.st_uid) or self.gid not in (-1, info.st_gid):
            return [f"{path}: belongs to {info.st_uid}:{info.st_gid}"]
        return []

    def parse(self, request: Json) -> Json:
        """Load the DAG files with this node's interpreter: by opskit's own loader where it is installed, else their
        syntax. Answers {check, dags: {path: [dag_id]}, errors: {path: text}}."""
        tree = os.path.realpath(self.dags) if request.get("current") else self.staging
        environment = dict(os.environ, PYTHONDONTWRITEBYTECODE="1")
        command = [sys.executable, "-c", PARSE, tree]
        child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            cwd="/",
            start_new_session=True,
        )
        try:
            out, err = child.communicate(
                json.dumps([request["load"], request["read"], request.get("known", {})]).encode(),
                timeout=request["timeout"],
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
                "dag",
                "the check of the DAG files ended with {}: {}".format(child.returncode, lines[-1] if lines else ""),
            )
        answer: Json = json.loads(out.splitlines()[-1].decode())
        if answer["check"] != "syntax" and not request.get("current"):
            # User code ran beside the files: nothing may have changed in them.
            changed = self.differences(self.staging, request["manifest"], strict_modes=True)
            if changed:
                raise Refused("dag", f"loading the DAG files changed the DAG folder: {changed[0]}")
        return answer

    # -- the switch

    def prepare(self, request: Json) -> Json:
        """Give the staged release its name, and write down what is about to happen. From here on a killed deployment
        can be finished or undone."""
        kind, current = self.current()
        old = {"kind": kind, "name": current}
        if kind == "folder":
            self.try_exchange()
            files, others = tree_files(self.dags)
            escaping = [path for path in others if leaves_tree(self.dags, path)]
            if escaping:
                raise Refused(
                    "guard",
                    f"{self.dags}/{escaping[0]} is {others[escaping[0]]}: as part of a release it would break",
                    "replace it by an absolute link or by a file, then deploy again",
                )
            manifest: Json = {
                "files": files,
                "policy": None,
                "hash": manifest_hash(files, None),
                "dags": {},
                "at": request["at"],
                "by": "the folder before the first deployment",
                "source": self.dags,
            }
            manifest_name = self.free_name(manifest["hash"])
            old["name"] = manifest_name
            self.write_json(manifest_name + ".json", manifest)
        if not self.reused:
            self.write_json(self.name + ".json", request["manifest"])
            os.rename(self.staging, os.path.join(self.root, self.name))
            self.staging = ""
        journal = {
            "deployment": request["deployment"],
            "who": request["who"],
            "at": request["at"],
            "hosts": request["hosts"],
            "old": old,
            "new": self.name,
            "reused": self.reused,
            "rollback": request["rollback"],
        }
        self.write_json("journal", journal)
        return {}

    def try_exchange(self) -> None:
        """Find out before any host has switched whether a plain DAG folder can change places with a link."""
        names = [os.path.join(self.root, name) for name in ("first.link", "second.link")]
        try:
            if os.lstat(self.dags).st_dev != os.lstat(self.root).st_dev or os.path.ismount(self.dags):
                raise OSError(errno.EXDEV, "it is a mount point")
            for name in names:
                os.symlink("nowhere", name)
            exchange(*names)
        except OSError as error:
            raise Refused(
                "remote",
                f"{self.dags} is a plain folder and can't change places with a link in one step: {error.strerror}",
                "where it is a mount point, set [deploy] dags_folder to a folder below it; else move it away by hand "
                "while nothing runs, and deploy the whole folder",
            ) from None
        finally:
            for name in names:
                remove_file(name)

    def switch(self, request: Json) -> Json:
        """Point the DAG folder to the prepared release, in one step."""
        journal = self.journal()
        if journal is None:
            raise Refused("verification", "nothing is prepared on this node")
        if not journal["switched"]:
            self.point_to(journal["new"], journal["old"])
        return {"at": time.time()}

    def point_to(self, name: str, old: Json) -> None:
        kind, _ = self.current()
        target = RELEASES + "/" + name
        if kind == "folder":
            # The old folder takes the place of a link that is made under its future name.
            place = os.path.join(self.root, old["name"])
            if os.path.lexists(place):
                raise Refused("guard", f"{place} is in the way")
            os.symlink(target, place)
            exchange(place, self.dags)
        else:
            link = os.path.join(self.root, "next.link")
            if os.path.lexists(link):
                os.unlink(link)
            os.symlink(target, link)
            os.rename(link, self.dags)
        sync_folder(self.parent)

    def confirm(self, request: Json) -> Json:
        """Read back where the DAG folder points, and the hash of what lies there."""
        name = self.current_name()
        journal = self.journal()
        if name is None or journal is None or name != journal["new"]:
            raise Refused("verification", "the DAG folder does not point to the new release")
        manifest = self.manifest(name)
        files, _, _ = scan(os.path.realpath(self.dags))
        if (
            set(files) != set(manifest["files"])
            or manifest_hash(manifest["files"], manifest["policy"]) != manifest["hash"]
        ):
            raise Refused("verification", f"the release {name} is not what its manifest says")
        return {"name": name, "hash": manifest["hash"]}

    def finish(self, request: Json) -> Json:
        """Forget the journal, remember the release, and remove those that are too old."""
        journal = self.journal()
        if journal is None:
            return {"removed": []}
        history = self.history()
        order, old, new = history["releases"], journal["old"], journal["new"]
        if old["kind"] == "folder" and old["name"] not in order:
            order.append(old["name"])
        if not journal["rollback"]:
            # Releases that were rolled back become the oldest: the way back from here leads to what ran before.
            last = order.index(old["name"]) + 1 if old["name"] in order else len(order)
            order = [name for name in order[last:] + order[:last] if name != new] + [new]
        pointed = {
            os.readlink(entry.path).rpartition("/")[2] for entry in os.scandir(self.parent) if entry.is_symlink()
        }
        keep = set(order[-(request["keep"] + 1) :]) | pointed | {new}
        history["releases"] = [name for name in order if name in keep]
        self.write_json("history.json", history)
        os.unlink(os.path.join(self.root, "journal"))
        sync_folder(self.root)
        removed = [name for name in order if name not in keep]
        for name in removed:
            remove_tree(os.path.join(self.root, name))
            os.unlink(os.path.join(self.root, name + ".json"))
        return {"removed": removed}

    def back(self, request: Json) -> Json:
        """Undo: point the DAG folder to what was there before, then forget the deployment."""
        journal = self.journal()
        if journal is not None:
            old = journal["old"]
            if journal["switched"]:
                if old["kind"] == "link":
                    self.point_to(old["name"], old)
                elif old["kind"] == "folder":
                    place = os.path.join(self.root, old["name"])
                    exchange(place, self.dags)
                    os.unlink(place)
                else:
                    os.unlink(self.dags)
                sync_folder(self.parent)
            if old["kind"] == "folder":
                remove_file(os.path.join(self.root, old["name"] + ".json"))
            os.unlink(os.path.join(self.root, "journal"))
            if not journal["reused"]:
                remove_tree(os.path.join(self.root, journal["new"]))
                remove_file(os.path.join(self.root, journal["new"] + ".json"))
        self.clear_leftovers()
        return {}

    def write_json(self, name: str, data: Json) -> None:
        path = os.path.join(self.root, name)
        descriptor = os.open(path + ".tmp", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump(data, file)
            file.flush()
            os.fsync(file.fileno())
        self.own(path + ".tmp", int(self.policy["file_mode"], 8))
        os.rename(path + ".tmp", path)
        sync_folder(self.root)


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


class Payload:
    """The next `size` bytes of the input as a file."""

    def __init__(self, size: int) -> None:
        self.rest = size

    def read(self, size: int = -1) -> bytes:
        wanted = self.rest if size < 0 else min(size, self.rest)
        data = os.read(0, min(wanted, 1 << 18)) if wanted else b""
        if wanted and not data:
            raise EOFError
        self.rest -= len(data)
        return data


def read_exactly(size: int) -> bytes:
    parts = []
    while size:
        part = os.read(0, min(size, 1 << 18))
        if not part:
            raise EOFError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def serve() -> None:
    # What the checks print must not run into the answers.
    out = os.dup(1)
    os.dup2(2, 1)
    os.umask(0o077)
    node = Node()
    send(out, b"opskit-node-1\n")
    try:
        converse(node, out)
    except (EOFError, BrokenPipeError):
        pass  # the controller is gone; so are we, and our lock
    finally:
        node.drop({})


def converse(node: Node, out: int) -> None:
    """Answer requests until there are no more; EOFError at the end of the connection."""
    idle = 60.0
    while True:
        if not select.select([0], [], [], idle)[0]:
            return  # the controller is gone without a goodbye: the lock must not outlive it
        request = json.loads(read_exactly(struct.unpack(">I", read_exactly(4))[0]).decode())
        idle = request.get("idle", idle)
        payload = Payload(request.get("payload", 0))
        try:
            method = getattr(node, request["op"])
            answer = method(request, payload) if request["op"] == "stage" else method(request)
        except Refused as refused:
            answer = {"error": [refused.kind, refused.message, refused.hint]}
        except tarfile.TarError as error:
            answer = {"error": ["verification", f"the archive arrived damaged: {error}", None]}
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            answer = {"error": ["remote", f"{error.strerror or error}{where}", None]}
        while payload.rest:
            payload.read(1 << 18)
        data = json.dumps(answer).encode()
        send(out, struct.pack(">I", len(data)) + data)


def send(out: int, data: bytes) -> None:
    while data:
        data = data[os.write(out, data) :]


if __name__ == "__main__":
    serve()
