"""All changes of quota counters, in SQL for PostgreSQL and SQLite: composing the conditions would take longer than
running them on this busiest row.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg
from django.db import connection

from quotas.models import LARGEST

Value = int | date | datetime | timedelta | uuid.UUID | str | None


def run(statement: str, **values: Value) -> int:
    """Return the number of changed rows."""
    with _cursor() as cursor:
        cursor.execute(statement, _adapted(values))
        changed: int = cursor.rowcount
        return changed


def take(**values: Value) -> bool:
    """False, changing nothing, if a limit refuses."""
    return run(TAKE, **values) == 1


def reserve(*, expires_from: datetime | None, lifetime: timedelta, now: datetime, **values: Value) -> datetime | None:
    """:func:`take` and the reservation's row. Return its end; None, changing nothing, if refused. It begins at
    ``expires_from``, by default now by the database's clock.
    """
    if connection.vendor == "postgresql":
        row = run_returning(TAKE_AND_INSERT, expires_from=expires_from, lifetime=lifetime, now=now, **values)
        return row[0].astimezone(UTC) if row else None  # type: ignore[union-attr]
    expires_at = (expires_from or now) + lifetime
    if take(now=now, **values) and run(INSERT_RESERVATION, expires_at=expires_at, now=now, **values):
        return expires_at
    return None


def run_returning(statement: str, **values: Value) -> tuple[Value, ...] | None:
    """The returned row in the driver's types, or None."""
    with _cursor() as cursor:
        cursor.execute(statement, _adapted(values))
        row: tuple[Value, ...] | None = cursor.fetchone()
        return row


@contextmanager
def _cursor() -> Iterator[Any]:
    """On PostgreSQL psycopg's own, so that each connection plans a statement once, which takes longer than the rest.
    PgBouncer needs ``max_prepared_statements``.
    """
    if connection.vendor != "postgresql":
        with connection.cursor() as cursor:
            yield cursor
        return
    connection.ensure_connection()
    connection.validate_no_broken_transaction()
    connection.connection.prepare_threshold = 0
    with connection.wrap_database_errors, psycopg.Cursor(connection.connection) as cursor:
        yield cursor


def _adapted(values: dict[str, Value]) -> dict[str, Value]:
    """SQLite stores ids as hexadecimal digits and times without a zone."""
    values["largest"] = LARGEST
    if connection.features.has_native_uuid_field:
        return values
    adapted: dict[str, Any] = dict(values)
    for name, value in values.items():
        if isinstance(value, uuid.UUID):
            adapted[name] = value.hex
        elif isinstance(value, datetime):
            adapted[name] = connection.ops.adapt_datetimefield_value(value)
        elif isinstance(value, date):
            adapted[name] = connection.ops.adapt_datefield_value(value)
    return adapted


DELETE_RESERVATION = """
    DELETE FROM quota_reservations WHERE id = %(id)s RETURNING workspace_id, bytes, files, month
"""

DELETE_EXPIRED_RESERVATION = """
    DELETE FROM quota_reservations WHERE id = %(id)s AND expires_at <= %(now)s
    RETURNING workspace_id, bytes, files, month
"""

IS_OF_ANOTHER_MONTH = "(month < %(month)s OR month > %(latest_month)s)"

# The same conditions as StorageQuota.limits() and LimitUse.allows(). The month rolls over inside: forwards, and
# back from one that cannot have begun.
TAKE = f"""
    UPDATE storage_quotas SET
        reserved_bytes = reserved_bytes + %(bytes)s,
        reserved_files = reserved_files + %(files)s,
        monthly_uploads = CASE WHEN {IS_OF_ANOTHER_MONTH} THEN 0 ELSE monthly_uploads END,
        monthly_upload_bytes = CASE WHEN {IS_OF_ANOTHER_MONTH} THEN 0 ELSE monthly_upload_bytes END,
        month = CASE WHEN {IS_OF_ANOTHER_MONTH} THEN %(month)s ELSE month END,
        updated_at = %(now)s
    WHERE workspace_id = %(workspace)s
        AND %(file_bytes)s <= COALESCE(max_file_size, %(largest)s)
        AND (%(bytes)s = 0 OR current_storage_bytes + reserved_bytes + %(bytes)s
            <= COALESCE(max_storage_bytes, %(largest)s))
        AND (%(files)s = 0 OR current_file_count + reserved_files + %(files)s
            <= COALESCE(max_file_count, %(largest)s))
        AND (%(files)s = 0 OR CASE WHEN {IS_OF_ANOTHER_MONTH} THEN 0 ELSE monthly_uploads END
            + reserved_files + %(files)s <= COALESCE(max_monthly_uploads, %(largest)s))
        AND (%(bytes)s = 0 OR CASE WHEN {IS_OF_ANOTHER_MONTH} THEN 0 ELSE monthly_upload_bytes END
            + reserved_bytes + %(bytes)s <= COALESCE(max_monthly_upload_bytes, %(largest)s))
"""  # noqa: S608 - made of nothing but the condition above

INSERT_RESERVATION = """
    INSERT INTO quota_reservations (id, workspace_id, bytes, files, month, expires_at, created_at)
    VALUES (%(id)s, %(workspace)s, %(bytes)s, %(files)s, %(month)s, %(expires_at)s, %(now)s)
"""

# In one statement where the database can: half the round trips while others wait for the row.
TAKE_AND_INSERT = f"""
    WITH taken AS ({TAKE} RETURNING workspace_id)
    INSERT INTO quota_reservations (id, workspace_id, bytes, files, month, expires_at, created_at)
    SELECT %(id)s, workspace_id, %(bytes)s, %(files)s, %(month)s,
        COALESCE(%(expires_from)s::timestamptz, statement_timestamp()) + %(lifetime)s::interval, %(now)s
    FROM taken
    RETURNING expires_at
"""  # noqa: S608 - made of nothing but the statement above

# Subtractions stop at 0; this is the condition under which they need not.
RESERVED_SUFFICES = " AND reserved_bytes >= %(bytes)s AND reserved_files >= %(files)s"
USED_SUFFICES = " AND current_storage_bytes >= %(bytes)s AND current_file_count >= %(files)s"

GIVE_BACK = """
    UPDATE storage_quotas SET
        reserved_bytes = CASE WHEN reserved_bytes < %(bytes)s THEN 0 ELSE reserved_bytes - %(bytes)s END,
        reserved_files = CASE WHEN reserved_files < %(files)s THEN 0 ELSE reserved_files - %(files)s END,
        updated_at = %(now)s
    WHERE workspace_id = %(workspace)s
"""

SETTLE = """
    UPDATE storage_quotas SET
        reserved_bytes = CASE WHEN reserved_bytes < %(bytes)s THEN 0 ELSE reserved_bytes - %(bytes)s END,
        reserved_files = CASE WHEN reserved_files < %(files)s THEN 0 ELSE reserved_files - %(files)s END,
        current_storage_bytes = current_storage_bytes + %(arrived)s,
        current_file_count = current_file_count + %(files)s,
        monthly_uploads = monthly_uploads + CASE WHEN month = %(month)s THEN %(files)s ELSE 0 END,
        monthly_upload_bytes = monthly_upload_bytes + CASE WHEN month = %(month)s THEN %(arrived)s ELSE 0 END,
        updated_at = %(now)s
    WHERE workspace_id = %(workspace)s
"""

COUNT_IN = """
    UPDATE storage_quotas SET
        current_storage_bytes = current_storage_bytes + %(bytes)s,
        current_file_count = current_file_count + %(files)s,
        updated_at = %(now)s
    WHERE workspace_id = %(workspace)s
        AND (%(bytes)s = 0 OR current_storage_bytes + reserved_bytes + %(bytes)s
            <= COALESCE(max_storage_bytes, %(largest)s))
        AND (%(files)s = 0 OR current_file_count + reserved_files + %(files)s
            <= COALESCE(max_file_count, %(largest)s))
"""

COUNT_OUT = """
    UPDATE storage_quotas SET
        current_storage_bytes = CASE WHEN current_storage_bytes < %(bytes)s THEN 0
            ELSE current_storage_bytes - %(bytes)s END,
        current_file_count = CASE WHEN current_file_count < %(files)s THEN 0 ELSE current_file_count - %(files)s END,
        updated_at = %(now)s
    WHERE workspace_id = %(workspace)s
"""
