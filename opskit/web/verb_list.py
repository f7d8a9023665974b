"""What the web may ask of `opskit`: nothing of it replaces or removes anything."""

from __future__ import annotations

import re
from dataclasses import dataclass

from opskit.errors import NotFound, UsageError

LONG, SHORT, READ = "long", "short", "read"
AT_ONCE = {LONG: 1, SHORT: 2, READ: 2}
"""How many of each lane run at the same time."""
_SHORT_SECONDS = 3600
_BACKUP_ID = re.compile(r"latest|\d{8}T\d{6}Z-[0-9a-f]{8}")


@dataclass(frozen=True, slots=True)
class Verb:
    """Something that may be asked of `opskit`."""

    name: str
    """In paths and audit lines."""
    words: tuple[str, ...]
    """The command line without `opskit` and `--output json`."""
    does: str
    """One line for people."""
    limit_seconds: float
    takes_backup: bool = False
    """Its parameter, the last word, is the id of a backup."""
    may_be_started: bool = True
    """By people who may edit Operations; the others only read something, and run when it is asked for."""

    @property
    def lane(self) -> str:
        """long, short or read: a night's backup must not hold up what takes a second."""
        if not self.may_be_started:
            return READ
        return LONG if self.limit_seconds > _SHORT_SECONDS else SHORT

    def command(self, parameter: str = "") -> str:
        """What one types for the same."""
        return " ".join(("opskit", *self.words_with(parameter)))

    def words_with(self, parameter: str) -> tuple[str, ...]:
        """UsageError for a parameter that is none: nothing else reaches a command line."""
        if not self.takes_backup:
            if parameter:
                raise UsageError(f"{self.name} takes no parameter")
            return self.words
        if not _BACKUP_ID.fullmatch(parameter):
            raise UsageError(
                f"{parameter!r} is no id of a backup", hint="latest, or like 20260329T023000Z-1a2b3c4d: see the list"
            )
        return (*self.words, parameter)


VERBS = {
    verb.name: verb
    for verb in (
        Verb("backup", ("backup",), "Back up the metastore and prove the backup by a restore", 6 * 3600),
        Verb("drill", ("drill",), "Prove a stored backup by restoring it into a throw-away database", 6 * 3600, True),
        Verb("dags-drift", ("dags-drift",), "Compare the DAG folder of every host with what was deployed", 900),
        Verb("doctor", ("doctor",), "Look for everything that hurts operators; changes nothing", 300),
        Verb("logs-clean", ("logs", "clean", "--dry-run"), "Say which task logs a clean-up would remove", 3600),
        Verb("db-clean", ("db", "clean", "--dry-run"), "Say what a clean-up of the metastore would remove", 3600),
        Verb("permissions-check", ("permissions", "check"), "Compare owners and modes with the policy", 900),
        Verb("watchdog", ("watchdog", "--cluster", "--explain"), "Judge all components; repairs nothing", 120),
        Verb("restore-plan", ("restore", "from", "--plan"), "Say what a restore would do", 900, True),
        Verb("backup-list", ("backup", "list"), "Read the store of backups", 120, may_be_started=False),
        Verb("drill-list", ("drill", "--list"), "Read the receipts of drills", 120, may_be_started=False),
        Verb("restore-status", ("restore", "status"), "List replaced metastores", 60, may_be_started=False),
    )
}


def verb_of(name: str) -> Verb:
    """NotFound, naming those there are."""
    if name not in VERBS:
        startable = ", ".join(one.name for one in VERBS.values() if one.may_be_started)
        raise NotFound(f"{name!r} can't be run from here", hint=f"what can: {startable}")
    return VERBS[name]
