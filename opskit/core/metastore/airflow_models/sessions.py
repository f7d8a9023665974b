"""`airflow.settings.Session`, `create_session` and `provide_session`, over our metastore."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import text
from sqlalchemy.orm import Query, aliased, scoped_session, sessionmaker
from sqlalchemy.orm import Session as PlainSession

from opskit.core.dag.connection import Connection
from opskit.core.metastore.airflow_models import database

F = TypeVar("F", bound=Callable[..., Any])


class AirflowQuery(Query[Any]):
    """With `from_self`, which SQLAlchemy 2 no longer has."""

    def from_self(self, *entities: Any) -> Any:
        """A query over what this one finds."""
        described = self.column_descriptions
        if len(described) == 1 and described[0]["entity"] is described[0]["expr"]:
            # Rows of one model. Without a limit, the query over them is the query itself.
            if self._limit_clause is None and self._offset_clause is None and not self._distinct:
                found: Any = self._clone()
            else:
                model: Any = described[0]["entity"]
                found = self.session.query(aliased(model, self.subquery()))
            return found.with_entities(*entities) if entities else found
        inner = self.subquery()
        return self.session.query(*(entities or inner.c))


class AirflowSession(PlainSession):
    """A session that takes what DAG files hand over: text as SQL, and connections as they write them."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        database.sessions.add(self)

    def get_bind(self, *arguments: Any, **named: Any) -> Any:
        return self.bind or database.engine()

    def execute(self, statement: Any, *arguments: Any, **named: Any) -> Any:
        return super().execute(text(statement) if isinstance(statement, str) else statement, *arguments, **named)

    def scalar(self, statement: Any, *arguments: Any, **named: Any) -> Any:
        return super().scalar(text(statement) if isinstance(statement, str) else statement, *arguments, **named)

    def add(self, instance: object, **options: Any) -> None:
        super().add(_model_of(instance), **options)

    def add_all(self, instances: Iterable[object]) -> None:
        super().add_all([_model_of(one) for one in instances])

    def merge(self, instance: Any, **options: Any) -> Any:
        return super().merge(_model_of(instance), **options)

    def delete(self, instance: object) -> None:
        model = _model_of(instance)
        super().delete(model if model is instance else super().merge(model))

    def bulk_save_objects(self, objects: Iterable[object], *_: object, **__: object) -> None:
        self.add_all(objects)
        self.flush()


def _model_of(instance: Any) -> Any:
    """A connection is written as a plain object, and stored as a model."""
    if type(instance) is Connection:
        from opskit.core.metastore.airflow_models.models import ConnectionModel

        return ConnectionModel(conn_id=instance.conn_id, **instance.to_dict())
    return instance


factory = sessionmaker(class_=AirflowSession, query_cls=AirflowQuery, autoflush=False, expire_on_commit=False)
Session = scoped_session(factory)


@contextmanager
def create_session(scoped: bool = True) -> Iterator[PlainSession]:
    """A session: committed when the block ends, rolled back when it raises."""
    session = Session() if scoped else factory()
    try:
        yield session
        session.commit()
    except BaseException:
        session.rollback()
        raise
    finally:
        session.close()


def provide_session(func: F) -> F:
    """Give a function its argument `session`, where none is given; it is committed when the function returns."""
    names = list(inspect.signature(func).parameters)
    if "session" not in names:
        raise ValueError(f"Function {func.__qualname__} has no `session` argument")
    place = names.index("session")

    @functools.wraps(func)
    def wrapper(*arguments: Any, **named: Any) -> Any:
        if named.get("session") is not None or len(arguments) > place:
            return func(*arguments, **named)
        with create_session() as session:
            return func(*arguments, **{**named, "session": session})

    return wrapper  # type: ignore[return-value]


NEW_SESSION: Any = None
"""Default of an argument that `provide_session` fills."""
