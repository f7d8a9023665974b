"""SQL taken apart into statements."""

from __future__ import annotations

import pytest

from opskit.providers.sql.statements import split


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("select 1; select 2", ["select 1;", "select 2"]),
        (";;\n select 1 ;", ["select 1;"]),
        ("select ';' as a, \"x;y\", `b;c`; select 'it''s;'", ["select ';' as a, \"x;y\", `b;c`;", "select 'it''s;'"]),
        (r"select 'a\';b'; select 2", [r"select 'a\';b';", "select 2"]),
        ("-- a; comment\nselect 1 /* ; */ + 1;", ["select 1   + 1;"]),
        ("select '-- no comment'; select 2", ["select '-- no comment';", "select 2"]),
        ("do $$ begin perform 1; end $$; select 1", ["do $$ begin perform 1; end $$;", "select 1"]),
        ("do $a$ select $$;$$; $a$; select 1", ["do $a$ select $$;$$; $a$;", "select 1"]),
        (
            "create trigger t after insert on a begin update a set b = case when 1 then 2 end; select 1; end; select 2",
            [
                "create trigger t after insert on a begin update a set b = case when 1 then 2 end; select 1; end;",
                "select 2",
            ],
        ),
        (
            "create procedure p() begin if 1 then select 1; end if; while 0 do select 2; end while; end; select 3",
            ["create procedure p() begin if 1 then select 1; end if; while 0 do select 2; end while; end;", "select 3"],
        ),
        ("begin; select 1; end; select 2", ["begin;", "select 1;", "end;", "select 2"]),
        ("", []),
        (" -- nothing\n", []),
    ],
)
def test_statements_end_at_semicolons_that_are_no_part_of_something_else(text: str, expected: list[str]) -> None:
    assert split(text) == expected


def test_semicolons_can_be_left_out() -> None:
    assert split("select 1; select 2;", strip_semicolon=True) == ["select 1", "select 2"]
