"""A transaction over nodes: everything ready on all of them, then one order to switch, then either all or none.

Who dies when: each node writes a journal when it is ready; this machine writes one before it gives the order. A
deployment that was killed is found by the next one through either, and is finished (the order was given) or undone.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from opskit.config import Config
from opskit.errors import (
    DagInvalid,
    GuardRefused,
    LockHeld,
    OpskitError,
    RemoteError,
    VerificationFailed,
)
from opskit.ops.deploy_session import NodeSession, node_program
from opskit.ops.releases import (
    BACK,
    FORWARD,
    NodeView,
    Policy,
    ReleasePlan,
    decide_recovery,
    read_view,
    release_hash,
    required_hosts,
)
from opskit.system.ssh import LOCAL, connect

Progress = Callable[[str, int, int], None]
"""(phase, hosts done, hosts in all)"""

_WORST_FIRST = (GuardRefused, DagInvalid, VerificationFailed, LockHeld, RemoteError, OpskitError)


@dataclass
class Target:
    """One host in the course of a deployment."""

    name: str
    session: NodeSession
    view: NodeView | None = None
    plan: ReleasePlan | None = None
    manifest: dict[str, Any] = field(default_factory=dict)
    release: str = ""
    state: str = "not switched"
    phase: str = ""
    check: str = ""
    error: OpskitError | None = None
    prepared: bool = False
    sent_files: int = 0
    sent_bytes: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def seen(self) -> NodeView:
        assert self.view is not None
        return self.view


class Deployment:
    """The hosts of one deployment and what is done with them. Close it at the end."""

    def __init__(
        self,
        config: Config,
        hosts: Sequence[str],
        *,
        deployment: str,
        who: str,
        now: datetime,
        quorum: str = "all",
        patience: float = 0.0,
        progress: Progress = lambda *_: None,
    ) -> None:
        """`patience`: seconds that a node may have to wait for its next request, beside the usual."""
        self.config = config
        self.id = deployment
        self.who = who
        self.at = now.isoformat(timespec="seconds")
        self.required = required_hosts(quorum, len(hosts))
        self.progress = progress
        self.notes: list[str] = []
        self.spread_seconds = 0.0
        self._timeout = float(config.get("deploy", "timeout"))
        self._patience = patience
        self._keep = int(config.get("deploy", "keep_releases"))
        self._pool = ThreadPoolExecutor(max_workers=64, thread_name_prefix="deploy")
        self._journal_path = config.run_folder / "deploy-dag.journal.json"
        self._connecting: list[Future[None]] = []
        self._locking = False
        self.targets = [self._target(name) for name in hosts]
        self._guests: list[Target] = []

    # -- hosts

    @property
    def alive(self) -> list[Target]:
        """The hosts that nothing has gone wrong with."""
        return [target for target in self.targets if target.error is None]

    def begin_to_connect(self, policy: Policy, *, lock: bool) -> None:
        """Start to reach every host, to take its lock (unless it is only to look) and to learn what is there."""
        self._locking = lock

        def hello(target: Target) -> None:
            try:
                self._hello(target, policy, lock)
            except OpskitError as error:
                target.error = error

        for target in self.targets:
            target.phase = "connect"
        self._connecting = [self._pool.submit(hello, target) for target in self.targets]

    def connect(self, policy: Policy) -> None:
        """Wait for what `begin_to_connect` has begun; then finish or undo what was interrupted."""
        self._follow("connect", self._connecting)
        self.settle()
        journals = {t.name: t.seen.journal for t in self.alive if t.seen.journal is not None}
        if self._locking:
            self._recover(policy)
        elif journals or self._read_orders():
            self.notes.append("an earlier deployment was interrupted: it would be finished or undone first")

    def each(self, phase: str, targets: Iterable[Target], call: Callable[[Target], None]) -> None:
        """Do something on hosts at once; an OpskitError becomes the host's error."""
        chosen = list(targets)

        def work(target: Target) -> None:
            target.phase = phase
            try:
                call(target)
            except OpskitError as error:
                target.error = error

        if not chosen:
            return
        self._follow(phase, [self._pool.submit(work, target) for target in chosen])

    def _follow(self, phase: str, futures: Sequence[Future[None]]) -> None:
        self.progress(phase, 0, len(futures))
        try:
            for done, future in enumerate(as_completed(futures), start=1):
                future.result()
                self.progress(phase, done, len(futures))
        finally:
            wait(futures)  # interrupted or not: nobody else may talk to these hosts before they have answered

    def settle(self) -> None:
        """Raise the gravest error of a host, unless enough are left to go on without those that failed."""
        failed = [target.error for target in self.targets if target.error is not None]
        if failed and len(self.alive) < self.required:
            raise next(error for kind in _WORST_FIRST for error in failed if isinstance(error, kind))

    def close(self) -> None:
        wait(self._connecting)
        for _ in self._pool.map(_end, [*self.targets, *self._guests]):
            pass
        self._pool.shutdown()

    # -- all or none

    def commit(
        self, targets: Sequence[Target], *, rollback: bool = False, gate: Callable[[Sequence[str]], None] | None = None
    ) -> None:
        """Prepare, order, switch, ask the gate, finish. Raises after every one of these hosts has been switched back.

        `gate` is given the hosts that have switched, and raises when they should switch back.
        """
        hosts = [target.name for target in targets]
        request: dict[str, Any] = {
            "deployment": self.id,
            "who": self.who,
            "at": self.at,
            "hosts": hosts,
            "rollback": rollback,
        }

        def prepare(target: Target) -> None:
            target.prepared = True  # also when the answer is lost: then it may well be
            target.session.ask("prepare", manifest=json.dumps(target.manifest), **request)

        self.each("prepare", targets, prepare)
        try:
            self.settle()
            ready = [target for target in targets if target.error is None]
            self._order(FORWARD, [target.name for target in ready])
            self._switch(ready)
            self.settle()
            switched = [target for target in ready if target.error is None]
            if gate is not None and switched:
                self.progress("gate", 0, 1)
                gate([target.name for target in switched])
                self.progress("gate", 1, 1)
        except BaseException:
            self._undo(targets)
            raise
        good = [target for target in targets if target.error is None]
        if len(good) < len(targets):
            self._undo([target for target in targets if target.error is not None])
        self._finish(good)

    def _switch(self, ready: Sequence[Target]) -> None:
        """A few bytes to each host, one right after the other, then all their answers."""
        moments: list[float] = []
        began = time.monotonic()
        for target in ready:
            target.phase = "switch"
            try:
                target.session.post("switch")
            except OpskitError as error:
                target.error = error

        def answer(target: Target) -> None:
            answer = target.session.answer()
            moments.append(float(answer["at"]))
            if release_hash(answer["name"]) != target.manifest["hash"]:
                raise VerificationFailed(f"{target.name}: it switched to {answer['name']}, which is another release")
            target.release = answer["name"]
            target.state = "switched"

        self.each("switch", [target for target in ready if target.error is None], answer)
        # The clocks of the hosts may differ; what was seen from here is an upper bound.
        spread = max(moments, default=0.0) - min(moments, default=0.0)
        self.spread_seconds = max(self.spread_seconds, min(spread, time.monotonic() - began))

    def _finish(self, targets: Sequence[Target]) -> None:
        """Every host has switched: what goes wrong from here is only tidying, and the next deployment does it."""

        def finish(target: Target) -> None:
            try:
                target.session.ask("finish")
                # `close` waits for that: meanwhile there is something to do here.
                target.session.leave("tidy", keep=self._keep)
            except OpskitError as error:
                target.notes.append(f"old releases are not removed yet: {error}")
                return
            done.append(target.name)

        done: list[str] = []
        self.each("finish", targets, finish)
        self._fulfilled(self.id, done)

    def _undo(self, targets: Sequence[Target]) -> None:
        """Switch back, or forget the preparation, on every host that may have been prepared."""
        concerned = [target for target in targets if target.prepared]
        if not concerned:
            return
        self._order(BACK, [target.name for target in concerned])
        phases = {target.name: target.phase for target in concerned}
        done: list[str] = []

        def back(target: Target) -> None:
            failure = target.error
            was_switched = phases[target.name] == "switch"
            target.phase = phases[target.name]
            try:
                target.session.ask("back")
                target.state = "switched back" if was_switched else "not switched"
                done.append(target.name)
            except OpskitError as error:
                if self._undo_anew(target):
                    target.state = "switched back" if was_switched else "not switched"
                    done.append(target.name)
                else:
                    target.state = "unknown"
                    target.notes.append(f"not switched back yet, the next deployment tries again: {error}")
            target.error = failure

        self.each("undo", concerned, back)
        self._fulfilled(self.id, done)

    def _undo_anew(self, target: Target) -> bool:
        """The conversation is broken: try once with a new one."""
        target.session.close()
        target.session = self._session(target.name)
        try:
            self._hello(target, Policy(**target.manifest["policy"]) if target.manifest.get("policy") else _PLAIN, True)
            target.session.ask("back")
        except OpskitError:
            return False
        return True

    # -- deployments that were interrupted

    def _recover(self, policy: Policy) -> None:
        orders = self._read_orders()
        wanted = {host for order in orders.values() for host in order}
        self._guests = [self._target(name) for name in sorted(wanted - {target.name for target in self.targets})]
        self.each("connect", self._guests, lambda target: self._hello(target, policy, True))
        for guest in self._guests:
            if guest.error is not None:
                self.notes.append(f"an interrupted deployment waits for {guest.name}: {guest.error}")
        reached = [target for target in [*self.targets, *self._guests] if target.error is None]
        journals = {t.name: t.seen.journal for t in reached if t.seen.journal is not None}
        decided = decide_recovery(journals, orders)

        def recover(target: Target) -> None:
            direction, reason = decided[target.name]
            journal = journals[target.name]
            if direction == FORWARD:
                target.session.ask("switch")
                target.session.ask("finish")
                target.session.ask("tidy", keep=self._keep)
            else:
                target.session.ask("back")
            target.view = read_view(target.session.ask("look"))
            verb = "finished" if direction == FORWARD else "undid"
            self.notes.append(
                f"{target.name}: {verb} the interrupted deployment {journal.deployment} of {journal.who}: {reason}"
            )

        if decided:
            self.each("recover", [target for target in reached if target.name in decided], recover)
        for name in orders:
            self._fulfilled(name, [target.name for target in reached if target.error is None])
        others = {host for journal in journals.values() for host in journal.hosts} - {target.name for target in reached}
        if others:
            self.notes.append(f"the interrupted deployment also concerned {', '.join(sorted(others))}")
        self.settle()

    def _order(self, direction: str, hosts: Sequence[str]) -> None:
        orders = self._read_orders()
        orders.setdefault(self.id, {}).update(dict.fromkeys(hosts, direction))
        self._write_orders(orders)

    def _fulfilled(self, deployment: str, hosts: Iterable[str]) -> None:
        orders = self._read_orders()
        if deployment in orders:
            done = set(hosts)
            rest = {host: direction for host, direction in orders.pop(deployment).items() if host not in done}
            self._write_orders({**orders, deployment: rest} if rest else orders)

    def _read_orders(self) -> dict[str, dict[str, str]]:
        """deployment → host → FORWARD or BACK, for hosts that have not carried it out yet."""
        try:
            orders: dict[str, dict[str, str]] = json.loads(self._journal_path.read_text())
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise VerificationFailed(
                f"{self._journal_path} is damaged: {error}",
                hint="move it away: then each node tells by itself what was interrupted",
            ) from error
        return orders

    def _write_orders(self, orders: dict[str, dict[str, str]]) -> None:
        path: Path = self._journal_path
        if not orders:
            path.unlink(missing_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        with temporary.open("w") as file:
            file.write(json.dumps(orders))
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
        descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(descriptor)
        os.close(descriptor)

    # -- connections

    def _target(self, name: str) -> Target:
        return Target(name, self._session(name))

    def _session(self, name: str) -> NodeSession:
        get = self.config.get
        host = connect(
            name,
            transport=get("deploy", "transport"),
            connect_timeout=float(get("deploy", "connect_timeout")),
            ssh_config=get("deploy", "ssh_config"),
            shared=False,
            kept_in=self.config.run_folder / f"ssh-{os.geteuid()}",
            kept_seconds=float(get("deploy", "control_persist")),
        )
        return NodeSession(host, self.python(name), self._timeout, self._patience)

    def python(self, name: str) -> str:
        import sys

        return sys.executable if name == LOCAL else str(self.config.get("deploy", "python") or "python3")

    def _hello(self, target: Target, policy: Policy, lock: bool) -> None:
        folder = str(self.config.get("deploy", "dags_folder") or self.config.dags_folder)
        if target.name == LOCAL:
            folder = str(self.config.dags_folder)
        answer = target.session.begin(node_program(), dags=folder, policy=policy.as_dict(), lock=lock, who=self.who)
        target.view = read_view(answer)


def _end(target: Target) -> None:
    """Hear what became of its old releases, and end the conversation. A node that nobody prepared clears its staging
    away then."""
    try:
        tidied = target.session.collect()
        if tidied is not None and tidied["in_use"]:
            target.notes.append(f"kept because it is still in use: {', '.join(tidied['in_use'])}")
    except OpskitError as error:
        target.notes.append(f"old releases are not removed yet: {error}")
    target.session.close()


_PLAIN = Policy(owner="", group="", file_mode="0640", dir_mode="0750")
