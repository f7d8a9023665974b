"""One bottom-up walk over a log folder: knows the layouts, asks the metastore, and hands each log to whoever acts.

Everything is reached by descriptors from the root (see system/trees.py); what is held in memory is one path, one batch
of run directories and one part of a listing.
"""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol
from urllib.parse import unquote
from zlib import crc32

from opskit.ops.logs_decide import EMPTY, GOES, STAYS, bucket
from opskit.ops.logs_policy import Keep, Policy
from opskit.ops.progress import OnProgress, Progress
from opskit.platforms.folders import LogStates, RunLogs
from opskit.system.trees import Obstacle, open_child, why_not_entered

FUTURE_SECONDS = 600.0
"""A log that was written so far after now shows that a clock is wrong."""
EMPTY_AFTER_SECONDS = 3600.0
"""A directory that has been empty for so long is not about to be written to."""
SAMPLE_AFTER, SAMPLE_EVERY = 20_000, 16
"""A walk that samples looks at so many entries, and from then on at one of so many runs."""
SHOWN = 100
"""Obstacles that a report names; all are counted."""
_LISTED = 1000
_RUNS_AT_ONCE = 100
_DEEPEST = 24
_ATTEMPT = re.compile(r"attempt=\d+\.(log(\.trigger\.\d+\.log)?|rendered\.json)")
_OLD_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\S*")
_OLD_ATTEMPT = re.compile(r"\d+\.log")
_DAEMON_LOG = re.compile(r".+\.(log|out|err)([.-]\d[\w.:+-]*)?(\.(gz|bz2|xz|zst))?")
_DAEMON_FOLDERS = frozenset({"scheduler", "dag_processor", "dag_processor_manager", "triggerer"})


@dataclass(slots=True)
class Log:
    """One log that may go. `directory` is open only until the walk goes on."""

    directory: int
    name: str
    path: str
    """Of its directory, below the root."""
    status: os.stat_result
    step: int
    """How old it is: see `logs_decide.bucket`."""
    is_daemons: bool
    fixed_levels: int
    """So many directories, from the root, stay even when they are empty."""

    @property
    def disk_bytes(self) -> int:
        # What another name still holds is not won.
        return self.status.st_blocks * 512 if self.status.st_nlink == 1 else 0


class Hands(Protocol):
    """What is done with what the walk finds. Each method says what remains: a step, GOES or STAYS."""

    def log(self, log: Log) -> int: ...
    def directory(self, parent: int, name: str, path: str, content: int, status: os.stat_result | None) -> int: ...
    def link(self, directory: int, name: str, path: str) -> int: ...


@dataclass(slots=True)
class Tally:
    """What a walk has seen."""

    logs: int = 0
    size_bytes: int = 0
    disk_bytes: int = 0
    future: int = 0
    entries: int = 0
    weight: int = 1
    """What an entry counts for."""
    kept: Counter[str] = field(default_factory=Counter)
    obstacles: list[Obstacle] = field(default_factory=list)
    obstacle_count: int = 0

    def meet(self, path: str, reason: str) -> None:
        self.obstacle_count += 1
        if len(self.obstacles) < SHOWN:
            self.obstacles.append(Obstacle(path, reason))


@dataclass(slots=True)
class _Here:
    """What holds for the logs of one directory."""

    spared: str
    """Why none of them goes; empty: they may."""
    max_age: float
    is_daemons: bool = False
    fixed_levels: int = 0
    pattern: re.Pattern[str] = _ATTEMPT


class Walk:
    """One walk with one pair of hands.

    `measured`: the hands want the status of directories too. `sampling`: of a large tree some runs are enough, and
    what they show is multiplied.
    """

    def __init__(
        self,
        states: LogStates,
        policy: Policy,
        now: float,
        hands: Hands,
        on_progress: OnProgress,
        step: str,
        *,
        measured: bool,
        sampling: bool = False,
    ) -> None:
        self.tally = Tally()
        self._sampling = sampling
        self._states, self._policy, self._hands, self._now = states, policy, hands, now
        self._floor = now - policy.floor.total_seconds()
        self._latest = now + FUTURE_SECONDS
        self._progress, self._step, self._measured = on_progress, step, measured

    def run(self, root: int) -> None:
        for part in _parts(root):
            for entry in part:
                name = entry.name
                if not self._is_directory(entry):
                    self._root_file(root, entry)
                elif name.startswith("dag_id="):
                    self._enter(root, name, name, self._dag, fixed=False)
                elif name in _DAEMON_FOLDERS:
                    here = _Here("", self._policy.daemons_max_age.total_seconds(), True, 1, _DAEMON_LOG)
                    self._enter(root, name, name, self._daemons(here), fixed=True)
                else:
                    self._enter(root, name, name, self._older_layout, fixed=False)
        self._progress(Progress(self._step, self.tally.entries, unit="entries"))

    def _root_file(self, root: int, entry: os.DirEntry[str]) -> None:
        if _DAEMON_LOG.fullmatch(entry.name):
            here = _Here("", self._policy.daemons_max_age.total_seconds(), True, 0, _DAEMON_LOG)
            self._file(root, entry.name, "", here)
        else:
            self._keep("no log" if entry.is_file(follow_symlinks=False) else "no regular file")

    def _dag(self, directory: int, path: str) -> int:
        """`dag_id=…`: its runs, some at a time."""
        content = EMPTY
        keep = self._policy.of(unquote(path.removeprefix("dag_id=")))
        for part in _parts(directory, _RUNS_AT_ONCE):
            runs = []
            for entry in part:
                if entry.name.startswith("run_id=") and self._is_directory(entry):
                    runs.append(entry.name)
                else:
                    content = min(content, self._keep("no log"))
            if self._sampling and self.tally.entries > SAMPLE_AFTER:
                self.tally.weight = SAMPLE_EVERY
                # By a hash, and not every so manieth: what happens at intervals would be seen always or never.
                runs = [name for name in runs if crc32(os.fsencode(f"{path}/{name}")) % SAMPLE_EVERY == 0]
            if runs:
                known = self._states.runs(path, runs, keep.runs)
                for name in runs:
                    content = min(content, self._run(directory, name, f"{path}/{name}", known[name], keep))
        return content

    def _run(self, parent: int, name: str, path: str, run: RunLogs, keep: Keep) -> int:
        """`run_id=…`: its task instances, `task_id=…` and below them `map_index=…` where they are mapped."""
        spared = "in use" if run.all_live else "of a newest run" if run.is_newest else ""
        usual, failed = keep.max_age.total_seconds(), keep.failed_max_age.total_seconds()
        fixed_levels = 2 if run.is_open or run.all_live else 0

        def visit(directory: int, path: str) -> int:
            content = EMPTY
            for name in os.listdir(directory):
                if name.startswith("task_id="):
                    left = self._task(directory, name, f"{path}/{name}", name, here_of)
                else:
                    left = self._strange(directory, name)
                if left < content:
                    content = left
            return content

        def here_of(key: str) -> _Here:
            is_live = run.all_live or key in run.live
            age = failed if run.all_failed or key in run.failed else usual
            return _Here("in use" if is_live else spared, age, False, 3 + key.count("/") if is_live else fixed_levels)

        return self._enter(parent, name, path, visit, fixed=run.is_open or run.all_live)

    def _task(self, parent: int, name: str, path: str, key: str, here_of: Callable[[str], _Here]) -> int:
        """The logs of one task instance, or the directories of those that it was mapped to."""
        here = here_of(key)

        def visit(directory: int, path: str) -> int:
            content = EMPTY
            for name in os.listdir(directory):
                if name.startswith("map_index=") and key == parent_key:
                    left = self._task(directory, name, f"{path}/{name}", f"{key}/{name}", here_of)
                else:
                    left = self._file(directory, name, path, here)
                if left < content:
                    content = left
            return content

        parent_key = key.partition("/")[0]
        return self._enter(parent, name, path, visit, fixed=here.spared == "in use")

    def _daemons(self, here: _Here) -> Callable[[int, str], int]:
        """A tree of logs of the scheduler or the DAG processor, in folders by date or by DAG file."""

        def visit(directory: int, path: str) -> int:
            content, links, gone = EMPTY, list[str](), set[str]()
            for part in _parts(directory):
                for entry in part:
                    if entry.is_symlink() and entry.name == "latest":
                        links.append(entry.name)
                    elif self._is_directory(entry):
                        left = self._enter(directory, entry.name, f"{path}/{entry.name}", visit, fixed=False)
                        if left >= GOES and len(gone) < _LISTED:
                            gone.add(entry.name)
                        content = min(content, left)
                    else:
                        content = min(content, self._file(directory, entry.name, path, here))
            for name in links:
                content = min(content, self._latest_link(directory, name, path, gone))
            return content

        return visit

    def _latest_link(self, directory: int, name: str, path: str, gone: set[str]) -> int:
        """A link goes with the directory beside it that it names. It is read and never followed."""
        try:
            target = os.readlink(name, dir_fd=directory).rstrip("/").rpartition("/")[2]
            if target and target not in gone:
                os.stat(target, dir_fd=directory, follow_symlinks=False)
                return self._keep("link to what stays")
        except FileNotFoundError:
            pass  # what it named has gone before
        except OSError:
            return self._keep("no regular file")
        return self._hands.link(directory, name, path) if target else self._keep("no regular file")

    def _older_layout(self, directory: int, path: str) -> int:
        """`DAG/TASK/DATE/N.log`, as Airflow before 2.3. Whatever else may lie there is no log."""
        here = _Here("", self._policy.of(path).max_age.total_seconds(), pattern=_OLD_ATTEMPT)

        def dates(directory: int, path: str) -> int:
            return self._only(directory, path, here, _OLD_DATE)

        content = EMPTY
        for part in _parts(directory):
            for entry in part:
                if self._is_directory(entry):
                    # Only what a date shows to be a log directory is emptied and removed.
                    left = self._enter(directory, entry.name, f"{path}/{entry.name}", dates, fixed=False)
                else:
                    left = self._keep("no log")
                content = min(content, left)
        return STAYS if content == EMPTY else content

    def _only(self, directory: int, path: str, here: _Here, names: re.Pattern[str]) -> int:
        content = EMPTY
        for part in _parts(directory):
            for entry in part:
                if names.fullmatch(entry.name) and self._is_directory(entry):
                    visit = lambda fd, below: self._files(fd, below, here)  # noqa: E731
                    left = self._enter(directory, entry.name, f"{path}/{entry.name}", visit, fixed=False)
                else:
                    left = self._keep("no log")
                content = min(content, left)
        return STAYS if content == EMPTY else content

    def _files(self, directory: int, path: str, here: _Here) -> int:
        content = EMPTY
        for part in _parts(directory):
            for entry in part:
                content = min(content, self._file(directory, entry.name, path, here))
        return content

    def _file(self, directory: int, name: str, path: str, here: _Here) -> int:
        try:
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            return EMPTY  # another cleaner was faster
        if not stat.S_ISREG(status.st_mode):
            return self._keep("no regular file")
        if not here.pattern.fullmatch(name):
            return self._keep("no log")
        tally, written = self.tally, status.st_mtime
        tally.logs += tally.weight
        tally.size_bytes += status.st_size
        tally.disk_bytes += status.st_blocks * 512
        if written > self._latest:
            tally.future += 1
        if here.spared:
            return self._keep(here.spared)
        if written >= self._floor:
            return self._keep("young")
        tally.entries += 1
        step = bucket(written, self._now, here.max_age)
        log = Log(directory, name, path, status, step, here.is_daemons, here.fixed_levels)
        try:
            return self._hands.log(log)
        except FileNotFoundError:
            return EMPTY
        except OSError as error:
            tally.meet(f"{path}/{name}", error.strerror or str(error))
            return self._keep("could not be removed")

    def _strange(self, directory: int, name: str) -> int:
        try:
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            return EMPTY
        return self._keep("no log" if stat.S_ISREG(status.st_mode) else "no regular file")

    def _enter(self, parent: int, name: str, path: str, visit: Callable[[int, str], int], *, fixed: bool) -> int:
        """Visit a directory, and let the hands have it when nothing in it has to stay."""
        tally = self.tally
        if path.count("/") > _DEEPEST:
            tally.meet(path, f"more than {_DEEPEST} levels deep")
            return STAYS
        tally.entries += 1
        if tally.entries % 1000 == 0:
            self._progress(Progress(self._step, tally.entries, unit="entries"))
        status = None
        try:
            directory = open_child(parent, name)
        except FileNotFoundError:
            return EMPTY
        except OSError as error:
            tally.meet(path, why_not_entered(error))
            return STAYS
        try:
            content = visit(directory, path)
            if content == EMPTY or self._measured:
                status = os.fstat(directory)
            if content == EMPTY:
                content = GOES if status and status.st_mtime < self._now - EMPTY_AFTER_SECONDS else STAYS
        except OSError as error:
            tally.meet(path, error.strerror or str(error))
            return STAYS
        finally:
            os.close(directory)
        if status and self._measured:
            tally.disk_bytes += status.st_blocks * 512
        if content == STAYS or fixed:
            return STAYS
        return self._hands.directory(parent, name, path, content, status)

    def _keep(self, reason: str) -> int:
        self.tally.kept[reason] += 1
        return STAYS

    @staticmethod
    def _is_directory(entry: os.DirEntry[str]) -> bool:
        try:
            return entry.is_dir(follow_symlinks=False)
        except FileNotFoundError:
            return False


def _parts(directory: int, size: int = _LISTED) -> Iterator[list[os.DirEntry[str]]]:
    """A listing in parts: a directory may have more names than fit in memory. What is removed meanwhile is not missed;
    what a file system skips because of that is found the next time."""
    with os.scandir(directory) as entries:
        while part := list(islice(entries, size)):
            yield part
