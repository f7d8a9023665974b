# ruff: noqa: UP035, PTH104, PTH114, PTH117 -- it runs on Python 3.7 too
"""One DAG folder on a node and the releases beside it. Sent to the nodes with `deploy_node`, which shows the files."""

from __future__ import annotations

import fcntl
import os
import stat
import time

from opskit.ops.node_tree import (
    RELEASES,
    Refused,
    exchange,
    file_sha256,
    flush_file,
    flush_filesystem,
    is_release_name,
    remove_file,
    remove_tree,
    resolve_owner,
    scan,
    seal_of,
    sync_folder,
    user_name,
)
from opskit.ops.node_wire import to_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from opskit.ops.node_wire import Json

_BESIDE = (".json", ".in-use", ".seal")
"""What lies beside the folder of a release, under its name."""


class Node:
    """What the requests of one conversation share. `open` comes first."""

    def __init__(self) -> None:
        self.descriptor = -1
        self.dags = self.root = self.parent = ""
        self.policy: dict[str, str] = {}
        self.uid = self.gid = -1
        self.have: dict[str, str] = {}
        """sha256 → a file on this node with this content."""
        self.staging = self.name = ""
        self.reused = self.receiving = False
        self.clones = True
        """Whether the file system can share blocks, as far as we know."""
        self.expected: Json | None = None
        """The files of the release that was staged."""
        self.seal = ""
        """Of the release that was switched to, when it was found to be what its manifest says."""
        self.noted: Json | None = None
        """The journal, when this conversation wrote it."""

    def open(self, dags: str, policy: dict[str, str]) -> None:
        folder = os.path.expanduser(dags)
        if not os.path.isabs(folder) or os.path.normpath(folder) == "/" or "\n" in folder:
            raise Refused("usage", f"the DAG folder {dags!r} must be an absolute path")
        parent = os.path.realpath(os.path.dirname(os.path.normpath(folder)))
        if not os.path.isdir(parent):
            raise Refused("remote", f"the folder {parent} does not exist", "create it, or set [deploy] dags_folder")
        self.parent, self.dags = parent, os.path.join(parent, os.path.basename(os.path.normpath(folder)))
        self.root = os.path.join(parent, RELEASES)
        self.policy = policy
        self.uid, self.gid = resolve_owner(policy)

    def lock(self, who: str) -> None:
        """One deployment at a time: the lock lives as long as this process."""
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
        served = self.history()[0]
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
        self.descriptor = descriptor

    def clear_leftovers(self) -> None:
        """Remove what no release, journal or link names: staging, links in the making, releases half removed.

        What an interrupted transfer has left (`.partial`) stays for the next one, which takes its contents from it.
        """
        journal = self.journal()
        kept = {self.current()[1]} | ({journal["new"], journal["old"]["name"]} if journal else set())
        kept.update(self.history()[1])
        complete = os.path.exists(os.path.join(self.root, "history"))
        for name in os.listdir(self.root):
            path = os.path.join(self.root, name)
            stem, ending = os.path.splitext(name)
            if ending not in (*_BESIDE, ".staging", ".partial"):
                stem, ending = name, ""
            if ending == ".staging" and is_release_name(stem):
                remove_tree(path)
            elif name.endswith((".tmp", ".link")) or (is_release_name(name) and os.path.islink(path)):
                os.unlink(path)
            elif ending != ".partial" and is_release_name(stem) and stem not in kept and complete:
                os.unlink(path) if ending else remove_tree(path)

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
            if folder == RELEASES and is_release_name(name):
                return "link", name
            raise Refused(
                "guard",
                f"{self.dags} is a symbolic link to {target}, which opskit did not make",
                "remove the link, or set [deploy] dags_folder to another folder",
            )
        raise Refused("guard", f"{self.dags} is neither a folder nor a link")

    def current_tree(self) -> str:
        return os.path.realpath(self.dags)

    def is_sealed(self, name: str) -> bool:
        """Whether nobody has touched a release since it was last found to be what its manifest says."""
        return self.read(name + ".seal") == seal_of(*scan(os.path.join(self.root, name)))

    # -- records

    def manifest(self, name: str) -> Json:
        import json

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

    def history(self) -> tuple[str, list[str]]:
        """(the DAG folder that is served, its releases, oldest first)."""
        text = self.read("history")
        if text is None:
            return self.dags, []
        lines = text.split("\n")
        names = [line for line in lines[1:] if line]
        if not lines[0].startswith("/") or not all(is_release_name(name) for name in names):
            raise Refused("verification", f"{self.root}/history is damaged", "move it away by hand")
        return lines[0], names

    def write_history(self, names: list[str]) -> None:
        self.write("history", "\n".join([self.dags, *names]) + "\n")

    def journal(self) -> Json | None:
        """The deployment that is between "prepared" and "finished", and whether it has switched here."""
        found = self.noted
        if found is None:
            text = self.read("journal")
            if text is None:
                return None
            import json

            try:
                found = json.loads(text)
            except ValueError as error:
                path = os.path.join(self.root, "journal")
                raise Refused("verification", f"{path} is damaged: {error}", "move it away by hand") from None
        return dict(found, switched=self.current()[1] == found["new"])

    def write_journal(self, journal: Json, with_all: bool) -> None:
        """On disk for good, and before it, `with_all`, whatever was written to this file system."""
        self.write("journal", to_json(journal), flush_filesystem if with_all else flush_file)
        sync_folder(self.root)
        self.noted = journal

    def forget_journal(self) -> None:
        os.unlink(os.path.join(self.root, "journal"))
        sync_folder(self.root)
        self.noted = None

    def read(self, name: str) -> str | None:
        try:
            with open(os.path.join(self.root, name), encoding="utf-8") as file:
                return file.read()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write(self, name: str, text: str, flush: Callable[[int], None] | None = flush_file) -> None:
        """Replace a file in one step. With `flush`, its name never stands for less than its content."""
        path = os.path.join(self.root, name)
        descriptor = os.open(path + ".tmp", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            if flush is not None:
                flush(file.fileno())
        self.own(path + ".tmp", int(self.policy["file_mode"], 8))
        os.rename(path + ".tmp", path)

    # -- releases

    def free_name(self, digest: str) -> str:
        """The manifest's hash, or with a number when that release exists (and is damaged, or it would be reused)."""
        name, number = digest, 1
        while os.path.lexists(os.path.join(self.root, name)):
            number += 1
            name = f"{digest}.{number}"
        return name

    def remove_release(self, name: str) -> None:
        remove_tree(os.path.join(self.root, name))
        for ending in _BESIDE:
            remove_file(os.path.join(self.root, name + ending))

    def remove_unused(self, name: str) -> bool:
        """Remove a release, unless a process holds a lock on `<name>.in-use` or stands in its folder."""
        descriptor = -1
        try:
            descriptor = os.open(os.path.join(self.root, name + ".in-use"), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            pass
        try:
            if descriptor >= 0:
                # Kept until it is gone: nobody begins to use it meanwhile.
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if self._is_workplace(os.path.join(self.root, name)):
                return False
            self.remove_release(name)
            return True
        except BlockingIOError:
            return False
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def _is_workplace(self, tree: str) -> bool:
        """Whether it is the current directory of a process, as far as we may see."""
        for process in os.listdir("/proc"):
            if process.isdigit():
                try:
                    place = os.readlink(f"/proc/{process}/cwd")
                except OSError:
                    continue  # it ended, or belongs to somebody else
                if place == tree or place.startswith(tree + "/"):
                    return True
        return False

    def point_to(self, name: str, old: Json) -> None:
        """Let the DAG folder be a release, in one step. It lasts after the next `sync_folder` of the parent."""
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

    # -- owners, modes, comparison

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

    def compare(self, tree: str, wanted: Json, strict_modes: bool, contents: bool = True) -> Json:
        """How a tree differs from its manifest's files: {missing, extra, edited, modes}, lists of texts; empty without
        a difference. `contents` False trusts the sizes."""
        return self.compare_scanned(tree, scan(tree), wanted, strict_modes, contents)

    def compare_scanned(self, tree: str, scanned: Any, wanted: Json, strict_modes: bool, contents: bool) -> Json:
        files, folders, others = scanned
        edited, modes = [], []
        for path, info in files.items():
            if path not in wanted:
                continue
            digest, size, executable = wanted[path]
            if info.st_size != size or (contents and file_sha256(os.path.join(tree, path)) != digest):
                edited.append(path)
            elif strict_modes:
                modes += self._mode_difference(path, info, self.file_mode(executable))
        if strict_modes:
            for path, info in folders.items():
                modes += self._mode_difference(path, info, int(self.policy["dir_mode"], 8))
        found = {
            "missing": [path for path in wanted if path not in files],
            "extra": [path for path in files if path not in wanted]
            + [f"{path} ({text})" for path, text in others.items() if strict_modes],
            "edited": edited,
            "modes": modes,
        }
        return {kind: sorted(texts) for kind, texts in found.items() if texts}

    def _mode_difference(self, path: str, info: os.stat_result, mode: int) -> list[str]:
        if stat.S_IMODE(info.st_mode) != mode:
            return [f"{path}: mode {stat.S_IMODE(info.st_mode):o} and not {mode:o}"]
        if self.uid not in (-1, info.st_uid) or self.gid not in (-1, info.st_gid):
            return [f"{path}: belongs to {info.st_uid}:{info.st_gid}"]
        return []
