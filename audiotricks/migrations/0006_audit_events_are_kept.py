from typing import Any

from django.db import migrations

# PostgreSQL also keeps what is younger than a day from being deleted. SQLite does not: there ``flush`` deletes rows.
MAKE = {
    "postgresql": (
        """
        CREATE FUNCTION keep_audit_events() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP = 'DELETE' AND OLD.created_at < now() - interval '1 day' THEN
                RETURN OLD;
            END IF;
            RAISE EXCEPTION 'audit_events are append-only' USING ERRCODE = 'integrity_constraint_violation';
        END
        $$
        """,
        """
        CREATE TRIGGER audit_events_append_only BEFORE UPDATE OR DELETE ON audit_events
        FOR EACH ROW EXECUTE FUNCTION keep_audit_events()
        """,
    ),
    "sqlite": (
        """
        CREATE TRIGGER audit_events_append_only BEFORE UPDATE ON audit_events
        BEGIN SELECT RAISE(ABORT, 'audit_events are append-only'); END
        """,
    ),
}
UNMAKE = {
    "postgresql": (
        "DROP TRIGGER IF EXISTS audit_events_append_only ON audit_events",
        "DROP FUNCTION IF EXISTS keep_audit_events()",
    ),
    "sqlite": ("DROP TRIGGER IF EXISTS audit_events_append_only",),
}


def make_triggers(apps: Any, schema_editor: Any) -> None:
    run(schema_editor, MAKE)


def remove_triggers(apps: Any, schema_editor: Any) -> None:
    run(schema_editor, UNMAKE)


def run(schema_editor: Any, statements: dict[str, tuple[str, ...]]) -> None:
    for statement in statements[schema_editor.connection.vendor]:
        schema_editor.execute(statement, params=None)


class Migration(migrations.Migration):
    dependencies = [("audiotricks", "0005_audit_events")]
    operations = [migrations.RunPython(make_triggers, remove_triggers)]
