"""Whether a JSON value fits the JSON schema of a param, by the library jsonschema."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Any


def problem(value: Any, schema: Any) -> str | None:
    """What is wrong with the value, or None. ValueError for a schema that is none, or that refers to an unknown one."""
    from jsonschema import SchemaError
    from jsonschema.exceptions import best_match
    from jsonschema.validators import Draft202012Validator, validator_for
    from referencing.exceptions import Unresolvable

    try:
        validator = validator_for(schema, default=Draft202012Validator)
        validator.check_schema(schema)
        found = best_match(validator(schema, format_checker=_formats()).iter_errors(value))
    except SchemaError as error:
        raise ValueError(error.message) from None
    except Unresolvable as error:
        raise ValueError(f"it refers to {error.ref!r}, which is not there") from None
    if found is None:
        return None
    where = "".join(f"[{part!r}]" for part in found.absolute_path)
    return f"{where}: {found.message}" if where else str(found.message)


@cache
def _formats() -> Any:
    from jsonschema import FormatChecker

    checker = FormatChecker()

    # The library checks this one only beside another package, which nobody cares for any more.
    checker.checks("date-time", raises=ValueError)(_is_moment)
    return checker


def _is_moment(value: object) -> bool:
    return not isinstance(value, str) or bool(datetime.fromisoformat(value))
