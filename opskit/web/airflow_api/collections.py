"""What the resources of Airflow's API share: paging, order, update masks, moments, and what a body may hold.

A router needs nothing but its own models and handlers:

* `window: Annotated[Window, paged("dag_id", "dag_id", "…")]` reads `limit`, `offset` and `order_by` (the first name is
  the order where none is asked for; a leading `-` turns it round);
* bodies derive from `Body` (strict types, unknown fields refused, as in Airflow), answers from `Answer`;
* `changed(body, mask, fixed)` is what a PATCH changes, `mask: UpdateMask`;
* `narrowed(answer, fields)` is an answer with only some of its fields, `fields: Fields`;
* times are `Moment`, both ways.

Errors are raised as OpskitError; the OpenAPI document gets the problem answers by itself (`openapi.py`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Depends, Path, Query
from fastapi.responses import JSONResponse, Response
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
    model_validator,
)

from opskit.core.metastore.browsing.window import Window
from opskit.errors import GuardRefused, OpskitError, UsageError
from opskit.web.store import TheStore

_FURTHEST = 2**31
_MOMENT = re.compile(r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(\.\d+)?([Zz]|[+\- ]\d\d:?\d\d)?", re.ASCII)


# --- what goes in and out ---


def parse_moment(value: Any) -> datetime:
    """An aware datetime of an ISO 8601 text; one without an offset is UTC, as in Airflow."""
    if isinstance(value, datetime):
        return value
    if not isinstance(value, str) or not _MOMENT.fullmatch(value.strip()):
        raise ValueError("should be a date and time such as 2026-01-31T06:00:00+00:00")
    text = value.strip().upper()
    if text[-6] == " " or text[-5] == " ":
        text = "+".join(text.rsplit(" ", 1))  # a plus sign that somebody has not encoded
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"is no moment of the calendar: {error}") from error


Moment = Annotated[
    datetime,
    BeforeValidator(parse_moment),
    PlainSerializer(lambda moment: moment.isoformat(), return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
"""A time in a body, a query or an answer."""


Number = Annotated[int, Field(strict=True, ge=-(2**31), le=2**31 - 1)]
"""What a column of the metastore holds; of a body."""
Port = Annotated[int, Field(strict=True, ge=0, le=65535)]
BigNumber = Annotated[int, Query(ge=-(2**63), le=2**63 - 1)]
"""An id in a query."""
SmallNumber = Annotated[int, Query(ge=-(2**31), le=2**31 - 1)]
"""A number in a query, such as a map_index."""
Id = Annotated[int, Path(ge=0, le=2**63 - 1)]
"""A number in a path."""


class Body(BaseModel):
    """What a client sends. Types are strict, and a field that is not known is an error."""

    model_config = ConfigDict(extra="forbid", strict=True, validate_by_name=False, validate_by_alias=True)

    @model_validator(mode="before")
    @classmethod
    def _storable(cls, value: Any) -> Any:
        if not _is_storable(value):
            raise ValueError("a text holds characters that can't be stored (U+0000 or half a surrogate pair)")
        return value


class Answer(BaseModel):
    """What is sent back. `from_attributes`: it can be made of a row or dataclass by `model_validate`."""

    model_config = ConfigDict(from_attributes=True, validate_by_name=True, validate_by_alias=True)


class Listing(Answer):
    """A list; `total_entries` counts what the filters leave, whatever the limit."""

    total_entries: int


def _is_storable(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" not in value and not any("\ud800" <= character <= "\udfff" for character in value)
    if isinstance(value, dict):
        return all(_is_storable(key) and _is_storable(item) for key, item in value.items())
    return not isinstance(value, list) or all(map(_is_storable, value))


# --- lists ---


def paged(*orders: str) -> Any:
    """A dependency that gives a `Window`. Without `orders` the list has one order only, and knows no `order_by`."""

    async def limits(
        store: TheStore,
        limit: Annotated[int, Query(ge=0, description="At most so many; 0: api.fallback_page_limit.")] = 100,
        offset: Annotated[int, Query(ge=0, le=_FURTHEST, description="Leave out so many.")] = 0,
    ) -> Window:
        api = "api"
        most = int(store.config.get(api, "maximum_page_limit"))
        return Window(min(limit or int(store.config.get(api, "fallback_page_limit")), most), offset)

    if not orders:
        return Depends(limits)
    names = [sign + name for name in orders for sign in ("", "-")]

    async def ordered(window: Any, order_by: str = orders[0]) -> Window:
        if order_by not in names:
            raise UsageError(f"order_by: {order_by!r} can't be ordered by", hint=f"it can be {', '.join(orders)}")
        return Window(window.limit, window.offset, order_by.removeprefix("-"), order_by.startswith("-"))

    # Written down here, because they name what only this call knows.
    ordered.__annotations__["window"] = Annotated[Window, Depends(limits)]
    ordered.__annotations__["order_by"] = Annotated[
        str, Query(description="A leading - turns the order round.", json_schema_extra={"enum": names})
    ]
    return Depends(ordered)


def separated(values: str | Iterable[str] | None) -> tuple[str, ...] | None:
    """Names that come repeated or separated by commas; None where there are none."""
    if values is None:
        return None
    texts = [values] if isinstance(values, str) else values
    return tuple(name for text in texts for name in (part.strip() for part in text.split(",")) if name) or None


async def _fields(
    fields: Annotated[list[str] | None, Query(description="Only these fields, by their names in the answer.")] = None,
) -> tuple[str, ...] | None:
    return separated(fields)


async def _update_mask(
    update_mask: Annotated[
        list[str] | None, Query(description="Change only these fields, separated by commas.")
    ] = None,
) -> tuple[str, ...] | None:
    return separated(update_mask)


Fields = Annotated[tuple[str, ...] | None, Depends(_fields)]
UpdateMask = Annotated[tuple[str, ...] | None, Depends(_update_mask)]


def narrowed(answer: BaseModel, fields: Collection[str] | None, within: str | None = None) -> Response:
    """The answer with only these fields; with `within`, those of each item of that list. UsageError for others."""
    if fields is None:
        return Response(answer.model_dump_json(by_alias=True), media_type="application/json")
    data = answer.model_dump(mode="json", by_alias=True)
    items = [data] if within is None else data[within]
    for index, item in enumerate(items):
        unknown = [name for name in fields if name not in item]
        if unknown:
            raise UsageError(f"fields: there is no {', '.join(unknown)}", hint=f"there are {', '.join(item)}")
        items[index] = {name: item[name] for name in fields}
    return JSONResponse(items[0] if within is None else data)


def listing(name: str, texts: Iterable[str], total: int) -> Response:
    """A list of what is written as JSON already."""
    return Response(f'{{"{name}":[{",".join(texts)}],"total_entries":{total}}}', media_type="application/json")


def changed(body: Body, mask: Collection[str] | None, fixed: Collection[str] = ()) -> dict[str, Any]:
    """The fields that a PATCH changes: those that were sent, or of these the ones that the mask names.

    UsageError for a mask that names another field, or one that is `fixed`."""
    sent = body.model_dump(exclude_unset=True, by_alias=True)
    if mask is None:
        return {name: value for name, value in sent.items() if name not in fixed}
    for name in mask:
        if name in fixed or name not in sent:
            raise UsageError(f"update_mask: {name!r} is not in the body, or can't be changed")
    return {name: sent[name] for name in mask}


@contextmanager
def readable() -> Iterator[None]:
    """For a block that decrypts one thing: what no key fits answers 409, with what is wrong, and is no bug (500)."""
    try:
        yield
    except OpskitError as error:
        if type(error) is OpskitError:
            raise GuardRefused(error.message, hint=error.hint) from error
        raise
