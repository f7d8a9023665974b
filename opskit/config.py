"""Settings: declared once in `SETTINGS`, read once, from flag, environment, file and default.

Order, first wins: `OPSKIT__SECTION__KEY`, `OPSKIT__SECTION__KEY_CMD`, the same two with the prefix
`AIRFLOW__`, the systemd credential `section.key`, `key` in `opskit.toml`, `key_cmd` in `opskit.toml`, the
default. (Command-line flags are the caller's: they never reach this module.)
"""

from __future__ import annotations

import difflib
import os
import shlex
import subprocess
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opskit.errors import ConfigError

Value = str | int | float | bool | list[str] | dict[str, Any]


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting. `type` is one of str, int, float, bool, list (of strings), table (free-form TOML)."""

    section: str
    key: str
    type: str
    default: Value
    help: str
    unit: str = ""
    secret: bool = False
    minimum: float | None = None
    choices: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.section}.{self.key}"


def _settings(section: str, *rows: Setting) -> tuple[Setting, ...]:
    assert all(row.section == section for row in rows)
    return rows


# Paths may contain {home}: OPSKIT_HOME.
SETTINGS: tuple[Setting, ...] = (
    *_settings(
        "core",
        Setting("core", "dags_folder", "str", "{home}/dags", "Where DAG files lie."),
        Setting(
            "core",
            "executor",
            "str",
            "LocalExecutor",
            "Where task instances run.",
            choices=("LocalExecutor", "SequentialExecutor"),
        ),
        Setting("core", "parallelism", "int", 16, "Attempts that one worker runs at once.", minimum=1),
        Setting(
            "core",
            "max_active_tasks_per_dag",
            "int",
            16,
            "Running task instances of one DAG, where the DAG does not say.",
            minimum=1,
        ),
        Setting(
            "core",
            "max_active_runs_per_dag",
            "int",
            16,
            "Running DagRuns of one DAG, where the DAG does not say.",
            minimum=1,
        ),
        Setting(
            "core",
            "max_consecutive_failed_dag_runs_per_dag",
            "int",
            0,
            "So many failed runs in a row pause a DAG, where the DAG does not say; 0: never.",
            minimum=0,
        ),
        Setting("core", "dags_are_paused_at_creation", "bool", True, "New DAGs start paused."),
        Setting(
            "core",
            "dag_ignore_file_syntax",
            "str",
            "glob",
            "How .opskitignore and .airflowignore are read: glob as in .gitignore, or regexp.",
            choices=("glob", "regexp"),
        ),
        Setting(
            "core",
            "dag_discovery_safe_mode",
            "bool",
            True,
            "Load only .py files that mention dag and opskit or airflow.",
        ),
        Setting("core", "default_timezone", "str", "UTC", "Zone of naive dates in DAG files."),
        Setting("core", "default_pool_slots", "int", 128, "Slots of default_pool when it is created.", minimum=1),
        Setting(
            "core",
            "fernet_key",
            "str",
            "",
            "Key(s) for connections and variables, comma-separated, newest first. "
            "Empty: {home}/fernet.key, made at the first start.",
            secret=True,
        ),
        Setting(
            "core",
            "test_connection",
            "str",
            "Disabled",
            "Whether page and API may try connections: Enabled or Disabled. Whoever may try one can reach, from this "
            "host, what the host can.",
            choices=("Enabled", "Disabled", "Hidden"),
        ),
        Setting(
            "core",
            "isolation",
            "str",
            "fork",
            "fork: a process per attempt. reuse: a warm process runs several attempts of one DAG file.",
            choices=("fork", "reuse"),
        ),
        Setting(
            "core",
            "dagbag_import_timeout",
            "float",
            30.0,
            "Time that one DAG file may take to load.",
            unit="s",
            minimum=0.1,
        ),
        Setting(
            "core",
            "dag_file_memory_limit",
            "int",
            2048,
            "Memory that loading one DAG file may use.",
            unit="MiB",
            minimum=64,
        ),
        Setting(
            "core",
            "task_memory_limit",
            "int",
            0,
            "Memory that one attempt may use; 0: no limit.",
            unit="MiB",
            minimum=0,
        ),
        Setting(
            "core",
            "killed_task_cleanup_time",
            "float",
            60.0,
            "Time between SIGTERM and SIGKILL for an attempt that is to end.",
            unit="s",
            minimum=0,
        ),
        Setting(
            "core",
            "worker_stop_grace",
            "float",
            10.0,
            "Time that running attempts have to end by themselves when a worker is stopped.",
            unit="s",
            minimum=0,
        ),
        Setting("core", "hide_sensitive_var_conn_fields", "bool", True, "Mask secrets in task logs."),
        Setting("core", "plugins_folder", "str", "{home}/plugins", "Where plugins lie (AirflowPlugin classes)."),
        Setting("core", "xcom_backend", "str", "", "Path to the class that keeps the values of XComs. Empty: none."),
        Setting(
            "core",
            "airflow_dialect",
            "str",
            "auto",
            "Which Airflow's defaults hold for DAG files that import it: 2, 3, or auto: by their imports.",
            choices=("auto", "2", "3"),
        ),
    ),
    *_settings(
        "secrets",
        Setting("secrets", "backend", "str", "", "Path to the class that is asked for secrets first. Empty: none."),
        Setting("secrets", "backend_kwargs", "str", "", "Its arguments, as a JSON object.", secret=True),
    ),
    *_settings(
        "database",
        Setting(
            "database",
            "sql_alchemy_conn",
            "str",
            "sqlite:///{home}/opskit.db",
            "URL of the metastore: sqlite, postgresql, mysql or mariadb.",
            secret=True,
        ),
        Setting("database", "sql_alchemy_pool_size", "int", 5, "Connections that one process keeps.", minimum=1),
    ),
    *_settings(
        "scheduler",
        Setting(
            "scheduler",
            "scheduler_heartbeat_sec",
            "float",
            2.0,
            "Time between heartbeats of an instance.",
            unit="s",
            minimum=0.1,
        ),
        Setting(
            "scheduler",
            "scheduler_health_check_threshold",
            "float",
            15.0,
            "A scheduler without heartbeat for so long has lost its leases.",
            unit="s",
            minimum=1,
        ),
        Setting(
            "scheduler",
            "task_instance_heartbeat_timeout",
            "float",
            30.0,
            "A worker silent for so long has lost its attempts.",
            unit="s",
            minimum=1,
        ),
        Setting(
            "scheduler",
            "poll_interval",
            "float",
            1.0,
            "Longest sleep before the scheduler looks at the metastore again.",
            unit="s",
            minimum=0.05,
        ),
        Setting("scheduler", "catchup_by_default", "bool", True, "catchup of DAGs that do not say."),
        Setting(
            "scheduler",
            "first_run",
            "str",
            "latest",
            "First run of a DAG without catchup that has no run yet: latest (the newest whose time has passed, at "
            "once) or next (the first whose time comes after it was unpaused). A DAG's own first_run goes first.",
            choices=("latest", "next"),
        ),
        Setting("scheduler", "parsing_processes", "int", 2, "DAG files loaded at once.", minimum=1),
        Setting(
            "scheduler",
            "refresh_interval",
            "float",
            30.0,
            "Time between full listings of the DAG folder (changes are seen at once where inotify works).",
            unit="s",
            minimum=0.1,
        ),
        Setting(
            "scheduler",
            "min_file_process_interval",
            "float",
            0.0,
            "Load every DAG file again after this time, for DAGs made from what is not a file; 0: on change only.",
            unit="s",
            minimum=0,
        ),
        Setting(
            "scheduler",
            "variable_refresh_interval",
            "float",
            30.0,
            "How old variables and connections may be that a DAG file reads while it is loaded.",
            unit="s",
            minimum=1,
        ),
        Setting("scheduler", "zygotes", "int", 16, "Warm processes of DAG files that one worker keeps.", minimum=1),
    ),
    *_settings(
        "logging",
        Setting("logging", "base_log_folder", "str", "{home}/logs", "Where task logs are written."),
        Setting(
            "logging",
            "logging_level",
            "str",
            "INFO",
            "Level of opskit's own log lines.",
            choices=("DEBUG", "INFO", "WARNING", "ERROR"),
        ),
        Setting("logging", "json_logs", "bool", False, "opskit's own log lines as JSON objects."),
    ),
    *_settings(
        "smtp",
        Setting("smtp", "smtp_host", "str", "localhost", "Mail server."),
        Setting("smtp", "smtp_port", "int", 25, "Its port.", minimum=1),
        Setting("smtp", "smtp_user", "str", "", "User; empty: none."),
        Setting("smtp", "smtp_password", "str", "", "Password.", secret=True),
        Setting("smtp", "smtp_mail_from", "str", "opskit@localhost", "Sender."),
        Setting("smtp", "smtp_starttls", "bool", True, "Use STARTTLS where a user is set."),
        Setting("smtp", "smtp_ssl", "bool", False, "Use TLS from the start."),
        Setting("smtp", "smtp_timeout", "float", 30.0, "Time for one mail.", unit="s", minimum=1),
    ),
    *_settings(
        "alerts",
        Setting("alerts", "email_to", "list", [], "Who is told when a verb finds trouble."),
        Setting(
            "alerts",
            "ping_urls",
            "table",
            {},
            "Dead man's switches, pinged at the start and the end of a verb: "
            '[alerts.ping_urls] backup = "https://…", watchdog = "https://…".',
            secret=True,
        ),
    ),
    *_settings(
        "webserver",
        Setting("webserver", "enabled", "bool", True, "Whether opskit standalone runs the webserver, too."),
        Setting("webserver", "web_server_host", "str", "127.0.0.1", "Address to listen on; 0.0.0.0: all."),
        Setting("webserver", "web_server_port", "int", 8080, "Port to listen on; 0: a free one.", minimum=0),
        Setting(
            "webserver",
            "workers",
            "int",
            0,
            "Processes that answer requests; 0: one for each CPU, at most 4. 1: no supervisor and no other process.",
            minimum=0,
        ),
        Setting(
            "webserver",
            "nice",
            "int",
            5,
            "CPU niceness of the processes that answer requests, 0 to 19: the scheduler goes first.",
            minimum=0,
        ),
        Setting("webserver", "web_server_ssl_cert", "str", "", "Certificate chain (PEM); empty: plain HTTP."),
        Setting("webserver", "web_server_ssl_key", "str", "", "Key of the certificate (PEM)."),
        Setting("webserver", "base_url", "str", "", "Where people reach it, for links in mails and logs."),
        Setting(
            "webserver",
            "allowed_hosts",
            "list",
            [],
            "More names by which it is reached; *.example.com: all below it, *: any. Addresses, names without a dot, "
            "and that of base_url always are.",
        ),
        Setting("webserver", "max_body_kib", "int", 16_384, "Largest body of a request, in KiB.", minimum=1),
        Setting(
            "webserver",
            "session_lifetime_minutes",
            "int",
            720,
            "A session that nobody uses ends after so long.",
            unit="min",
            minimum=1,
        ),
        Setting(
            "webserver",
            "session_max_minutes",
            "int",
            10_080,
            "Every session ends after so long.",
            unit="min",
            minimum=1,
        ),
        Setting(
            "webserver",
            "cookie_secure",
            "bool",
            False,
            "Send cookies by HTTPS only: where TLS ends before opskit. With a certificate, or a base_url of https, "
            "that is so anyway.",
        ),
        Setting(
            "webserver",
            "trusted_proxies",
            "list",
            [],
            'Networks of proxies whose headers are believed: ["10.0.0.0/24"].',
        ),
        Setting(
            "webserver",
            "proxy_user_header",
            "str",
            "",
            "Header in which a trusted proxy names the person: X-Forwarded-User. Empty: none is believed.",
        ),
        Setting(
            "webserver",
            "proxy_roles_header",
            "str",
            "",
            "Header in which it names the person's roles, separated by commas; empty: they are kept here.",
        ),
        Setting(
            "webserver",
            "proxy_default_role",
            "str",
            "Public",
            "Role of a person that a proxy names for the first time.",
        ),
        Setting("webserver", "oidc_issuer", "str", "", "OpenID Connect: URL of the issuer; empty: not used."),
        Setting("webserver", "oidc_client_id", "str", "", "What this opskit is called there."),
        Setting("webserver", "oidc_client_secret", "str", "", "Its secret there; empty: a public client.", secret=True),
        Setting("webserver", "oidc_scopes", "str", "openid profile email", "What is asked for."),
        Setting("webserver", "oidc_username_claim", "str", "preferred_username", "Claim that is the username."),
        Setting("webserver", "oidc_roles_claim", "str", "", "Claim with groups or roles; a.b: within a; empty: none."),
        Setting(
            "webserver",
            "oidc_role_map",
            "table",
            {},
            'Role by value of that claim: [webserver.oidc_role_map] ops-team = "Op". Empty: values are names of roles.',
        ),
        Setting("webserver", "oidc_default_role", "str", "Public", "Role of a person for whom the claim gives none."),
        Setting(
            "webserver",
            "oidc_end_session",
            "bool",
            False,
            "Whether signing out here ends the session at the provider, too, where its metadata names a page for that.",
        ),
        Setting("webserver", "oidc_label", "str", "Single sign-on", "What the button on the page for signing in says."),
        Setting(
            "webserver",
            "expose_config",
            "str",
            "no",
            "Whether the API shows the configuration: no, yes or non-sensitive-only; secrets are masked anyway.",
            choices=("no", "yes", "non-sensitive-only", "False", "True", "false", "true"),
        ),
    ),
    *_settings(
        "api",
        Setting("api", "maximum_page_limit", "int", 100, "Longest list that one answer of the API holds.", minimum=1),
        Setting("api", "fallback_page_limit", "int", 100, "Length of a list when limit=0 is asked for.", minimum=1),
    ),
    *_settings(
        "metrics",
        Setting(
            "metrics",
            "textfile_directory",
            "str",
            "{home}/metrics",
            "Where verbs leave their numbers as opskit_<verb>.prom, for node_exporter; empty: nowhere.",
        ),
    ),
    *_settings(
        "backup",
        Setting("backup", "to", "str", "{home}/backups", "Default target: a folder or s3://bucket/prefix."),
        Setting("backup", "endpoint_url", "str", "", "Endpoint of an S3-compatible store; empty: AWS."),
        Setting(
            "backup",
            "recipients",
            "list",
            [],
            "Public keys (age1…, ssh-ed25519 …) that backups are encrypted for; empty: not encrypted.",
        ),
        Setting(
            "backup",
            "identity",
            "str",
            "",
            "File with the secret key of one of the recipients, for restores and drills. Never inside the target.",
        ),
        Setting("backup", "keep_hourly", "int", 0, "Hours of which the newest backup is kept.", minimum=0),
        Setting("backup", "keep_daily", "int", 7, "Days of which the newest backup is kept.", minimum=0),
        Setting("backup", "keep_weekly", "int", 4, "Weeks of which the newest backup is kept.", minimum=0),
        Setting("backup", "keep_monthly", "int", 6, "Months of which the newest backup is kept.", minimum=0),
        Setting("backup", "keep_yearly", "int", 2, "Years of which the newest backup is kept.", minimum=0),
        Setting(
            "backup",
            "object_lock_mode",
            "str",
            "",
            "S3 Object Lock of each object that is written; empty: none.",
            choices=("", "GOVERNANCE", "COMPLIANCE"),
        ),
        Setting("backup", "object_lock_days", "int", 0, "How long an object stays locked.", unit="days", minimum=0),
        Setting(
            "backup",
            "bandwidth_limit",
            "float",
            0.0,
            "Most that goes to or comes from the target; 0: no limit.",
            unit="MiB/s",
            minimum=0,
        ),
        Setting(
            "backup", "capture_keep_hours", "int", 24, "Every captured configuration is kept.", unit="h", minimum=1
        ),
        Setting(
            "backup", "capture_keep_hourly_days", "int", 31, "Then the last one of each hour.", unit="days", minimum=0
        ),
        Setting(
            "backup", "capture_keep_daily_days", "int", 366, "Then the last one of each day.", unit="days", minimum=0
        ),
        Setting(
            "backup",
            "patience",
            "float",
            600.0,
            "How long an upload or a download to or from S3 waits, in the middle, for a store out of reach.",
            unit="s",
            minimum=0,
        ),
        Setting("backup", "nice", "int", 0, "CPU niceness of a backup and its programs, 0 to 19.", minimum=0),
        Setting("backup", "part_size", "int", 8, "Size of a multipart part.", unit="MiB", minimum=5),
        Setting("backup", "max_parts", "int", 10000, "Parts that the store allows per object.", minimum=2),
        Setting("backup", "compression", "int", 3, "gzip level of dumps; 0: none.", minimum=0),
        Setting(
            "backup",
            "drill_url",
            "str",
            "",
            "Database server for drills; empty: the metastore's own. It needs the right to make databases.",
            secret=True,
        ),
    ),
    *_settings(
        "watchdog",
        Setting("watchdog", "slow_after", "float", 15.0, "No progress for so long: slow.", unit="s", minimum=1),
        Setting("watchdog", "stuck_after", "float", 45.0, "No progress for so long: stuck.", unit="s", minimum=1),
        Setting("watchdog", "term_grace", "float", 5.0, "Time between SIGTERM and SIGKILL.", unit="s", minimum=0),
        Setting("watchdog", "max_restarts_per_hour", "int", 4, "Then it stops and alerts.", minimum=0),
        Setting(
            "watchdog",
            "restart",
            "str",
            "auto",
            "How to start again: auto (the systemd unit where there is one, else directly), systemd, command, direct.",
            choices=("auto", "systemd", "command", "direct"),
        ),
        Setting("watchdog", "restart_command", "str", "", "Command for restart = command."),
        Setting("watchdog", "unit", "str", "opskit-scheduler.service", "systemd unit of the scheduler."),
        Setting(
            "watchdog",
            "prove_within",
            "float",
            30.0,
            "Time in which a restarted scheduler must show progress.",
            unit="s",
            minimum=1,
        ),
        Setting(
            "watchdog",
            "components",
            "list",
            ["scheduler", "dag_processor", "worker", "webserver", "triggerer"],
            "What is watched. A scheduler must run here; the others are missed once they have run here.",
        ),
        Setting("watchdog", "probe_timeout", "float", 3.0, "Time for one look at the metastore.", unit="s", minimum=1),
        Setting(
            "watchdog",
            "work_slow_after",
            "float",
            60.0,
            "Work that could move and has waited for so long: slow.",
            unit="s",
            minimum=1,
        ),
        Setting(
            "watchdog",
            "work_stuck_after",
            "float",
            300.0,
            "Work that could move and has waited for so long: stuck, whatever the scheduler's pulse says.",
            unit="s",
            minimum=1,
        ),
        Setting(
            "watchdog",
            "second_look",
            "float",
            6.0,
            "Time that a nudged or resumed component has to move before it is restarted.",
            unit="s",
            minimum=0.1,
        ),
        Setting(
            "watchdog",
            "backoff",
            "float",
            60.0,
            "Pause after a restart; doubled with each further one of the last hour, at most 15 minutes.",
            unit="s",
            minimum=0,
        ),
        Setting(
            "watchdog",
            "upgrade_within",
            "float",
            900.0,
            "A schema that does not fit this version counts as an upgrade under way for so long, then as trouble.",
            unit="s",
            minimum=0,
        ),
    ),
    *_settings(
        "deploy",
        Setting("deploy", "dags_folder", "str", "", "DAG folder on the nodes; empty: the same path as here."),
        Setting(
            "deploy",
            "groups",
            "table",
            {},
            'Host groups: [deploy.groups] workers = ["w1", "airflow@w2:2222"].',
        ),
        Setting("deploy", "owner", "str", "", "Owner of deployed files; empty: the login user."),
        Setting("deploy", "group", "str", "", "Group of deployed files; empty: the owner's."),
        Setting("deploy", "file_mode", "str", "0640", "Mode of deployed files."),
        Setting("deploy", "dir_mode", "str", "0750", "Mode of deployed directories."),
        Setting("deploy", "python", "str", "", "Interpreter that parses on the node; empty: python3 there."),
        Setting(
            "deploy",
            "keep_releases",
            "int",
            3,
            "Earlier releases kept on each node; those that a running attempt uses stay longer.",
            minimum=1,
        ),
        Setting(
            "deploy",
            "quorum",
            "str",
            "all",
            "Hosts that must take a release, or none does: all, any, a number, or a percentage such as 75%.",
        ),
        Setting(
            "deploy",
            "parse",
            "str",
            "environment",
            "Where DAG files are loaded before the switch: on one host of each environment (interpreter and installed "
            "distributions), or on every host.",
            choices=("environment", "every"),
        ),
        Setting(
            "deploy",
            "gate",
            "str",
            "",
            "What is asked after each group has switched: scheduler (it has loaded the new files), or a command; a "
            "failure switches the group back.",
        ),
        Setting("deploy", "gate_timeout", "float", 60.0, "Time for its answer.", unit="s", minimum=1),
        Setting(
            "deploy",
            "strict",
            "bool",
            False,
            "Refuse DAGs with a warning: unknown pools, connections, variables, odd schedules, slow files.",
        ),
        Setting(
            "deploy",
            "import_seconds",
            "float",
            2.0,
            "A file that loads longer is warned of; 0: never.",
            unit="s",
            minimum=0,
        ),
        Setting("deploy", "connect_timeout", "float", 10.0, "Time to reach a host.", unit="s", minimum=1),
        Setting(
            "deploy",
            "control_persist",
            "float",
            60.0,
            "So long a connection to a host stays open for the next command (openssh); 0: each connects anew.",
            unit="s",
            minimum=0,
        ),
        Setting("deploy", "timeout", "float", 120.0, "Time for one phase on one host.", unit="s", minimum=1),
        Setting(
            "deploy",
            "transport",
            "str",
            "auto",
            "openssh, paramiko, or auto: openssh where it is installed.",
            choices=("auto", "openssh", "paramiko"),
        ),
        Setting("deploy", "ssh_config", "str", "", "SSH client configuration; empty: the user's own."),
        Setting(
            "deploy",
            "source_url",
            "str",
            "",
            "Where the dag_distribution DAG pulls from, when that is no repository: s3://bucket/prefix.",
        ),
        Setting("deploy", "endpoint_url", "str", "", "Endpoint of an S3-compatible store; empty: AWS."),
        Setting("deploy", "git_url", "str", "", "Repository that the dag_distribution DAG pulls from."),
        Setting("deploy", "git_ref", "str", "main", "Branch, tag or commit of it."),
        Setting("deploy", "git_subdir", "str", "", "Folder with the DAG files inside it."),
    ),
    *_settings(
        "permissions",
        Setting(
            "permissions",
            "policy",
            "table",
            {},
            "Per path or pattern (below OPSKIT_HOME, or absolute): owner, group, file_mode, dir_mode, acl, inherit.",
        ),
        Setting(
            "permissions", "changes_per_second", "float", 0.0, "Entries changed per second; 0: no limit.", minimum=0
        ),
        Setting("permissions", "remote_home", "str", "", "OPSKIT_HOME on other hosts; empty: the same path as here."),
        Setting(
            "permissions", "become", "list", [], 'What gives the rights on other hosts, for example ["sudo", "-n"].'
        ),
        Setting("permissions", "timeout", "float", 3600.0, "Time for one other host.", unit="s", minimum=1),
    ),
    *_settings(
        "logs",
        Setting("logs", "max_age_days", "float", 30.0, "Older task logs are removed.", unit="days", minimum=0),
        Setting(
            "logs",
            "failed_max_age_days",
            "float",
            90.0,
            "The same for failed task instances and failed runs, where it is longer.",
            unit="days",
            minimum=0,
        ),
        Setting(
            "logs",
            "daemon_max_age_days",
            "float",
            14.0,
            "The same for logs of schedulers and DAG processors, and rotated files.",
            unit="days",
            minimum=0,
        ),
        Setting(
            "logs", "keep_days", "float", 1.0, "Younger logs stay, whatever the limits say.", unit="days", minimum=0
        ),
        Setting("logs", "keep_runs", "int", 1, "The logs of so many newest runs of each DAG stay.", minimum=0),
        Setting(
            "logs",
            "policies",
            "table",
            {},
            'What differs per DAG: [logs.policies."etl_*"] max_age_days = 90, failed_max_age_days, keep_runs. '
            "The first glob that fits counts.",
        ),
        Setting("logs", "max_size", "str", "", "Room that all logs may take, such as 50GiB or 20%; empty: any."),
        Setting(
            "logs", "min_free", "str", "", "Room that must be free on their disk, such as 10GiB or 10%; empty: any."
        ),
        Setting("logs", "min_free_inodes", "str", "", "Inodes that must be free, such as 100000 or 10%; empty: any."),
        Setting(
            "logs",
            "archive_to",
            "str",
            "",
            "Where logs go before they are removed: a folder or s3://bucket/prefix; empty: nowhere.",
        ),
        Setting("logs", "endpoint_url", "str", "", "Endpoint of an S3-compatible store; empty: AWS."),
        Setting("logs", "recipients", "list", [], "Who can read archived logs: age or SSH public keys; empty: anyone."),
        Setting("logs", "identity", "str", "", "File with the secret key of one of them, for opskit logs show."),
        Setting("logs", "rate_limit", "float", 0.0, "Logs removed a second; 0: no limit.", minimum=0),
        Setting(
            "logs",
            "io_priority",
            "str",
            "low",
            "How a clean-up competes for the disk.",
            choices=("normal", "low", "idle"),
        ),
        Setting(
            "logs",
            "max_percent",
            "float",
            95.0,
            "When more of all task logs would go, the clock may be wrong: then only with --force.",
            unit="%",
            minimum=0,
        ),
    ),
    *_settings(
        "env",
        Setting("env", "name", "str", "", "What this environment is called: dev, staging, prod."),
        Setting(
            "env",
            "protected",
            "bool",
            False,
            "Changes from other environments must name this one. (One called prod or production is always so.)",
        ),
        Setting("env", "protect", "list", [], 'Objects that env apply never touches: ["connections/airflow_db"].'),
        Setting(
            "env",
            "max_percent",
            "float",
            50.0,
            "When env apply would change or delete more of what is there (and more than ten): only with --max-percent.",
            unit="%",
            minimum=0,
        ),
        Setting(
            "env",
            "fingerprint_key",
            "str",
            "",
            "Key of the fingerprints of secrets, the same in all environments. Empty: {home}/env.key, made if needed.",
            secret=True,
        ),
        Setting("env", "secret_names", "list", [], "More globs for names of variables and extras that are secret."),
        Setting("env", "recipients", "list", [], "Who can read exports with secrets: age or SSH public keys."),
        Setting("env", "identity_file", "str", "", "File with the identity that decrypts such exports."),
    ),
    *_settings(
        "agent",
        Setting(
            "agent",
            "jobs",
            "table",
            {},
            'When a job of `opskit agent` runs, or off: [agent.jobs] backup = "daily 01:00", drill = "off".',
        ),
        Setting(
            "agent",
            "stop_grace",
            "float",
            30.0,
            "Time that running jobs have to end when the agent is stopped.",
            unit="s",
            minimum=0,
        ),
    ),
    *_settings(
        "cleanup",
        Setting(
            "cleanup",
            "max_age_days",
            "float",
            90.0,
            "Older ended DagRuns are removed.",
            unit="days",
            minimum=0,
        ),
        Setting("cleanup", "batch_size", "int", 20000, "Rows deleted per transaction at most.", minimum=1),
        Setting(
            "cleanup",
            "tables",
            "table",
            {},
            "Days for single tables: log, instance, attempt_result, dag_version, asset_event, and xcom and "
            "task_attempt when they go before their DagRun: [cleanup.tables] xcom = 30, log = 365.",
        ),
        Setting(
            "cleanup",
            "states",
            "table",
            {},
            "Days for DagRuns by the state in which they ended: [cleanup.states] failed = 365.",
        ),
        Setting(
            "cleanup",
            "dags",
            "table",
            {},
            "Days by pattern of dag_ids, the first that fits counts; also by state. "
            '[cleanup.dags] "tmp_*" = 7, "billing_*" = {success = 400, failed = 800}. '
            "A paused DAG is cleaned only when it is named here.",
        ),
        Setting(
            "cleanup",
            "archive_to",
            "str",
            "",
            "Folder or s3://bucket/prefix that rows are written to before they go; empty: they are not kept.",
        ),
        Setting("cleanup", "archive_endpoint_url", "str", "", "Endpoint of an S3-compatible store; empty: AWS."),
        Setting(
            "cleanup",
            "archive_recipients",
            "list",
            [],
            "Public keys (age1…, ssh-ed25519 …) that the archive is encrypted for; empty: not encrypted.",
        ),
    ),
)

_BY_NAME = {setting.name: setting for setting in SETTINGS}
_SECTIONS = {setting.section for setting in SETTINGS}


@dataclass(frozen=True, slots=True)
class Config:
    """All settings with where each came from. `get("core", "parallelism")` gives the typed value."""

    home: Path
    values: Mapping[str, Value]
    origins: Mapping[str, str]
    path: Path = field(default_factory=Path)

    def get(self, section: str, key: str) -> Any:
        """The value of a declared setting. KeyError for an undeclared one: that is a bug of the caller."""
        return self.values[f"{section}.{key}"]

    def get_path(self, section: str, key: str) -> Path:
        return Path(str(self.get(section, key))).expanduser()

    @property
    def dags_folder(self) -> Path:
        return self.get_path("core", "dags_folder")

    @property
    def logs_folder(self) -> Path:
        return self.get_path("logging", "base_log_folder")

    @property
    def run_folder(self) -> Path:
        """Sockets, locks and pid files of this OPSKIT_HOME."""
        return self.home / "run"

    @property
    def database_url(self) -> str:
        return str(self.get("database", "sql_alchemy_conn"))


def default_home(environ: Mapping[str, str] = os.environ) -> Path:
    """`OPSKIT_HOME`, else `~/opskit`; always absolute."""
    return Path(os.path.abspath(os.path.expanduser(environ.get("OPSKIT_HOME") or "~/opskit")))


def load(home: Path | None = None, environ: Mapping[str, str] | None = None) -> Config:
    """Read all settings.

    Raises ConfigError for an unknown key (with the nearest one), a value of the wrong type, a command
    that failed, or settings that contradict each other.
    """
    env = os.environ if environ is None else environ
    home = default_home(env) if home is None else Path(os.path.abspath(home))
    path = home / "opskit.toml"
    from_file = _read_file(path)
    values: dict[str, Value] = {}
    origins: dict[str, str] = {}
    for setting in SETTINGS:
        raw, origin = _find(setting, env, from_file, path)
        value = setting.default if raw is None else _convert(setting, raw, origin)
        if isinstance(value, str):
            value = value.replace("{home}", str(home))
        values[setting.name] = value
        origins[setting.name] = origin
    config = Config(home=home, values=values, origins=origins, path=path)
    _check_together(config)
    return config


def _read_file(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} can't be read: {error}") from error
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    for section, table in data.items():
        if section not in _SECTIONS:
            raise ConfigError(f"{path}: unknown section [{section}]", hint=_nearest(section, _SECTIONS))
        if not isinstance(table, dict):
            raise ConfigError(f"{path}: [{section}] must be a table of settings")
        for key in table:
            name = f"{section}.{key.removesuffix('_cmd')}"
            if f"{section}.{key}" not in _BY_NAME and name not in _BY_NAME:
                known = [s.key for s in SETTINGS if s.section == section]
                raise ConfigError(f"{path}: unknown setting {key!r} in [{section}]", hint=_nearest(key, known))
    return data


def _nearest(name: str, known: Any) -> str | None:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {close[0]!r}?" if close else "`opskit config list` shows all settings"


def _find(setting: Setting, env: Mapping[str, str], from_file: Mapping[str, Any], path: Path) -> tuple[Any, str]:
    for prefix in ("OPSKIT", "AIRFLOW"):
        name = f"{prefix}__{setting.section}__{setting.key}".upper()
        if name in env:
            return env[name], f"environment {name}"
        if f"{name}_CMD" in env:
            return _run(env[f"{name}_CMD"], f"environment {name}_CMD"), f"environment {name}_CMD"
    if folder := env.get("CREDENTIALS_DIRECTORY"):
        credential = _credential(Path(folder) / setting.name)
        if credential is not None:
            return credential, f"credential {setting.name}"
    table = from_file.get(setting.section, {})
    if setting.key in table:
        return table[setting.key], str(path)
    if f"{setting.key}_cmd" in table:
        origin = f"{path} {setting.key}_cmd"
        return _run(str(table[f"{setting.key}_cmd"]), origin, path), origin
    return None, "default"


def _credential(path: Path) -> str | None:
    """What LoadCredential= of a systemd unit left for us; None when it left nothing."""
    try:
        return path.read_text(encoding="utf-8").rstrip("\n")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the credential {path.name} can't be read: {error}") from error


def _run(command: str, origin: str, written_in: Path | None = None) -> str:
    options: dict[str, Any] = {}
    if written_in is not None and os.geteuid() == 0 and (status := written_in.stat()).st_uid != 0:
        # Root runs no command that somebody else wrote: it runs as whose file it is.
        options = {"user": status.st_uid, "group": status.st_gid, "extra_groups": []}
    try:
        done = subprocess.run(shlex.split(command), capture_output=True, text=True, timeout=30, check=True, **options)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise ConfigError(f"the command of {origin} failed: {error}") from error
    text: str = done.stdout
    return text.rstrip("\n")


def converted(name: str, raw: Any, origin: str) -> Value:
    """A text (of another program's configuration) as the value of the setting of this name. KeyError for an undeclared
    setting; ConfigError, naming the origin, for what does not fit."""
    return _convert(_BY_NAME[name], raw, origin)


def _convert(setting: Setting, raw: Any, origin: str) -> Value:
    value = _parse(setting, raw, origin)
    if setting.minimum is not None and isinstance(value, (int, float)) and value < setting.minimum:
        raise ConfigError(f"{setting.name} is {value} ({origin}), the least is {setting.minimum:g}")
    if setting.choices and value not in setting.choices:
        raise ConfigError(f"{setting.name} is {value!r} ({origin})", hint=f"choose one of {', '.join(setting.choices)}")
    return value


def _parse(setting: Setting, raw: Any, origin: str) -> Value:
    kind = setting.type
    try:
        if kind == "bool":
            if isinstance(raw, bool):
                return raw
            lowered = str(raw).strip().lower()
            if lowered in ("true", "t", "yes", "on", "1"):
                return True
            if lowered in ("false", "f", "no", "off", "0"):
                return False
            raise ValueError("neither true nor false")
        if kind in ("int", "float"):
            if isinstance(raw, bool):
                raise ValueError("a number is needed")
            if kind == "float":
                return float(raw)
            number = float(raw)
            if not number.is_integer():
                raise ValueError("a whole number is needed")
            return int(number)
        if kind == "list":
            if isinstance(raw, str):
                return [part.strip() for part in raw.split(",") if part.strip()]
            if isinstance(raw, list) and all(isinstance(item, str) for item in raw):
                return list(raw)
            raise ValueError("a list of strings is needed")
        if kind == "table":
            if isinstance(raw, str):
                return dict(tomllib.loads(raw))
            if isinstance(raw, dict):
                return raw
            raise ValueError("a table is needed")
        if isinstance(raw, (dict, list)):
            raise ValueError("a string is needed")
        return str(raw)
    except ValueError as error:
        shown = "(secret)" if setting.secret else repr(raw)
        raise ConfigError(f"{setting.name} is {shown} ({origin}): {error}") from error


def _check_together(config: Config) -> None:
    beat = config.get("scheduler", "scheduler_heartbeat_sec")
    lease = config.get("scheduler", "scheduler_health_check_threshold")
    if lease < 3 * beat:
        raise ConfigError(
            f"scheduler.scheduler_health_check_threshold ({lease:g} s) must be at least three times "
            f"scheduler.scheduler_heartbeat_sec ({beat:g} s)",
            hint="else a scheduler that is only busy would lose its leases",
        )
    if config.get("watchdog", "stuck_after") <= config.get("watchdog", "slow_after"):
        raise ConfigError("watchdog.stuck_after must be longer than watchdog.slow_after")
    if config.get("watchdog", "work_stuck_after") <= config.get("watchdog", "work_slow_after"):
        raise ConfigError("watchdog.work_stuck_after must be longer than watchdog.work_slow_after")
