"""What the watchdog decides, as plain values."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from opskit.ops.watchdog_findings import Decision, Policy
from opskit.ops.watchdog_memory import Memory, Restart
from opskit.ops.watchdog_rules import decide
from opskit.platforms.health import Backlog, Component, DatabaseView, Observation
from opskit.platforms.watching import Pause

NOW = datetime(2024, 5, 1, 12, 0, tzinfo=UTC)
BOOT = 10_000.0
OK = DatabaseView("ok")


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def component(**changes: Any) -> Component:
    values: dict[str, Any] = {
        "kind": "scheduler",
        "instance_id": "one",
        "hostname": "here",
        "local": True,
        "pid": 100,
        "pid_started": 1.0,
        "process": "running",
        "started_at": ago(5000),
        "heartbeat_at": ago(1),
        "progress": 50,
        "progress_at": ago(1),
    }
    return Component(**{**values, **changes})


def decided(
    *components: Component,
    database: DatabaseView = OK,
    backlogs: tuple[Backlog, ...] = (),
    memory: Memory = Memory(),  # noqa: B008 -- frozen
    pause: Pause | None = None,
    policy: Policy = Policy(),  # noqa: B008 -- frozen
) -> Decision:
    return decide(Observation(NOW, "here", database, components, backlogs), memory, pause, policy, BOOT)


def deeds(decision: Decision) -> list[str]:
    return [step.deed for finding in decision.findings for step in finding.plan]


@pytest.mark.parametrize(
    ("what", "changes", "verdict", "cause", "plan"),
    [
        ("turns", {}, "healthy", "", []),
        ("a little late", {"heartbeat_at": ago(14), "progress_at": ago(14)}, "healthy", "", []),
        ("late", {"heartbeat_at": ago(20), "progress_at": ago(20)}, "slow", "slow", []),
        ("silent", {"heartbeat_at": ago(60), "progress_at": ago(60)}, "stuck", "silent", ["nudge", "restart"]),
        ("a pulse alone", {"progress_at": ago(60)}, "stuck", "wedged", ["nudge", "restart"]),
        ("hangs in the disk", {"process": "blocked", "heartbeat_at": ago(60)}, "stuck", "silent", ["nudge", "restart"]),
        ("waits for the disk", {"process": "blocked"}, "healthy", "", []),
        ("stopped by a signal", {"process": "frozen"}, "stuck", "frozen", ["resume", "restart"]),
        ("held by a debugger", {"process": "traced", "heartbeat_at": ago(60)}, "stuck", "traced", []),
        ("seen by a profiler", {"process": "traced"}, "healthy", "", []),
        ("killed", {"process": "gone"}, "dead", "killed", ["start"]),
        ("stopped cleanly", {"process": "gone", "ended_at": ago(60)}, "dead", "missing", ["start"]),
        ("stopping", {"ended_at": ago(3)}, "healthy", "", []),
        ("declared dead, but alive", {"ended_at": ago(60)}, "stuck", "disowned", ["restart"]),
        (
            "starting",
            {"heartbeat_at": None, "progress_at": None, "started_at": ago(5)},
            "healthy",
            "",
            [],
        ),
        (
            "never registered",
            {"heartbeat_at": None, "progress_at": None, "started_at": ago(60)},
            "stuck",
            "unregistered",
            ["restart"],
        ),
    ],
)
def test_a_scheduler_that(what: str, changes: dict[str, Any], verdict: str, cause: str, plan: list[str]) -> None:
    decision = decided(component(**changes))
    assert (decision.verdict, decision.causes, deeds(decision)) == (verdict, cause, plan)
    assert decision.evidence and all(decision.evidence)


@pytest.mark.parametrize(
    "state", ["unreachable", "timeout", "locked", "denied", "absent", "no_schema", "corrupt", "error"]
)
@pytest.mark.parametrize("process", ["running", "frozen", "gone"])
def test_without_a_readable_database_nothing_is_done(state: str, process: str) -> None:
    bare = component(process=process, heartbeat_at=None, progress_at=None)
    decision = decided(bare, database=DatabaseView(state, "connection refused"))
    assert decision.verdict == "blind"
    assert deeds(decision) == []
    assert "connection refused" in decision.evidence[0]
    assert any(process in sentence for sentence in decision.evidence)


def test_no_scheduler_at_all_is_dead_and_one_is_started() -> None:
    decision = decided()
    assert (decision.verdict, deeds(decision)) == ("dead", ["start"])


def test_no_start_starts_only_what_crashed() -> None:
    policy = Policy(start_missing=False)
    assert deeds(decided(policy=policy)) == []
    assert decided(policy=policy).verdict == "dead"
    assert deeds(decided(component(process="gone"), policy=policy)) == ["start"]


def test_a_scheduler_on_another_host_is_enough_but_is_never_touched() -> None:
    other = component(hostname="there", local=False, process="unknown")
    assert decided(other).verdict == "healthy"
    silent = decided(replace(other, heartbeat_at=ago(100)), component(instance_id="two"))
    assert (silent.verdict, deeds(silent)) == ("slow", [])
    assert "there" in silent.evidence[0]


def test_a_dead_scheduler_among_two_is_seen() -> None:
    # The living one was started before the other died: it has not replaced it.
    decision = decided(
        component(process="gone", heartbeat_at=ago(10)), component(instance_id="two", started_at=ago(900))
    )
    assert (decision.verdict, deeds(decision)) == ("dead", ["start"])


def test_a_dead_scheduler_that_was_replaced_is_history() -> None:
    decision = decided(
        component(process="gone", heartbeat_at=ago(900)), component(instance_id="two", started_at=ago(800))
    )
    assert decision.verdict == "healthy"


def test_every_stuck_instance_is_found_not_only_the_newest() -> None:
    decision = decided(
        component(instance_id="a", process="frozen"),
        component(instance_id="b"),
        component(instance_id="c", progress_at=ago(100)),
    )
    assert {finding.component.instance_id for finding in decision.findings if finding.component} == {"a", "c"}


def test_a_counter_that_stands_still_is_seen_although_the_clock_was_set_back() -> None:
    future = component(heartbeat_at=ago(-3600), progress_at=ago(-3600))
    assert decided(future).verdict == "healthy"
    memory = Memory(progress={"one": (50, BOOT - 60, 0.0)})
    assert decided(future, memory=memory).causes == "wedged"
    assert decided(future, memory=Memory(progress={"one": (49, BOOT - 60, 0.0)})).verdict == "healthy"


def test_a_scheduler_gets_time_after_the_database_came_back() -> None:
    silent = component(heartbeat_at=ago(100), progress_at=ago(100))
    for recovering in (
        decided(silent, memory=Memory(blind_at=BOOT - 10)),
        decided(silent, database=DatabaseView("ok", uptime_seconds=10)),
    ):
        assert (recovering.verdict, recovering.causes, deeds(recovering)) == ("slow", "recovering", [])
    later = decided(silent, memory=Memory(blind_at=BOOT - 100), database=DatabaseView("ok", uptime_seconds=100))
    assert later.verdict == "stuck"


def test_a_pause_wins_until_it_runs_out() -> None:
    pause = Pause("ann", ago(60).isoformat(), ago(-60).isoformat(), "new disk")
    decision = decided(component(process="gone"), pause=pause)
    assert (decision.verdict, deeds(decision)) == ("paused", [])
    assert "ann" in decision.evidence[0] and "new disk" in decision.evidence[0]
    over = replace(pause, until=ago(1).isoformat())
    assert decided(component(process="gone"), pause=over).verdict == "dead"


def test_another_schema_is_an_upgrade_but_not_for_ever() -> None:
    database = DatabaseView("schema_older", "schema 0001, this opskit needs 0002")
    fresh = decided(component(process="gone"), database=database)
    assert (fresh.verdict, fresh.overdue, deeds(fresh)) == ("upgrading", False, [])
    old = decided(database=database, memory=Memory(upgrading_since=BOOT - 1000))
    assert (old.verdict, old.overdue) == ("upgrading", True)
    assert "opskit db migrate" in old.evidence[1]


def test_the_cap_on_restarts_leaves_the_harmless_deeds() -> None:
    restarts = tuple(Restart(BOOT - 600 * n, "scheduler", "killed") for n in range(1, 5))
    frozen = decided(component(process="frozen"), memory=Memory(restarts=restarts))
    assert deeds(frozen) == ["resume"]
    assert "4 restarts" in frozen.findings[0].held
    killed = decided(component(process="gone"), memory=Memory(restarts=restarts))
    assert (killed.verdict, deeds(killed)) == ("dead", [])
    older = tuple(replace(restart, at=restart.at - 3600) for restart in restarts)
    assert deeds(decided(component(process="gone"), memory=Memory(restarts=older))) == ["start"]


def test_the_back_off_holds_the_next_restart() -> None:
    memory = Memory(restarts=(Restart(BOOT - 10, "scheduler", "killed"),), next_restart_at=BOOT + 30)
    held = decided(component(process="gone"), memory=memory)
    assert (held.verdict, deeds(held)) == ("dead", [])
    assert "30 s" in held.findings[0].held
    assert deeds(decided(component(process="gone"), memory=replace(memory, next_restart_at=BOOT - 1))) == ["start"]


def test_work_that_does_not_move_is_seen_behind_a_good_pulse() -> None:
    def with_backlog(age: float, **more: Any) -> Decision:
        backlog = Backlog("due DAGs that no scheduler owns", 3, ago(age))
        return decided(component(), backlogs=(backlog,), **more)

    assert with_backlog(30).verdict == "healthy"
    assert (with_backlog(100).verdict, deeds(with_backlog(100))) == ("slow", [])
    stuck = with_backlog(400)
    assert (stuck.verdict, stuck.causes, deeds(stuck)) == ("stuck", "work", ["nudge", "reset", "restart"])
    assert "3 due DAGs" in stuck.evidence[0]
    again = with_backlog(400, memory=Memory(restarts=(Restart(BOOT - 2000, "scheduler", "work"),)))
    assert (again.verdict, deeds(again)) == ("stuck", []), "a second restart for the same reason would not help either"


def test_work_waits_rightly_while_the_scheduler_is_dead() -> None:
    backlog = Backlog("queued DagRuns that do not start", 1, ago(1000))
    decision = decided(component(process="gone"), backlogs=(backlog,))
    assert decision.causes == "killed"


def test_a_worker_is_started_or_resumed_but_never_killed() -> None:
    def worker(**changes: Any) -> Component:
        return component(kind="worker", instance_id="w", heartbeat_at=ago(500), progress_at=ago(500), **changes)

    assert decided(component(), worker()).verdict == "healthy"
    assert deeds(decided(component(), worker(process="frozen"))) == ["resume"]
    assert deeds(decided(component(), worker(process="gone"))) == ["start"]


def test_a_frozen_supervisor_is_resumed_first() -> None:
    decision = decided(
        component(process="gone"), component(kind="standalone", instance_id="s", process="frozen", heartbeat_at=None)
    )
    assert [(f.kind, [step.deed for step in f.plan]) for f in decision.findings] == [
        ("standalone", ["resume"]),
        ("scheduler", ["start"]),
    ]


def test_only_the_components_that_are_named_are_watched() -> None:
    policy = Policy(components=("worker",))
    assert decided(component(process="gone"), policy=policy).verdict == "healthy"
    assert decided(policy=policy).verdict == "healthy"


def test_a_clock_that_differs_is_told() -> None:
    decision = decided(component(), database=DatabaseView("ok", clock_difference_seconds=-30.0))
    assert any("-30.0 s" in sentence for sentence in decision.evidence)


def test_every_decision_explains_itself() -> None:
    for decision in (decided(), decided(component()), decided(database=DatabaseView("timeout"))):
        assert decision.rules
        assert all(rule.rule and rule.values and rule.outcome for rule in decision.rules)


@pytest.mark.parametrize(
    ("what", "changes", "used_before", "verdict"),
    [
        ("rests", {}, 10.0, "stuck"),
        ("works or waits for a processor", {"cpu_seconds": 13.0}, 10.0, "healthy"),
        ("waits for the disk", {"process": "blocked"}, 10.0, "healthy"),
        ("waits for a lock", {"held_back": "its session 7 waits for a lock"}, 10.0, "healthy"),
    ],
)
def test_who_looks_each_second_is_quick_only_with_a_process_that(
    what: str, changes: dict[str, Any], used_before: float, verdict: str
) -> None:
    late = component(**{"heartbeat_at": ago(5), "progress_at": ago(5), "cpu_seconds": 10.0, **changes})
    memory = Memory(progress={"one": (50, BOOT - 5, used_before)})
    decision = decided(late, memory=memory, policy=Policy(quick_after=4.0))
    assert decision.verdict == verdict
    assert deeds(decision) == (["restart"] if verdict == "stuck" else [])
    assert decided(late, memory=memory).verdict == "healthy", "cron's watchdog is patient"


def test_what_waits_for_the_database_is_told_and_never_restarted() -> None:
    held = component(heartbeat_at=ago(100), progress_at=ago(100), held_back="its session 7 waits for a lock of 9")
    decision = decided(held)
    assert (decision.verdict, decision.causes, deeds(decision)) == ("stuck", "held", [])
    assert "session 7" in decision.evidence[0]


def test_a_clock_that_was_set_and_a_machine_that_slept_excuse_for_a_while() -> None:
    old = component(heartbeat_at=ago(3600), progress_at=ago(3600))
    memory = Memory(disturbed_at=BOOT - 5, disturbance="the machine slept for 3590 s")
    decision = decided(old, memory=memory)
    assert (decision.verdict, decision.causes, deeds(decision)) == ("slow", "recovering", [])
    assert "slept for 3590 s" in decision.evidence[0]
    assert decided(old, memory=replace(memory, disturbed_at=BOOT - 60)).verdict == "stuck"


def test_a_migration_that_holds_the_tables_is_an_upgrade_and_a_lock_is_blindness() -> None:
    migrating = decided(component(process="gone"), database=DatabaseView("migrating", "session 5 changes the schema"))
    assert (migrating.verdict, deeds(migrating)) == ("upgrading", [])
    assert "session 5" in migrating.evidence[0]
    assert decided(component(), database=DatabaseView("locked", "session 6 holds it")).verdict == "blind"


def test_of_a_cluster_every_silent_instance_counts_but_none_is_touched() -> None:
    there = {"hostname": "there", "local": False, "process": "unknown"}
    silent = component(instance_id="two", heartbeat_at=ago(100), **there)
    worker = component(instance_id="three", kind="worker", heartbeat_at=ago(100), **there)
    decision = decided(component(), silent, worker, policy=Policy(cluster=True))
    assert (decision.verdict, deeds(decision)) == ("stuck", [])
    assert {finding.component.instance_id for finding in decision.findings if finding.component} == {"two", "three"}
    assert decided(component(), silent, worker).verdict == "slow", (
        "without --cluster it is told, and the worker is theirs"
    )


def test_a_stop_by_hand_is_not_raced_by_the_one_that_stays() -> None:
    stopped = component(process="gone", ended_at=ago(10))
    assert decided(stopped, policy=Policy(missing_after=45.0)).verdict == "healthy"
    assert deeds(decided(stopped, policy=Policy(missing_after=5.0))) == ["start"]


def test_work_is_reset_before_a_restart_and_only_once_an_hour() -> None:
    backlog = Backlog("queued task instances that do not start", 2, ago(400))
    assert deeds(decided(component(), backlogs=(backlog,))) == ["nudge", "reset", "restart"]
    again = decided(component(), backlogs=(backlog,), memory=Memory(reset_at=BOOT - 100))
    assert deeds(again) == ["nudge", "restart"]


def test_a_dag_that_may_wait_for_its_own_limits_is_never_a_reason_for_a_restart() -> None:
    idle = Backlog("DAGs with runs of which nothing moves", 1, ago(4000), cause="idle")
    first = decided(component(), backlogs=(idle,))
    assert (first.verdict, deeds(first)) == ("stuck", ["nudge", "reset"])
    later = decided(component(), backlogs=(idle,), memory=Memory(reset_at=BOOT - 100))
    assert (later.verdict, deeds(later)) == ("slow", [])
    assert "depends_on_past" in later.evidence[0]


def test_tasks_that_no_worker_can_run_are_not_the_schedulers_fault() -> None:
    queued = Backlog("queued task instances that do not start", 3, ago(400), cause="no_worker")
    decision = decided(component(), backlogs=(queued,))
    assert (decision.verdict, decision.causes, deeds(decision)) == ("stuck", "no_worker", [])
    assert "no worker is alive" in decision.evidence[0]


@pytest.mark.parametrize("kind", ["webserver", "triggerer"])
def test_every_kind_that_beats_is_restarted_when_it_hangs(kind: str) -> None:
    policy = Policy(components=("scheduler", kind))
    other = component(kind=kind, instance_id="w", heartbeat_at=ago(100), progress_at=ago(100))
    assert deeds(decided(component(), other, policy=policy)) == ["nudge", "restart"]
    assert deeds(decided(component(), replace(other, process="gone"), policy=policy)) == ["start"]


def test_a_web_server_without_a_row_lives_by_its_process() -> None:
    policy = Policy(components=("scheduler", "webserver"))
    bare = component(kind="webserver", instance_id="w", heartbeat_at=None, progress_at=None, started_at=ago(900))
    assert decided(component(), bare, policy=policy).verdict == "healthy"
