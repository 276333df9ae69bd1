"""Empties the database after a test that committed, in a hundredth of the time of Django's ``flush``.

``flush`` truncates every table, waits for a lock on each, and makes content types, permissions and schedules again.
Here rows are deleted and those of a freshly migrated database are put back, by one script.
"""

from typing import Any

from django.db import DEFAULT_DB_ALIAS, connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.test import TransactionTestCase

BASELINE = "baseline"


def empty_quickly() -> None:
    """Have Django empty the test database so, from now on. Called once, with the migrated database."""
    script = emptying_script(connection)

    def teardown(self: TransactionTestCase) -> None:
        with connection.cursor() as cursor:
            cursor.execute(script)

    assert connection.alias == DEFAULT_DB_ALIAS
    TransactionTestCase._fixture_teardown = teardown  # type: ignore[attr-defined]


def emptying_script(database: BaseDatabaseWrapper) -> str:
    """Copies the rows of the migrated database into another schema; returns the script that goes back to them."""
    quote = database.ops.quote_name
    deletes, inserts = [], []
    with database.cursor() as cursor:
        cursor.execute(f"CREATE SCHEMA {BASELINE}")
        for table in map(quote, sorted(tables_of(cursor))):
            deletes.append(f"DELETE FROM {table};")
            cursor.execute(f"SELECT EXISTS (SELECT FROM {table})")
            if cursor.fetchone()[0]:
                cursor.execute(f"CREATE TABLE {BASELINE}.{table} AS TABLE {table}")
                columns = ", ".join(quote(column.name) for column in columns_of(cursor, table))
                inserts.append(f"INSERT INTO {table} ({columns}) SELECT {columns} FROM {BASELINE}.{table};")
    # In the role of a replica no foreign key is checked, so that the tables' order is free.
    before = "BEGIN; SET LOCAL lock_timeout = '30s'; SET LOCAL session_replication_role = replica;"
    return "\n".join([before, *deletes, *inserts, "COMMIT;"])


def columns_of(cursor: Any, table: str) -> Any:
    cursor.execute(f"SELECT * FROM {table} LIMIT 0")
    return cursor.description


def tables_of(cursor: Any) -> list[str]:
    cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")
    return [name for (name,) in cursor.fetchall()]
