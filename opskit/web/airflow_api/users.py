"""/users: passwords go in, and never come out."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import Field

from opskit.core.metastore import users
from opskit.core.metastore.browsing.window import Window
from opskit.errors import UsageError
from opskit.web.airflow_api.collections import Answer, Body, Listing, Moment, UpdateMask, changed, paged
from opskit.web.changes import users as changes
from opskit.web.gate import allow
from opskit.web.identity import CREATE, DELETE, EDIT, READ, Who
from opskit.web.store import TheStore

router = APIRouter(tags=["User"])
_Reader = Annotated[Who, Depends(allow(READ, "Users"))]
_Creator = Annotated[Who, Depends(allow(CREATE, "Users"))]
_Editor = Annotated[Who, Depends(allow(EDIT, "Users"))]
_Deleter = Annotated[Who, Depends(allow(DELETE, "Users"))]
_ORDERS: dict[str, Any] = {
    "id": lambda user: user.id,
    "user_id": lambda user: user.id,
    "first_name": lambda user: user.first_name,
    "last_name": lambda user: user.last_name,
    "user_name": lambda user: user.username,
    "username": lambda user: user.username,
    "email": lambda user: user.email,
    "is_active": lambda user: user.is_active,
    "role": lambda user: user.roles,
}


class RoleName(Answer):
    name: str


class User(Answer):
    """A user. One without an e-mail address has no `email`: Airflow's clients take no empty one."""

    username: str
    first_name: str
    last_name: str
    email: str = Field("", min_length=1)
    active: bool | None
    roles: list[RoleName]
    last_login: Moment | None
    login_count: int | None
    failed_login_count: int | None
    created_on: Moment | None
    changed_on: Moment | None


class UserCollection(Listing):
    users: list[User]


class GivenRole(Body):
    name: str


class UserFields(Body):
    """What can be changed of a user."""

    username: str | None = Field(None, min_length=1, max_length=250)
    first_name: str | None = Field(None, max_length=250)
    last_name: str | None = Field(None, max_length=250)
    email: str | None = Field(None, min_length=1, max_length=320)
    roles: list[GivenRole] | None = None
    password: str | None = Field(None, description="Kept when it is not sent.", json_schema_extra={"writeOnly": True})


class NewUser(UserFields):
    """A user. Without roles it gets the role Public; without a password it can't sign in with one."""

    username: str = Field(min_length=1, max_length=250)
    first_name: str = Field("", max_length=250)
    last_name: str = Field("", max_length=250)
    email: str = Field("", max_length=320)


@router.get("/users", operation_id="get_users", response_model_exclude_unset=True)
def get_users(store: TheStore, _: _Reader, window: Annotated[Window, paged(*_ORDERS)]) -> UserCollection:
    """List users."""
    with store.reading() as connection:
        found = users.list_users(connection)
    found.sort(key=lambda user: (_ORDERS[window.order](user), user.id), reverse=window.descending)
    return UserCollection(users=[_answer(one) for one in window.of(found)], total_entries=len(found))


@router.post("/users", operation_id="post_user", response_model_exclude_unset=True)
def post_user(store: TheStore, who: _Creator, body: NewUser) -> User:
    """Add a user."""
    made = changes.create(
        store,
        who,
        body.username,
        roles=[role.name for role in body.roles or ()] or ["Public"],
        password=body.password,
        first_name=body.first_name,
        last_name=body.last_name,
        email=body.email,
    )
    return _answer(made)


@router.get("/users/{username}", operation_id="get_user", response_model_exclude_unset=True)
def get_user(store: TheStore, _: _Reader, username: str) -> User:
    """Get a user."""
    with store.reading() as connection:
        return _answer(users.get_user(connection, username))


@router.patch("/users/{username}", operation_id="patch_user", response_model_exclude_unset=True)
def patch_user(store: TheStore, who: _Editor, username: str, body: UserFields, mask: UpdateMask) -> User:
    """Change the fields of a user that are sent."""
    fields = changed(body, mask)
    for name, value in fields.items():
        if value is None:
            raise UsageError(f"{name}: it can't be null", hint="leave it out to keep it")
    if "roles" in fields:
        fields["roles"] = [role["name"] for role in fields["roles"]]
    return _answer(changes.update(store, who, username, fields))


@router.delete("/users/{username}", operation_id="delete_user", status_code=204)
def delete_user(store: TheStore, who: _Deleter, username: str) -> None:
    """Delete a user with all sessions and tokens."""
    changes.delete(store, who, username)


def _answer(user: users.User) -> User:
    email = {"email": user.email} if user.email else {}
    return User(
        username=user.username,
        first_name=user.first_name,
        last_name=user.last_name,
        active=user.is_active,
        roles=[RoleName(name=name) for name in user.roles],
        last_login=user.last_sign_in_at,
        login_count=user.sign_ins,
        failed_login_count=user.failed_sign_ins,
        created_on=user.created_at,
        changed_on=user.changed_at,
        **email,
    )
