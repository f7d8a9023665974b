"""The DAG processor's turns: DAG folder → rows. Loads what changed, stores what it learnt in bulk.

What it knows of files is in memory, what it knows of DAGs is in the metastore. It writes nothing that it is not sure
of: a folder that can't be listed, or that is suddenly empty, takes no DAG away.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Protocol

from opskit.config import Config
from opskit.core.metastore import dag_loads
from opskit.core.metastore.dag_loads import LoadedFile, StoredFile
from opskit.core.metastore.engine import Engine, reading, transaction
from opskit.core.runner.load_store import Question
from opskit.core.runner.loader import LoadResult
from opskit.core.scheduler import dag_answers, dag_rows
from opskit.core.scheduler.dag_files import Decision, KnownFile, decide
from opskit.core.scheduler.dag_folder import list_dag_folder, read_content
from opskit.core.scheduler.dag_watch import watch
from opskit.core.scheduler.planning import Planner
from opskit.errors import MetastoreUnavailable
from opskit.system import dag_releases
from opskit.system.wake import wake

log = logging.getLogger(__name__)

_SETTLE_SECONDS = 0.05
"""A change is rarely alone: so long after the last one the folder is listed …"""
_SETTLE_AT_MOST_SECONDS = 0.5
"""… and so long after the first one, whatever goes on."""
_STORE_EVERY_SECONDS = (0.1, 0.8)
"""While files are being loaded, results are stored together: the first ones soon, then in larger and larger batches."""
_LOSING_SECONDS = 1.0
"""A file that suddenly defines fewer DAGs may be half written: it is loaded again before they are taken away."""
_LONGEST_BACKOFF_SECONDS = 30.0


class FileLoader(Protocol):
    """What the processor needs of `dag_loading.BackgroundLoader`."""

    def fileno(self) -> int: ...
    def submit(self, paths: list[str]) -> None: ...
    def ask(self, path: str, questions: Sequence[dict[str, Any]]) -> None: ...
    def sleep_seconds(self) -> float | None: ...
    def relieve(self) -> None: ...
    @property
    def busy(self) -> bool: ...
    def take(self) -> list[LoadResult]: ...


@dataclass(slots=True)
class _Backoff:
    """How long to wait until the metastore is tried again."""

    seconds: float = 0.0
    until: float = 0.0

    def failed(self, clock: float) -> None:
        self.seconds = min(_LONGEST_BACKOFF_SECONDS, 2 * self.seconds or 0.5)
        self.until = clock + self.seconds

    def succeeded(self) -> None:
        self.seconds = self.until = 0.0


class DagProcessor:
    """The state of one DAG processor. `turn` handles what is due; the process around it is `dag_processor.py`."""

    def __init__(self, config: Config, engine: Engine, loader: FileLoader) -> None:
        self._config = config
        self._engine = engine
        self._loader = loader
        self._root = config.dags_folder
        self._syntax = str(config.get("core", "dag_ignore_file_syntax"))
        self._safe_mode = bool(config.get("core", "dag_discovery_safe_mode"))
        self._refresh = float(config.get("scheduler", "refresh_interval"))
        self._compare_every = float(config.get("scheduler", "variable_refresh_interval"))
        self._reload_every = float(config.get("scheduler", "min_file_process_interval"))
        self._watch = watch(self._root)
        self._planner = Planner(config, engine, loader.ask)
        self._files: dict[str, KnownFile] = {}
        self._stored: dict[str, StoredFile] | None = None
        """dag_file rows as last read or written; None: not read yet."""
        self._owners: dict[str, str] = {}
        """dag_id → the file that may define it."""
        self._owners_read = False
        self._blocked: dict[str, set[str]] = {}
        """File → dag_ids that another file defines."""
        self._pending: dict[str, LoadResult] = {}
        self._gone: dict[str, str] = {}
        self._losing: dict[str, str] = {}
        """File → content hash with which it defined fewer DAGs than before."""
        self._reload_at: dict[str, float] = {}
        self._asked: dict[str, dict[Question, str | None]] = {}
        """What files asked the metastore while they were loaded."""
        self._compare_at = 0.0
        self._backoff = _Backoff()
        self._changed_since: float | None = None
        self._look_at = 0.0
        self._store_at = 0.0
        self._store_every = _STORE_EVERY_SECONDS[0]
        self._listed = False
        self._listed_release: str | None = None
        """The release that the DAG folder was at the last listing."""
        self._moved_to: tuple[str | None] | None = None
        """The release that all DAGs were last said to be loaded from; None: not said yet."""
        self._doubts: list[str] = []
        self.loaded_all = False
        """The first look at every file has been stored."""
        self.progress = 0
        self.progress_at = datetime.now(UTC)

    @property
    def watching(self) -> str:
        return "inotify" if self._watch else f"a listing every {self._refresh:g} s"

    def filenos(self) -> list[int]:
        """What to sleep on."""
        return [self._loader.fileno(), *([self._watch.fileno()] if self._watch else [])]

    def sleep_seconds(self) -> float:
        """How long nothing is due."""
        clock = time.monotonic()
        due = [self._look_at, *self._reload_at.values()]
        if self._asked:
            due.append(max(self._compare_at, self._backoff.until))
        if (relief := self._loader.sleep_seconds()) is not None:
            due.append(clock + relief)
        if self._pending or self._gone or self._stored is None:
            due.append(max(self._store_at, self._backoff.until))
        if (plan_at := self._planner.sleep_until()) is not None:
            due.append(max(plan_at, self._backoff.until))
        return max(0.0, min(due) - clock)

    def close(self) -> None:
        if self._watch:
            self._watch.close()

    def look_soon(self) -> None:
        """Someone says that something changed."""
        self._look_at = 0.0
        self._stored = None  # what changed may be the rows
        self._moved_to = None
        self._compare_at = 0.0
        self._planner.look_soon()

    def detail(self) -> dict[str, Any]:
        """For the instance row."""
        stored = self._stored or {}
        return {
            "files": len(stored),
            "dags": len(self._owners),
            "import_errors": sum(file.import_error is not None for file in stored.values()),
            "watching": self.watching,
            "doubts": self._doubts,
        }

    def turn(self) -> None:
        """Handle all that is due. Never raises MetastoreUnavailable: what can't be stored now is kept."""
        clock = time.monotonic()
        self._take_changes(clock)
        try:
            if self._stored is None and clock >= self._backoff.until:
                self._read_stored()
            if clock >= self._look_at:
                self._look(clock)
            self._submit_due(clock)
            if self._asked and clock >= max(self._compare_at, self._backoff.until):
                self._compare_answers(clock)
            self._loader.relieve()
            for result in self._loader.take():
                self._take_result(result, clock)
            if self._may_store(clock):
                self._store(clock)
            if clock >= self._backoff.until:
                self._planner.store()
                self._planner.turn(clock)
            self._follow_release()
            self.progress += 1
            self.progress_at = datetime.now(UTC)
        except MetastoreUnavailable as error:
            clock = time.monotonic()
            self._backoff.failed(clock)
            self._store_at = clock
            log.warning("%s; trying again in %.1f s", error, self._backoff.seconds)
        if not self.loaded_all and self._listed and self._stored is not None:
            self.loaded_all = not (self._loader.busy or self._pending or self._reload_at)

    # --- the folder ---

    def _take_changes(self, clock: float) -> None:
        if self._watch and self._watch.take():
            self._changed_since = self._changed_since or clock
            self._look_at = min(clock + _SETTLE_SECONDS, self._changed_since + _SETTLE_AT_MOST_SECONDS)

    def _look(self, clock: float) -> None:
        self._changed_since = None
        self._look_at = clock + self._refresh
        self._listed_release = dag_releases.release_of(str(self._root)) or None
        listing = list_dag_folder(self._root, self._syntax)
        if self._watch:
            before = self._watch.problem
            # What changes from here on is told; what changed while we listed is seen by the second listing.
            self._watch.cover(listing.folders)
            if self._watch.problem and self._watch.problem != before:
                log.warning("%s: its changes are seen every %g s only", self._watch.problem, self._refresh)
            if not self._listed:
                listing = list_dag_folder(self._root, self._syntax)
        now = datetime.now(UTC)
        decision = decide(listing, self._files, now)
        if decision.doubts != self._doubts:
            for doubt in decision.doubts:
                log.warning("no DAG is deactivated: %s", doubt)
            self._doubts = decision.doubts
        self._apply(decision, listing.files, now, clock)
        if decision.look_again_at is not None:
            wait = (decision.look_again_at - now).total_seconds()
            self._look_at = min(self._look_at, clock + max(wait, 0.05))
        self._listed = self._listed or listing.complete

    def _apply(self, decision: Decision, signatures: dict[str, Any], now: datetime, clock: float) -> None:
        for path in decision.missing:
            self._files[path].missing_since = now
        for path in decision.back:
            self._files[path].missing_since = None
        for path, reason in decision.gone.items():
            self._asked.pop(path, None)
            if self._files.pop(path).has_dags:
                self._gone[path] = reason
                self._pending.pop(path, None)
                self._losing.pop(path, None)
            self._release(path, set())
        load: dict[str, None] = {}
        companion = ""
        for path in decision.read:
            known = self._files.setdefault(path, KnownFile())
            before = known.content
            try:
                content = read_content(self._root, path, self._safe_mode)
            except FileNotFoundError:
                continue  # the next listing tells
            except OSError as error:
                log.warning("%s can't be read: %s", path, error.strerror)
                if path.endswith(".py"):
                    load[path] = None  # the failed load says so in an import error
                known.signature = signatures[path]
                continue
            known.signature = signatures[path]
            known.content = content
            if before is not None and before.sha256 == content.sha256:
                continue
            if content.may_define_dags or known.has_dags:
                load[path] = None
                if before is not None and self._loaded_without_dags(path):
                    companion = path
            elif self._listed:
                companion = path
        if companion:
            # Nobody says which files import it.
            log.info("%s changed: loading all DAG files again", companion)
            load.update(dict.fromkeys(self._dag_files()))
        self._loader.submit(list(load))
        self._plan_reloads(load, clock)

    def _loaded_without_dags(self, path: str) -> bool:
        """It looks like a DAG file, and is a module that DAG files import."""
        file = (self._stored or {}).get(path)
        return file is not None and file.import_error is None and path not in self._owners.values()

    def _dag_files(self) -> list[str]:
        return [
            path
            for path, file in self._files.items()
            if file.missing_since is None
            and file.content is not None
            and (file.content.may_define_dags or file.has_dags)
        ]

    def _plan_reloads(self, paths: dict[str, None], clock: float) -> None:
        if self._reload_every > 0:
            self._reload_at.update(dict.fromkeys(paths, clock + self._reload_every))

    def _submit_due(self, clock: float) -> None:
        due = [path for path, at in self._reload_at.items() if at <= clock]
        for path in due:
            del self._reload_at[path]
        present = {path: None for path in due if path in self._files}
        if present:
            self._loader.submit(list(present))
            self._plan_reloads(present, clock)

    def _compare_answers(self, clock: float) -> None:
        questions = dict.fromkeys(question for told in self._asked.values() for question in told)
        answers = dag_answers.read_answers(self._engine, self._config, questions)
        self._backoff.succeeded()
        self._compare_at = clock + self._compare_every
        again = dag_answers.outdated(self._asked, answers)
        if again:
            log.info("loading %s again: variables or connections that they read have changed", ", ".join(again))
            for path in again:
                del self._asked[path]  # until it is loaded
            self._loader.submit(list(again))

    # --- results ---

    def _take_result(self, result: LoadResult, clock: float) -> None:
        path = result.path
        file = self._files.get(path)
        if result.answers is not None:
            self._planner.take(result.answers)
        self._asked.pop(path, None)
        if file is None:
            return  # removed while it was loaded
        if result.asked:
            if not self._asked:
                self._compare_at = clock + self._compare_every
            self._asked[path] = result.asked
        if result.content_hash and file.content is not None and file.content.sha256 != result.content_hash:
            return  # changed while it was loaded: it is loaded again, and that result may be here already
        defined = {dag["dag_id"] for dag in result.dags}
        if result.error is None:
            taken = {dag_id: self._owners[dag_id] for dag_id in defined if self._owned_elsewhere(dag_id, path)}
            if taken:
                self._blocked[path] = set(taken)
                result = replace(result, dags=[], error=_duplicates(taken))
            else:
                self._blocked.pop(path, None)
                if self._loses_dags(path, defined) and self._losing.get(path) != result.content_hash:
                    self._losing[path] = result.content_hash
                    self._reload_at[path] = clock + _LOSING_SECONDS
                    return
                self._losing.pop(path, None)
                for dag_id in defined:
                    if (other := self._owners.get(dag_id, path)) != path:
                        self._pending.pop(other, None)  # the DAG has moved from there
                    self._owners[dag_id] = path
                self._release(path, defined)
                self._planner.learn(result.dags)
        if result.answers is not None and path not in self._pending and self._is_stored(result):
            return  # loaded for its answers only
        self._pending[path] = result
        self._gone.pop(path, None)

    def _is_stored(self, result: LoadResult) -> bool:
        stored = (self._stored or {}).get(result.path)
        return stored is not None and stored.import_error is None and stored.content_hash == result.content_hash

    def _owned_elsewhere(self, dag_id: str, path: str) -> bool:
        owner = self._owners.get(dag_id, path)
        if owner == path:
            return False
        file = self._files.get(owner)
        # The file of a DAG that moved is missing already, while that is not confirmed yet.
        return file is not None and file.missing_since is None

    def _loses_dags(self, path: str, defined: set[str]) -> bool:
        return any(owner == path and dag_id not in defined for dag_id, owner in self._owners.items())

    def _release(self, path: str, keep: set[str]) -> None:
        """The file defines only `keep` from now on: files that wait for the rest are loaded again."""
        free = {dag_id for dag_id, owner in self._owners.items() if owner == path and dag_id not in keep}
        for dag_id in free:
            del self._owners[dag_id]
        again = [other for other, wanted in self._blocked.items() if wanted & free]
        if again:
            self._loader.submit(again)

    # --- the metastore ---

    def _read_stored(self) -> None:
        with reading(self._engine) as connection:
            stored = dag_loads.read_files(connection)
            owners = dag_loads.read_owners(connection)
        self._backoff.succeeded()
        if not self._owners_read:
            # At the start the metastore says which of two files defines a DAG that both do.
            self._owners = {**owners, **self._owners}
            self._owners_read = True
        self._stored = stored
        lost = []
        for path, file in self._files.items():
            if file.has_dags and path not in stored and path not in self._pending:
                lost.append(path)  # deleted, or the metastore was reset or restored
            file.has_dags = path in stored
        for path in stored:
            self._files.setdefault(path, KnownFile(has_dags=True)).has_dags = True
        if lost and self._listed:
            log.info("loading %d files again that the metastore no longer has", len(lost))
            self._loader.submit(lost)

    def _may_store(self, clock: float) -> bool:
        if not (self._pending or self._gone) or self._stored is None:
            return False
        return clock >= self._backoff.until and (clock >= self._store_at or not self._loader.busy)

    def _store(self, clock: float) -> None:
        results = [self._pending[path] for path in sorted(self._pending)]
        now = datetime.now(UTC)
        with transaction(self._engine) as connection:
            changes, files = dag_rows.store(connection, results, sorted(self._gone), self._config, now)
        self._backoff.succeeded()
        shortest, longest = _STORE_EVERY_SECONDS
        self._store_every = min(longest, 2 * self._store_every) if self._loader.busy else shortest
        self._store_at = time.monotonic() + self._store_every
        if changes:
            wake(self._config.run_folder, "scheduler")
        for path, reason in self._gone.items():
            log.info("%s is gone (%s)", path, reason)
        self._remember(files, now)
        self._pending.clear()
        self._gone.clear()
        errors = sum(file.import_error is not None for file in files)
        # At a start nothing may have changed since the last one.
        log.log(
            logging.INFO if changes or errors else logging.DEBUG,
            "stored %d files in %.2f s: %d DAGs new, %d changed, %d deactivated; %d import errors",
            len(files),
            time.monotonic() - clock,
            len(changes.new),
            len(changes.changed),
            len(changes.deactivated),
            errors,
        )

    def _follow_release(self) -> None:
        """Once all of a release is loaded and stored, attempts run from it: also of files that did not change."""
        if not self._listed or self._stored is None or self._pending or self._gone or self._loader.busy:
            return
        if self._moved_to == (self._listed_release,):
            return
        with transaction(self._engine) as connection:
            moved = dag_loads.move_to_release(connection, self._listed_release, datetime.now(UTC))
        self._moved_to = (self._listed_release,)
        if moved:
            log.info("%d DAGs run from release %s now", len(moved), self._listed_release or "(a plain folder)")
            wake(self._config.run_folder, "scheduler")

    def _remember(self, files: list[LoadedFile], now: datetime) -> None:
        assert self._stored is not None
        for path in self._gone:
            self._stored.pop(path, None)
        for file in files:
            before = self._stored.get(file.path)
            if file.import_error and (before is None or before.import_error != file.import_error):
                log.warning("%s: %s", file.path, file.import_error.strip().splitlines()[0])
            good = [dag.dag_id for dag in file.dags]
            dag_ids = good if file.import_error is None or before is None else before.dag_ids
            self._stored[file.path] = StoredFile(file.path, file.content_hash, dag_ids, now, file.import_error)
            if file.path in self._files:
                self._files[file.path].has_dags = True


def _duplicates(taken: dict[str, str]) -> str:
    """dag_id → the file that defines it already, as an import error."""
    return "\n".join(
        f"DagInvalid: dag_id {dag_id!r} is already defined in {other}; a dag_id must be unique"
        for dag_id, other in sorted(taken.items())
    )
