"""How SQL is written for the database at hand."""

from __future__ import annotations

from dataclasses import dataclass

_PG_TYPES = {"time": "TIMESTAMP WITH TIME ZONE", "text": "VARCHAR", "int": "INTEGER", "bool": "BOOLEAN"}


@dataclass(frozen=True, slots=True)
class Columns:
    """Airflow's name → an expression over our columns, and what FROM names."""

    columns: dict[str, str]
    source: str


@dataclass(frozen=True)
class Place:
    """Where our tables are, and how one writes SQL there."""

    kind: str
    """sqlite, postgresql, mysql or mariadb."""
    schema: str
    """What our tables are qualified with: unlike bare names, such names never mean a common table expression."""
    dags_folder: str

    def quote(self, name: str) -> str:
        return f"`{name}`" if self.is_mysql else f'"{name}"'

    @property
    def is_mysql(self) -> bool:
        return self.kind in ("mysql", "mariadb")

    def table(self, name: str) -> str:
        return f"{self.quote(self.schema)}.{self.quote(name)}"

    def null(self, kind: str) -> str:
        return f"CAST(NULL AS {_PG_TYPES[kind]})" if self.kind == "postgresql" else "NULL"

    def text(self, value: str) -> str:
        """A literal. Drivers with % as their placeholder take it doubled."""
        value = value.replace("'", "''")
        if self.is_mysql:
            value = value.replace("\\", "\\\\")
        return f"'{value}'" if self.kind == "sqlite" else "'" + value.replace("%", "%%") + "'"

    def below_dags(self, column: str) -> str:
        """The whole path of a DAG file."""
        folder = self.text(self.dags_folder.rstrip("/") + "/")
        return f"CONCAT({folder}, {column})" if self.is_mysql else f"{folder} || {column}"

    def seconds(self, start: str, end: str) -> str:
        if self.kind == "postgresql":
            return f"CAST(EXTRACT(EPOCH FROM ({end} - {start})) AS DOUBLE PRECISION)"
        if self.kind == "sqlite":
            return f"ROUND((julianday({end}) - julianday({start})) * 86400.0, 3)"
        return f"TIMESTAMPDIFF(MICROSECOND, {start}, {end}) / 1000000.0"

    def boolean(self, condition: str) -> str:
        return f"({condition})" if self.kind == "postgresql" else f"CASE WHEN {condition} THEN 1 ELSE 0 END"

    def constant(self, value: bool) -> str:
        return ("TRUE" if value else "FALSE") if self.kind == "postgresql" else str(int(value))
