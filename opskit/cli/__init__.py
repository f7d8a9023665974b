"""The command line. Commands are loaded on first use, so that `opskit --help` stays fast."""

from __future__ import annotations

import sys
from typing import Any

import click

from opskit import __version__
from opskit.errors import OpskitError

# name → (module:attribute, one line of help). The help line stands here so that `--help` loads no command.
COMMANDS: dict[str, tuple[str, str]] = {
    "standalone": ("opskit.cli.daemons:standalone", "Run scheduler, DAG processor, worker and webserver."),
    "scheduler": ("opskit.cli.daemons:scheduler", "Run a scheduler."),
    "worker": ("opskit.cli.daemons:worker", "Run a worker."),
    "dag-processor": ("opskit.cli.daemons:dag_processor", "Run the DAG processor."),
    "webserver": ("opskit.cli.daemons:webserver", "Run the web UI and the REST API."),
    "dags": ("opskit.cli.dags:dags", "List, trigger, pause and test DAGs."),
    "tasks": ("opskit.cli.tasks:tasks", "List, test and clear task instances, read their logs."),
    "db": ("opskit.cli.db:db", "Create, check, migrate and clean the metastore."),
    "assets": ("opskit.cli.assets:assets", "Show assets, what makes them and what waits for them; make events."),
    "datasets": ("opskit.cli.assets:assets", "The same as assets."),
    "connections": ("opskit.cli.connections:connections", "Manage connections."),
    "variables": ("opskit.cli.variables:variables", "Manage variables."),
    "pools": ("opskit.cli.pools:pools", "Manage pools."),
    "users": ("opskit.cli.users:users", "Manage the users of web UI and REST API, and their tokens."),
    "roles": ("opskit.cli.roles:roles", "Manage roles and what they allow."),
    "env": ("opskit.cli.env:env", "Promote connections, variables and pools between environments."),
    "fernet": ("opskit.cli.fernet:fernet", "Rotate the key of secrets, audit and repair them."),
    "config": ("opskit.cli.configuration:config", "Show settings and where each comes from."),
    "airflow": ("opskit.cli.airflow:airflow", "Move in from Airflow: what would run, and what is missing."),
    "info": ("opskit.cli.info:info", "Show versions, paths and the state of this installation."),
    "doctor": ("opskit.cli.doctor:doctor", "Check everything that hurts operators; changes nothing."),
    "backup": ("opskit.cli.backup:backup", "Back up the metastore and prove the backup."),
    "keys": ("opskit.cli.keys:keys", "Make and replace the keys of encrypted backups."),
    "restore": ("opskit.cli.restore:restore", "Restore a backup, or parts of it; undo a restore."),
    "drill": ("opskit.cli.drill:drill", "Prove a backup by restoring it, and show what was proven."),
    "history": ("opskit.cli.history:history", "Read the archive of history that db clean writes."),
    "watchdog": ("opskit.cli.watchdog:watchdog", "Check the scheduler, and restart it when that helps."),
    "chaos": ("opskit.cli.chaos:chaos", "Break one thing on purpose, and measure who notices."),
    "deploy-dag": (
        "opskit.cli.deploy_dag:deploy_dag",
        "Deploy DAG files to worker nodes as one transaction.",
    ),
    "rollback": ("opskit.cli.rollback:rollback", "Switch DAG folders back to the release before."),
    "dags-drift": ("opskit.cli.dags_drift:dags_drift", "Compare DAG folders with what was deployed, and repair them."),
    "logs": ("opskit.cli.logs:logs", "Clean and archive task logs, and show any of them."),
    "permissions": ("opskit.cli.permissions:permissions", "Check and repair owners and modes."),
    "agent": ("opskit.cli.agent:agent", "Run the maintenance verbs where there is neither systemd nor cron."),
    "units": ("opskit.cli.units:units", "Print or install systemd units."),
    "alert": ("opskit.cli.alert:alert", "Send an alert: a test, or that a systemd unit has failed."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        from importlib import import_module

        module_name, attribute = COMMANDS[cmd_name][0].split(":")
        from opskit.cli.recording import record

        return record(getattr(import_module(module_name), attribute), cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="opskit")
def cli() -> None:
    """opskit keeps a workflow cluster running.

    Everything lives under OPSKIT_HOME (default ~/opskit).
    """


def main(arguments: list[str] | None = None) -> None:
    """Run one command and exit with the code of opskit/errors.py."""
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """Run one command; its exit code. A user's mistake gives a message and a hint on stderr, never a traceback."""
    try:
        result: Any = cli.main(args=arguments, prog_name="opskit", standalone_mode=False)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.Abort:
        click.echo("opskit: interrupted", err=True)
        return 130
    except KeyboardInterrupt:
        click.echo("opskit: interrupted", err=True)
        return 130
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except OpskitError as error:
        click.echo(f"opskit: {error.message}", err=True)
        if error.hint:
            click.echo(f"        {error.hint}", err=True)
        return error.exit_code
    except BrokenPipeError:
        # The reader (head, less) went away: not our user's mistake, and nothing more can be said.
        sys.stderr.close()
        return 141
    return result if isinstance(result, int) else 0
