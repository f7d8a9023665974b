"""Run by Alembic: migrates over the connection that `schema.migrate` has opened and locked."""

from __future__ import annotations

from alembic import context

from opskit.core.metastore.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transaction_per_migration=False,
)
context.run_migrations()
