"""The history of the metastore's schema, as Alembic revisions.

A revision's id is a number of four digits. MariaDB and MySQL commit after each DDL statement, so a revision must be
safe to run again when it was interrupted.
"""
