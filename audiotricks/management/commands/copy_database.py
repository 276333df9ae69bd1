from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

import dj_database_url
from django.apps import apps
from django.core.management.base import CommandError, CommandParser
from django.core.management.color import no_style
from django.db import DatabaseError, connection, connections, transaction
from django.db.migrations.recorder import MigrationRecorder
from django.db.models import Model, QuerySet
from django.utils.translation import gettext as _

from audiotricks.batches import batched
from audiotricks.management.prompt import ProseCommand, usage_error

DESCRIPTION = """\
Copy everything that another AudioTricks database holds into this one (DATABASE_URL): from SQLite to PostgreSQL, say.

The source is only read. Stop everything that uses either database first, and run `manage.py migrate` with this version
on both. The target must be empty but for what migrate puts into it. Recordings stay where they are: leave the settings
of the storage as they were, so that the new database finds what the old one stored.
"""
EPILOG = """\
All rows are copied in one transaction: stopped or failed half way, the target is as empty as before. The number of rows
of each table is compared at the end. The id of the vault comes along, so the storages know the new database.

Exit codes: 0 everything was copied, 1 it was not, 2 wrong usage.
"""
BATCH = 1000
SOURCE = "copy_source"


class Command(ProseCommand):
    help = DESCRIPTION
    epilog = EPILOG

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--from",
            dest="source",
            required=True,
            metavar="URL",
            help="The database to copy, such as sqlite:////srv/audiotricks/var/audiotricks.sqlite3.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            connections.databases[SOURCE] = {**connections.databases["default"], **configuration(options["source"])}
            self.copy()
        except DatabaseError as error:
            raise CommandError(_("Nothing was copied: %(why)s") % {"why": error}) from error
        finally:
            if SOURCE in connections.databases:
                connections[SOURCE].close()
                del connections[SOURCE], connections.databases[SOURCE]

    def copy(self) -> None:
        check_versions()
        models = models_to_copy()
        with transaction.atomic(using=SOURCE), transaction.atomic():
            check_empty(models)
            # The rows that ``migrate`` made have other keys in the two databases.
            for model in reversed(models):
                all_rows(model, "default")._raw_delete("default")
            for model in models:
                count = copy_rows(model)
                self.stdout.write(f"{model._meta.db_table}: {count}")
            for model in models:
                compare_counts(model)
            with connection.cursor() as cursor:
                for statement in connection.ops.sequence_reset_sql(no_style(), models):
                    cursor.execute(statement)
            connection.check_constraints()
        self.stdout.write(_("Everything was copied."))


def configuration(url: str) -> dict[str, Any]:
    try:
        parsed: dict[str, Any] = dict(dj_database_url.parse(url))
    except (ValueError, dj_database_url.ParseError, dj_database_url.UnknownSchemeError) as error:
        raise usage_error(_("This is not the address of a database: %(why)s") % {"why": error}) from None
    if parsed["ENGINE"] not in ("django.db.backends.sqlite3", "django.db.backends.postgresql"):
        raise usage_error(_("The address must begin with postgresql:// or sqlite://."))
    if parsed["ENGINE"] == "django.db.backends.sqlite3":
        # Read-only, and never created.
        parsed["NAME"] = f"file:{quote(parsed['NAME'])}?mode=ro"
        parsed["OPTIONS"] = {"uri": True}
    # The options of the URL (sslmode, host) without those of the target.
    return {"OPTIONS": {}, **parsed}


def check_versions() -> None:
    """Raises CommandError unless the same version migrated both databases."""
    there, here = (MigrationRecorder(connections[alias]).applied_migrations() for alias in (SOURCE, "default"))
    if set(there) != set(here):
        raise CommandError(
            _("The two databases were not migrated by the same version: run `manage.py migrate` of this one on both.")
        )


def models_to_copy() -> list[type[Model]]:
    """Tables of both databases, referenced ones first."""
    tables = set(connection.introspection.table_names())
    ordered: list[type[Model]] = []

    def put(model: type[Model]) -> None:
        if model in ordered or model in waiting:
            return
        waiting.add(model)
        for field in model._meta.local_fields:
            related = field.related_model
            if related is not None and related is not model and not isinstance(related, str):
                put(related._meta.concrete_model or related)
        waiting.discard(model)
        if model._meta.managed and not model._meta.proxy and model._meta.db_table in tables:
            ordered.append(model)

    waiting: set[type[Model]] = set()
    for model in apps.get_models(include_auto_created=True):
        put(model)
    return ordered


#: Rows that ``migrate`` writes, or that show only that a program ran.
MADE_BY_MIGRATE = frozenset(
    {"contenttypes", "django_celery_beat", "auth.permission", "audiotricks.seededtask", "audiotricks.workerheartbeat"}
)


def check_empty(models: Iterable[type[Model]]) -> None:
    """Raises CommandError for rows that migrate did not write."""
    for model in models:
        label = model._meta.label_lower
        if {label, model._meta.app_label} & MADE_BY_MIGRATE:
            continue
        if all_rows(model, "default").exists():
            raise CommandError(
                _("The target is not empty (table %(table)s): copy into a database that was only migrated.")
                % {"table": model._meta.db_table}
            )


def all_rows(model: type[Model], alias: str) -> QuerySet[Any]:
    # Without joins, which a library's manager may add.
    return QuerySet(model, using=alias).order_by("pk")


def copy_rows(model: type[Model]) -> int:
    """Without defaults and ``auto_now``."""
    copied = 0
    fields = model._meta.local_concrete_fields
    # SQLite limits the parameters of a statement.
    size = min(BATCH, (connection.features.max_query_params or 20_000) // len(fields))
    target: Any = all_rows(model, "default")
    for rows in batched(all_rows(model, SOURCE).iterator(chunk_size=BATCH), size):
        try:
            target._insert(rows, fields=fields, using="default", raw=True)
        except (DatabaseError, ValueError) as error:
            raise CommandError(
                _("A row of the table %(table)s cannot be copied: %(why)s")
                % {"table": model._meta.db_table, "why": error}
            ) from error
        copied += len(rows)
    return copied


def compare_counts(model: type[Model]) -> None:
    there, here = (all_rows(model, alias).count() for alias in (SOURCE, "default"))
    if there != here:
        raise CommandError(
            _("The table %(table)s has %(here)d rows here and %(there)d there.")
            % {"table": model._meta.db_table, "here": here, "there": there}
        )
