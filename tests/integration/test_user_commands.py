"""`opskit users` and `opskit roles`: what they print, what they refuse, and what the audit log keeps."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from opskit import cli
from opskit.core.metastore import audit, passwords, users
from opskit.core.metastore.engine import open_engine, reading
from tests.databases import Databases
from tests.web_site import CHEAP

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def url(databases: Databases, home: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    made = databases.migrated("sqlite")
    monkeypatch.setenv("OPSKIT__DATABASE__SQL_ALCHEMY_CONN", made)
    monkeypatch.setattr(passwords, "_METHOD", CHEAP)
    return made


@pytest.fixture
def run(url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Exit code, standard output, standard error."""

    def call(*arguments: str, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        code = cli.run(list(arguments))
        return (code, *capsys.readouterr())

    return call


def password_of(url: str, name: str) -> str | None:
    engine = open_engine(url)
    try:
        with reading(engine) as connection:
            found = users.credentials(connection, name)
    finally:
        engine.dispose()
    return found[1] if found else None


def test_a_user_from_the_cradle_to_the_grave_with_airflows_options(run: Run, url: str) -> None:
    who = ("-u", "mia")
    code, out, _ = run(
        "users", "create", *who, "-f", "M", "-l", "X", "-e", "m@x.org", "-r", "Admin", "-p", "a long one"
    )
    assert (code, out) == (0, "added user mia (Admin)\n")
    assert passwords.is_right(password_of(url, "mia"), "a long one")
    code, out, _ = run("users", "create", "-u", "bob", "-r", "Viewer", "--use-random-password")
    random = out.splitlines()[1].removeprefix("password: ")
    assert passwords.is_right(password_of(url, "bob"), random)
    assert run("users", "create", "-u", "zoe", "-r", "Op", "--external")[0] == 0 and password_of(url, "zoe") is None
    assert run("users", "add-role", "-u", "bob", "-r", "Op")[1] == "user bob has Viewer, Op\n"
    assert run("users", "add-role", "-u", "bob", "-r", "Op")[1] == "user bob has Viewer, Op, as before\n"
    assert run("users", "remove-role", "-u", "bob", "-r", "Viewer")[1] == "user bob has Op\n"
    assert run("users", "reset-password", "-e", "m@x.org", "-p", "-", stdin="from standard input\n")[0] == 0
    assert passwords.is_right(password_of(url, "mia"), "from standard input")
    assert run("users", "deactivate", "-u", "bob")[0] == run("users", "activate", "-u", "bob")[0] == 0
    listed = json.loads(run("users", "list", "-o", "json")[1])
    assert [(one["username"], one["roles"], one["is_active"]) for one in listed] == [
        ("bob", ["Op"], True),
        ("mia", ["Admin"], True),
        ("zoe", ["Op"], True),
    ]
    assert run("users", "delete", "-u", "bob")[:2] == (0, "deleted user bob\n")
    engine = open_engine(url)
    with reading(engine) as connection:
        lines = audit.read(connection)
    engine.dispose()
    assert [line.event for line in reversed(lines)] == [
        "users create",
        "users create",
        "users create",
        "users add-role",
        "users remove-role",
        "users reset-password",
        "users deactivate",
        "users activate",
        "users delete",
    ]
    assert not any(secret in str(lines) for secret in ("a long one", random, "from standard input", "scrypt"))


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("create", "-u", "x", "-r", "Viewer"), 2, "a password is needed"),
        (("create", "-u", "x", "-r", "Viewer", "-p", "short"), 2, "too short"),
        (("create", "-u", "x", "-r", "Vewer", "-p", "long enough"), 2, "did you mean Viewer"),
        (("create", "-u", "x", "-r", "Op", "-p", "long enough", "--use-random-password"), 2, "exclude each other"),
        (("create", "-u", "a b", "-r", "Op", "-p", "long enough"), 2, "neither spaces"),
        (("delete",), 2, "--username or by --email"),
        (("delete", "-u", "nobody"), 2, "there is no user 'nobody'"),
        (("reset-password", "-e", "no@x.org", "-p", "long enough"), 2, "no user with the e-mail address"),
        (("import", "-"), 2, "is no JSON"),
        (("token", "create", "-u", "nobody", "-n", "x"), 2, "there is no user"),
        (("token", "revoke", "9"), 2, "there is no token 9"),
    ],
)
def test_a_mistake_is_told_with_what_to_do_and_without_a_traceback(
    run: Run, arguments: tuple[str, ...], code: int, says: str
) -> None:
    done, _, err = run("users", *arguments)
    assert (done, says in err, "Traceback" in err) == (code, True, False), err


def test_the_last_admin_stays(run: Run) -> None:
    run("users", "create", "-u", "mia", "-r", "Admin", "-p", "long enough")
    for arguments in (("delete",), ("remove-role", "-r", "Admin"), ("deactivate",)):
        code, _, err = run("users", arguments[0], "-u", "mia", *arguments[1:])
        assert code == 16 and "last active user" in err


def test_roles_and_tokens_by_the_command_line(run: Run, tmp_path: Path) -> None:
    assert run("roles", "create", "Team", "Crew")[0] == 0
    assert run("roles", "add-perms", "Team", "-r", "DAG:etl", "-r", "Pools", "-a", "can_read", "-a", "can_edit")[0] == 0
    assert run("roles", "del-perms", "Team", "-r", "Pools", "-a", "can_edit")[0] == 0
    rows = json.loads(run("roles", "list", "-p", "-o", "json")[1])
    assert [(one["resource"], one["action"]) for one in rows if one["name"] == "Team"] == [
        ("DAG:etl", ["can_edit", "can_read"]),
        ("Pools", ["can_read"]),
    ]
    file = tmp_path / "roles.json"
    assert run("roles", "export", str(file))[0] == 0
    assert run("roles", "delete", "Team", "Crew")[0] == 0
    assert run("roles", "import", str(file))[1] == "added: Crew, Team\n"
    for arguments, code in (
        (("delete", "Viewer"), 16),
        (("del-perms", "Viewer", "-r", "DAGs", "-a", "can_read"), 16),
        (("add-perms", "Team", "-r", "Dags", "-a", "can_read"), 2),
        (("create", "a/b"), 2),
    ):
        assert run("roles", *arguments)[0] == code
    run("users", "create", "-u", "mia", "-r", "Team", "-p", "long enough")
    made = json.loads(run("users", "token", "create", "-u", "mia", "-n", "ci", "-s", "read", "-o", "json")[1])
    assert made["token"].startswith("opskit_") and made["expires_at"]
    [listed] = json.loads(run("users", "token", "list", "-u", "mia", "-o", "json")[1])
    assert (listed["id"], listed["scopes"], listed["revoked_at"]) == (made["id"], ["read"], None)
    assert made["token"] not in json.dumps(listed)
    assert run("users", "token", "revoke", str(made["id"]))[0] == 0
    [listed] = json.loads(run("users", "token", "list", "-o", "json")[1])
    assert listed["revoked_at"]
