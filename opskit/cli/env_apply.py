"""`opskit env plan`, `apply` and `undo`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from opskit.cli.cluster import confirm
from opskit.cli.env import access_of, access_options, text
from opskit.cli.output import output_option, plain, show
from opskit.errors import PartialFailure, UsageError

if TYPE_CHECKING:
    from opskit.ops.env_plan import Plan
    from opskit.ops.env_secrets import Fingerprints
    from opskit.platforms.base import Platform


def _policy_options(function: Callable[..., Any]) -> Callable[..., Any]:
    options: tuple[Callable[[Any], Any], ...] = (
        click.option("--to", "target", default=".", show_default=True, help="The environment that changes."),
        click.option("--mapping", metavar="FILE", help="Mapping file (TOML): names, hosts, where secrets come from."),
        click.option(
            "--policy",
            type=click.Choice(["create", "update", "replace"]),
            default="update",
            show_default=True,
            help="create: only what is not there. update: what the source says. replace: nothing else stays.",
        ),
        click.option(
            "--secrets",
            type=click.Choice(["source", "target", "fill", "empty"]),
            default=None,
            help="source: copy them. target: keep those that are there. fill: keep, else copy. empty: keep, else none. "
            "Default: target between environments, source within one.",
        ),
        click.option("--prune", is_flag=True, help="Delete what the source does not have."),
        click.option("--protect", multiple=True, metavar="GLOB", help="Never touch these, as env.protect."),
    )
    for option in options:
        function = option(function)
    return access_options(function)


def _plan(
    source: str,
    target: str,
    mapping: str | None,
    policy: str,
    secrets: str | None,
    prune: bool,
    protect: tuple[str, ...],
    **access: Any,
) -> tuple[Plan, Fingerprints, Platform]:
    from opskit.ops import env as ops
    from opskit.ops.env_sources import open_environment

    opened = access_of(**access)
    there = open_environment(target, opened)
    made, fingerprints = ops.make_plan(
        opened,
        open_environment(source, opened),
        there,
        datetime.now(UTC),
        policy=policy,
        secrets=secrets or "",
        prune=prune,
        protect=protect,
        mapping=Path(mapping) if mapping else None,
        ask=_ask if sys.stdin.isatty() else None,
    )
    assert there.platform is not None
    return made, fingerprints, there.platform


def _ask(question: str) -> str:
    return str(click.prompt(question.rstrip(": "), hide_input=True, err=True))


@click.command()
@click.argument("source")
@click.option("--out", metavar="FILE", help="Write the plan, for: opskit env apply FILE.")
@click.option("--force", is_flag=True, help="Replace the file.")
@click.option("--check", is_flag=True, help="End with 5 when there is something to change.")
@_policy_options
@output_option
def plan(source: str, out: str | None, force: bool, check: bool, output: str, **options: Any) -> int:
    """Say what would change in an environment to make it what SOURCE says. Nothing is written to it."""
    from opskit.ops import env_apply, env_plan_file

    made, fingerprints, platform = _plan(source, **options)
    refused = env_apply.refusals(made, max_percent=float(platform.config.get("env", "max_percent")))
    if out:
        env_plan_file.save(made, Path(out), platform.configuration, fingerprints, force=force)
    if output != "table":
        show({**env_plan_file.shown(made), "refusals": refused}, output)
    else:
        _print(made, refused)
    return 5 if check and made.changes else 0


@click.command()
@click.argument("source", metavar="PLAN|SOURCE")
@click.option("--allow-prod", default="", metavar="NAME", help="Change the protected environment of this name.")
@click.option("--max-percent", type=float, default=None, help="Most that may change or go; default env.max_percent.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@_policy_options
@output_option
def apply(
    source: str,
    allow_prod: str,
    max_percent: float | None,
    dry_run: bool,
    yes: bool,
    output: str,
    **options: Any,
) -> int:
    """Carry out a PLAN, or plan and apply SOURCE at once, in one transaction. opskit env undo takes it back.

    What is blocked (a secret that nobody has) is left out, and the command ends with 3. Ends with 16 when a guard
    refuses, and when the plan is stale.
    """
    from opskit.ops import env_apply, env_plan_file
    from opskit.ops.env_sources import open_environment

    if env_plan_file.is_plan(Path(source)):
        given = [
            name
            for name in ("mapping", "policy", "secrets", "prune", "protect", "only")
            if click.get_current_context().get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE
        ]
        if given:
            raise UsageError(f"--{given[0]} belongs to a plan that is being made", hint="give it to: opskit env plan")
        opened = access_of((), options["identity"], options["fernet_key_file"])
        platform = open_environment(options["target"], opened).platform
        if platform is None:
            raise UsageError(f"{options['target']} is a file: nothing can be applied to it")
        from opskit.ops.env_secrets import open_fingerprints

        fingerprints = open_fingerprints(opened.platform.config)
        made = env_plan_file.load(Path(source), platform.configuration, fingerprints)
    else:
        made, fingerprints, platform = _plan(source, **options)
    if made.changes and not dry_run and not yes:
        _print(made, [], err=True)
        confirm(f"Change {made.target}?", yes)
    report = env_apply.apply(
        platform,
        made,
        fingerprints,
        datetime.now(UTC),
        allow=allow_prod,
        max_percent=max_percent,
        dry_run=dry_run,
    )
    if output != "table":
        show({**plain(report), "plan": env_plan_file.shown(made)}, output)
    else:
        if dry_run:
            _print(made, [])
        _report(report)
    if made.blocked:
        raise PartialFailure(
            f"{len(made.blocked)} objects are blocked: {', '.join(list(made.blocked)[:10])}",
            hint="say where their secrets come from: --secrets, or a mapping file",
        )
    return 0


@click.command()
@click.argument("snapshot", default="")
@click.option("--to", "target", default=".", show_default=True, help="The environment that changes.")
@click.option("--list", "list_", is_flag=True, help="List what can be taken back.")
@click.option("--force", is_flag=True, help="Also objects that have changed since.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--fernet-key-file", metavar="FILE", help="Fernet keys of a database that is named by its URL.")
@output_option
def undo(
    snapshot: str,
    target: str,
    list_: bool,
    force: bool,
    dry_run: bool,
    yes: bool,
    fernet_key_file: str | None,
    output: str,
) -> None:
    """Take back the newest apply, or that of SNAPSHOT: every object it touched becomes what it was."""
    from opskit.ops import env_apply
    from opskit.ops.env_secrets import open_fingerprints
    from opskit.ops.env_sources import open_environment

    opened = access_of((), (), fernet_key_file)
    platform = open_environment(target, opened).platform
    if platform is None:
        raise UsageError(f"{target} is a file: there is nothing to take back")
    if list_:
        show(env_apply.list_undo(platform), output, columns=["id", "at", "what", "source", "objects", "undone_at"])
        return
    fingerprints = open_fingerprints(opened.platform.config)
    if not dry_run and not yes:
        entry, expected = env_apply.undo(
            platform, fingerprints, datetime.now(UTC), snapshot=snapshot, force=force, dry_run=True
        )
        snapshot = entry.id
        click.echo(f"{entry.what} of {entry.source} at {entry.at}", err=True)
        confirm(f"Take back {expected.created + expected.updated + expected.deleted} objects?", yes)
    entry, report = env_apply.undo(
        platform, fingerprints, datetime.now(UTC), snapshot=snapshot, force=force, dry_run=dry_run
    )
    if output != "table":
        show({"undone": plain(entry), **plain(report)}, output)
    else:
        click.echo(f"{'would take' if dry_run else 'took'} back the {entry.what} of {entry.source} at {entry.at}")
        _report(report)


def _print(made: Plan, refused: list[str], err: bool = False) -> None:
    lines = [f"{made.source} → {made.target}"]
    for change in made.changes:
        lines.append(f"{change.action} {change.object}")
        for path, (before, after) in change.fields.items():
            arrow = f"{text(before)} → " if change.action == "update" else ""
            lines.append(f"    {path}: {arrow}{text(before) if change.action == 'delete' else text(after)}")
        lines += [f"    {note}" for note in change.notes]
    lines += [f"blocked {name}: {why}" for name, why in made.blocked.items()]
    lines += [f"left {name}: {why}" for name, why in made.left.items()]
    counted = ", ".join(f"{made.count(action)} to {action}" for action in ("create", "update", "delete"))
    lines.append(f"{counted}, {made.unchanged} unchanged, {len(made.blocked)} blocked")
    lines += [f"REFUSED: {why}" for why in refused]
    click.echo("\n".join(lines), err=err)


def _report(report: Any) -> None:
    word = "would be " if report.dry_run else ""
    click.echo(
        f"{report.created} {word}created, {report.updated} {word}updated, {report.deleted} {word}deleted, "
        f"{report.unchanged} unchanged"
    )
    if report.snapshot:
        click.echo(f"to take it back: opskit env undo {report.snapshot}")
