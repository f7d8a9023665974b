"""What `opskit permissions` does on one host, this one or another: answers one request.

It is called here, and sent as source to other hosts, together with the modules it imports: those need nothing there but
Python 3.7 and its standard library.

Request: {op: "run" | "undo", home, rules, write, at, who, shown, max_changes, per_second, owner, undo, dry_run}.
Answer: the fields of `Tally`, with `undo` (the path of the undo file, or empty) and `stopped`, or {"failed": [kind,
message, hint]}.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import sys
from collections.abc import Callable
from typing import Any

from opskit.ops import permissions_acl
from opskit.ops.permissions_journal import Journal, open_undo, read
from opskit.ops.permissions_roots import FOLDER, Root, Roots, open_folder, open_root
from opskit.ops.permissions_rules import Refused, State, resolve, why_not_allowed
from opskit.ops.permissions_tree import Enough, Repair, Tally, capabilities, is_unlinked, read_acl, write_state

MARKER = "opskit-permissions-1\n"


def answer(request: dict[str, Any], progress: Callable[[int], None] = lambda _: None) -> dict[str, Any]:
    """Do what is asked. Raises Refused: then nothing was changed."""
    return _undo(request) if request["op"] == "undo" else _run(request, progress)


def _run(request: dict[str, Any], progress: Callable[[int], None]) -> dict[str, Any]:
    home = request["home"]
    rules = resolve(request["rules"], home)
    tally = Tally(request["shown"])
    journal = None
    if request["write"]:
        header = {"opskit_undo": 1, "home": home, "at": request["at"], "who": request["who"]}
        journal = Journal(home, "{}-{}".format(request["at"], os.getpid()), header)
    stopped = False
    with Roots(rules, home, request["owner"]) as roots:
        repair = Repair(
            rules,
            tally,
            journal,
            max_changes=request["max_changes"],
            per_second=request["per_second"],
            progress=progress,
        )
        try:
            repair.run(roots)
        except Enough:
            stopped = True
        finally:
            if journal is not None:
                journal.close()
    return {**tally.as_dict(), "undo": journal.path if journal else "", "stopped": stopped}


def _undo(request: dict[str, Any]) -> dict[str, Any]:
    """Give back what is still as the repair left it. What was changed since is left, and counted as refused."""
    home = request["home"]
    tally = Tally(request["shown"])
    journal, journal_path, author = open_undo(home, request["undo"])
    home_descriptor = open_folder(home)
    euid, groups, rights = os.geteuid(), [os.getegid(), *os.getgroups()], capabilities()
    roots: dict[str, Root] = {}
    try:
        for path, below, identity, old, new in read(journal):
            tally.entries += 1
            name = path + "/" + below if below else path
            try:
                if path not in roots:
                    roots[path] = open_root(path, path, home, home_descriptor, author or None)
                if roots[path].name:
                    name = path  # a rule for a single file: the path below is its name
                descriptor = _reach(roots[path].descriptor, below)
            except OSError as error:
                tally.meet(name, error.strerror or str(error))
                continue
            try:
                status = os.fstat(descriptor)
                now = State(status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode), *_lists(descriptor, new))
                if (status.st_dev, status.st_ino) != identity:
                    tally.refuse(name, "it is another file now")
                elif now == old:
                    continue
                elif now != new:
                    tally.refuse(name, "it was changed since")
                elif (
                    now.uid != old.uid
                    and stat.S_ISREG(status.st_mode)
                    and (status.st_nlink > 1 or is_unlinked(descriptor))
                ):
                    tally.refuse(name, "it has other links now")
                else:
                    # Nothing that a file says, not even our own, gives anybody a setuid program.
                    back = old if stat.S_ISDIR(status.st_mode) else old._replace(mode=old.mode & 0o1777)
                    tally.differs(name, now, back, status)
                    denial = why_not_allowed(now, back, euid, groups, rights)
                    if denial:
                        tally.deny(name, denial)
                    elif not request["dry_run"]:
                        write_state(descriptor, now, back)
                        tally.changed += 1
            except OSError as error:
                tally.meet(name, error.strerror or str(error))
            finally:
                os.close(descriptor)
    finally:
        for descriptor in (*(root.descriptor for root in roots.values()), home_descriptor, journal):
            os.close(descriptor)
    return {**tally.as_dict(), "undo": journal_path, "stopped": False}


def _lists(descriptor: int, like: State) -> tuple[bytes | None, bytes | None]:
    return (
        None if like.access is None else read_acl(descriptor, permissions_acl.ACCESS),
        None if like.default is None else read_acl(descriptor, permissions_acl.DEFAULT),
    )


def _reach(root: int, below: str) -> int:
    """An O_PATH descriptor of what lies there; no link on the way is followed."""
    parts = [part for part in below.split("/") if part]
    current = os.dup(root)
    try:
        for index, part in enumerate(parts):
            last = index == len(parts) - 1
            flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
            following = os.open(part, flags if last else FOLDER, dir_fd=current)
            os.close(current)
            current = following
        return current
    except BaseException:
        os.close(current)
        raise


def serve(request: dict[str, Any]) -> None:
    """Answer one request on standard output, as a program on another host. One repair at a time."""
    request["home"] = os.path.abspath(os.path.expanduser(request["home"]))
    try:
        lock = open_folder(request["home"])
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused("lock", "another repair of permissions is at work there", "wait until it has ended") from None
        said: dict[str, Any] = answer(request)
    except Refused as refused:
        said = {"failed": [refused.kind, refused.message, refused.hint]}
    except FileNotFoundError:
        home = request["home"]
        hint = "[permissions] remote_home says where it lies on other hosts"
        said = {"failed": ["usage", f"OPSKIT_HOME {home} is not there", hint]}
    sys.stdout.write(MARKER + json.dumps(said) + "\n")
    sys.stdout.flush()
