"""`opskit restore`: bring back a backup, a configuration as it was at a time, or single things; undo; commit."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from opskit import config as settings
from opskit.cli.backup import ending_cleanly, identity_option, store_option
from opskit.cli.cluster import confirm, moment
from opskit.cli.output import output_option, show
from opskit.cli.progress import shown, size
from opskit.errors import PartialFailure, UsageError

if TYPE_CHECKING:
    from opskit.platforms import Platform
    from opskit.system.object_store import ObjectStore

_DEFAULT = "from"


class _WithDefault(click.Group):
    """A group whose first argument may be that of its default command: `restore latest` is `restore from latest`."""

    @property
    def default_command(self) -> click.Command:
        return self.commands[_DEFAULT]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = [_DEFAULT, *args]
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        default = self.default_command
        with formatter.section("Options"):
            formatter.write_dl(
                [record for option in default.get_params(ctx) if (record := option.get_help_record(ctx))]
            )
        self.format_commands(ctx, formatter)


@click.group(cls=_WithDefault, subcommand_metavar="[BACKUP|latest | COMMAND] …")
def restore() -> None:
    """Restore a backup beside the live metastore, compare it, and swap it in as the last step.

    With --tier config: connections, variables, pools and pause states, as they were --at a time. With --only: single
    ones of them, or the history of one DAG.

    A restore of the whole metastore ends with 16 while a scheduler or another process of opskit uses it. What it
    replaces is kept until `opskit restore commit`, and comes back with `opskit restore undo`.
    """


@restore.command(_DEFAULT, hidden=True)
@click.argument("backup_id", metavar="[BACKUP|latest]", default="")
@store_option
@identity_option
@click.option("--tier", type=click.Choice(["full", "config"]), help="What to restore. [default: full]")
@click.option("--at", "at", metavar="TIME", help="The configuration as it was then (ISO 8601).")
@click.option(
    "--only",
    "only",
    metavar="KIND:NAME",
    multiple=True,
    help="Only this: connection:X, variable:X, pool:X, user:X, role:X, dag-pause:X, or dag:X for its history. "
    "Repeatable.",
)
@click.option("--list", "listing", is_flag=True, help="With --tier config: list the captured configurations.")
@click.option("--exact", is_flag=True, help="With --tier config: delete what was not there then.")
@click.option("--unpause", is_flag=True, help="Let DAGs run that were not paused then, and are now.")
@click.option("--to-url", "target", metavar="DB", default="", help="Restore into this database, not the live one.")
@click.option("--plan", "--dry-run", "plan_only", is_flag=True, help="Say what would be done, and what forbids it.")
@click.option("--without-key", is_flag=True, help="Restore although the Fernet key can't read the backup's secrets.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
@output_option
def from_(backup_id: str, url: str, identity_files: tuple[str, ...], only: tuple[str, ...], **options: Any) -> int:
    """Restore from a backup or a captured configuration."""
    from opskit import platforms
    from opskit.ops.backup import store_of
    from opskit.ops.backup_keys import identities_of
    from opskit.ops.restore_items import parse_item

    config = settings.load()
    store = store_of(config, url)
    platform = platforms.find(config)
    if options["listing"]:
        return _list_captures(store, options["output"])
    identities = identities_of(config, store, identity_files)
    items = [parse_item(text) for text in only]
    dags = [name for kind, name in items if kind == "dag"]
    at = moment(options["at"], config) if options["at"] else None
    if dags:
        if len(items) > 1 or at or options["target"]:
            raise UsageError(
                "the history of one DAG is restored alone", hint="leave the other --only, --at, --to-url out"
            )
        return _history(platform, store, backup_id or "latest", dags[0], identities, options)
    if items or at or options["tier"] == "config":
        if options["tier"] == "full" or options["target"]:
            raise UsageError("--at, --only and --to-url, --tier full don't fit together")
        return _items(platform, store, backup_id, at, items or None, identities, options)
    if not backup_id:
        raise UsageError("no backup is named", hint="opskit restore latest --plan")
    if options["exact"]:
        raise UsageError("--exact is for --tier config", hint="a restore of the whole metastore is always exact")
    return _whole(platform, store, backup_id, identities, options)


def _whole(platform: Platform, store: ObjectStore, backup_id: str, identities: Any, options: dict[str, Any]) -> int:
    from opskit.ops import restore as ops
    from opskit.ops.backup_catalog import find

    now = datetime.now(UTC)
    chosen = find(store, backup_id)
    plan = ops.plan(platform, store, chosen, now, url=options["target"], identities=identities)
    if options["plan_only"]:
        _show_plan(plan, options["output"])
        return 0
    if not plan.refusals:
        if not options["yes"]:
            _show_plan(plan, "table", err=True)
        confirm(f"Replace the metastore {plan.target}?", options["yes"])
    with ending_cleanly(), shown(options["quiet"]) as on_progress:
        report = ops.restore(
            platform,
            store,
            chosen,
            now,
            url=options["target"],
            identities=identities,
            without_key=options["without_key"],
            unpause=options["unpause"],
            on_progress=on_progress,
        )
    _show_report(report, options["output"])
    if report.next_backup:
        raise PartialFailure(
            f"the metastore is restored, but its next backup would fail: {report.next_backup}", hint="opskit backup"
        )
    return 0


def _items(
    platform: Platform,
    store: ObjectStore,
    backup_id: str,
    at: datetime | None,
    items: list[tuple[str, str]] | None,
    identities: Any,
    options: dict[str, Any],
) -> int:
    from opskit.errors import NotFound
    from opskit.ops import restore_items as ops
    from opskit.ops.backup_catalog import find
    from opskit.ops.backup_keys import recipients_of

    if backup_id and at:
        raise UsageError("a backup and --at name two sources", hint="leave one of them out")
    try:
        wanted = "" if backup_id == "latest" else backup_id
        source = ops.from_captures(store, at, identities, items, wanted=wanted)
    except NotFound:
        if not backup_id:
            raise
        source = ops.from_backup(store, find(store, backup_id), identities, items)
    choice = {
        "items": items,
        "unpause": options["unpause"],
        "exact": options["exact"],
        "without_key": options["without_key"],
        "recipients": tuple(recipients_of(platform.config, ())),
    }
    now = datetime.now(UTC)
    plan = ops.restore_items(platform, store, source, now, **choice, dry_run=True)
    if options["plan_only"]:
        _show_items(plan, options["output"])
        return 0
    writes = sum(change.action != "keep" for change in plan.changes)
    if writes and not options["yes"]:
        _show_items(plan, "table", err=True)
        confirm(f"Write {writes} changes into {platform.metastore.redacted()}?", options["yes"])
    with ending_cleanly():
        report = ops.restore_items(platform, store, source, now, **choice)
    _show_items(report, options["output"])
    return 0


def _history(
    platform: Platform, store: ObjectStore, backup_id: str, dag_id: str, identities: Any, options: dict[str, Any]
) -> int:
    from opskit.ops.backup_catalog import find
    from opskit.ops.restore_history import restore_history

    chosen = find(store, backup_id)
    if not options["plan_only"]:
        confirm(f"Insert what the metastore lacks of {dag_id} from {chosen.id}?", options["yes"])
    with ending_cleanly(), shown(options["quiet"]) as on_progress:
        report = restore_history(
            platform,
            store,
            chosen,
            dag_id,
            datetime.now(UTC),
            identities=identities,
            dry_run=options["plan_only"],
            on_progress=on_progress,
        )
    if options["output"] != "table":
        show(report, options["output"])
        return 0
    would = "would insert" if report.dry_run else "inserted"
    for table, rows in report.rows.items():
        click.echo(f"{would} {rows:,} rows into {table}")
    for reason, runs in report.skipped.items():
        click.echo(f"left alone {runs:,} runs: {reason}")
    if not report.rows:
        click.echo("nothing is missing")
    _warn(report.warnings)
    return 0


@restore.command()
@output_option
def status(output: str) -> int:
    """Show which replaced metastores are kept beside the live one."""
    from opskit import platforms
    from opskit.ops import restore_kept as ops

    return _show_kept(ops.status(platforms.find(settings.load())), output)


def _kept_options(function: Any) -> Any:
    for option in (
        output_option,
        click.option("-y", "--yes", is_flag=True, help="Do not ask."),
        click.option("--dry-run", "--plan", "dry_run", is_flag=True, help="Say what would be done."),
        click.argument("name", metavar="[NAME]", default=""),
    ):
        function = option(function)
    return function


@restore.command()
@_kept_options
def undo(name: str, dry_run: bool, yes: bool, output: str) -> int:
    """Put back what the last restore replaced, or NAME. The restored metastore is kept then: an undo can be undone."""
    from opskit import platforms
    from opskit.ops import restore_kept as ops

    platform, now = platforms.find(settings.load()), datetime.now(UTC)
    plan = ops.undo(platform, now, name=name, dry_run=True)
    if not dry_run:
        confirm(f"Put {plan.put_back} in the place of {plan.live}?", yes)
        with ending_cleanly():
            plan = ops.undo(platform, now, name=name)
    return _show_kept(plan, output)


@restore.command()
@_kept_options
def commit(name: str, dry_run: bool, yes: bool, output: str) -> int:
    """Remove the replaced metastores, or only NAME, for good."""
    from opskit import platforms
    from opskit.ops import restore_kept as ops

    platform, now = platforms.find(settings.load()), datetime.now(UTC)
    plan = ops.commit(platform, now, name=name, dry_run=True)
    if not dry_run and plan.removed:
        confirm(f"Remove {', '.join(plan.removed)} for good?", yes)
        with ending_cleanly():
            plan = ops.commit(platform, now, name=name)
    return _show_kept(plan, output)


def _list_captures(store: ObjectStore, output: str) -> int:
    from opskit.ops import captures

    listed, beat = captures.list_captures(store), captures.read_heartbeat(store)
    rows = [
        {
            "id": one.id,
            "first_seen": one.captured_at,
            "last_seen": next_.captured_at if next_ else beat.captured_at if beat and beat.key == one.key else None,
            "size_bytes": one.size_bytes,
            "encrypted": one.encrypted,
        }
        for one, next_ in zip(listed, [None, *listed], strict=False)
    ]
    show(rows, output)
    return 0


def _show_kept(report: Any, output: str) -> int:
    if output != "table":
        show(report, output)
        return 0
    would = "would be " if report.dry_run else ""
    if report.put_back:
        click.echo(f"{report.put_back} {would or 'was '}put in the place of {report.live}")
    for name in report.removed:
        click.echo(f"{name} {would or 'was '}removed")
    for kept in report.kept:
        click.echo(f"kept: {kept.name}, replaced {kept.kept_at:%Y-%m-%d %H:%M:%S} UTC, {size(kept.size_bytes)}")
    if not report.kept:
        click.echo("no replaced metastore is kept")
    _warn(report.warnings)
    return 0


def _show_items(report: Any, output: str, err: bool = False) -> None:
    if output != "table":
        show(report, output)
        return
    until = f" to {report.valid_until:%Y-%m-%d %H:%M:%S}" if report.valid_until else " on"
    lines = [f"the configuration of {report.captured_at:%Y-%m-%d %H:%M:%S}{until} UTC ({report.source})"]
    would = "would " if report.dry_run else ""
    for change in report.changes:
        fields = f" ({', '.join(change.fields)})" if change.fields else ""
        reason = f": {change.reason}" if change.reason else ""
        lines.append(
            f"{'' if change.action == 'keep' else would}{change.action} {change.kind} {change.name}{fields}{reason}"
        )
    if not report.changes:
        lines.append("nothing differs")
    lines += [f"the present Fernet key can't read {what}" for what in report.unreadable_secrets]
    lines += [f"the way back: {command}" for command in report.way_back]
    for line in lines:
        click.echo(line, err=err)
    _warn(report.warnings)


def _show_plan(plan: Any, output: str, err: bool = False) -> None:
    if output != "table":
        show(plan, output)
        return
    age = plan.age_seconds / 3600
    lines = [
        f"backup {plan.backup_id} ({plan.tier}, {plan.state}), {age:.1f} hours old, {plan.proof}",
        f"with {plan.rows:,} rows, {size(plan.size_bytes)}, {plan.secrets} secrets",
        f"target {plan.target}: {plan.found}",
    ]
    lines += [
        f"  {one.table}: {_rows(one.rows_now)} rows now, {_rows(one.rows_then)} then"
        for one in plan.tables
        if one.rows_now != one.rows_then
    ]
    lines += [f"would {step}" for step in plan.steps]
    if plan.expected_seconds is not None:
        lines.append(f"its last drill took {plan.expected_seconds:.1f} s")
    lines += [f"REFUSED: {text}" for text in plan.refusals]
    for line in lines:
        click.echo(line, err=err)


def _rows(count: int | None) -> str:
    return "no" if count is None else f"{count:,}"


def _show_report(report: Any, output: str) -> None:
    if output != "table":
        show(report, output)
        return
    click.echo(f"restored {report.plan.backup_id} into {report.plan.target} in {report.seconds:.1f} s")
    for what, count in report.changes.items():
        if count:
            click.echo(f"  {what.replace('_', ' ')}: {count}")
    if report.kept:
        click.echo(f"the old metastore is kept as {report.kept}")
    for command in report.way_back:
        click.echo(f"the way back, while nothing runs: {command}")
        click.echo("to let it go: opskit restore commit")
    _warn(report.warnings)


def _warn(warnings: Any) -> None:
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)
