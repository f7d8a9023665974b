"""The first start: while there is no user, there is nobody who could make one."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

from opskit.core.metastore import audit, passwords, users
from opskit.core.metastore.engine import Engine, reading, transaction


def make_if_none(engine: Engine) -> bool:
    """Make the user `admin` with a random password when there is no user, and print the password to standard error:
    once, and nowhere else. Whether that was so."""
    with reading(engine) as connection:
        if not users.is_empty(connection):
            return False
    password = passwords.random_password()
    hashed, now = passwords.hashed(password), datetime.now(UTC)
    with transaction(engine) as connection:
        if not users.add_first_admin(connection, hashed, now):
            return False
        extra = {"by": "first start", "user": users.FIRST_USER, "roles": ["Admin"]}
        audit.write(connection, "users create", now, extra=extra)
    # Not a log line: logs are kept, and go elsewhere.
    sys.stderr.write(
        f"\nopskit: there was no user yet. Sign in as\n\n    username  {users.FIRST_USER}\n    password  {password}\n\n"
        "This is shown only once. Change it on the page My account, or with: opskit users reset-password\n"
    )
    sys.stderr.flush()
    return True
