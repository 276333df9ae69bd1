"""On the way back: rows of objects that files need go, so that the table holds orphans alone, as it did before."""

from django.db import migrations
from django.db.models import Q

BATCH = 10_000


def forget_objects_in_use(apps, schema_editor):
    rows = apps.get_model("uploads", "StoredObject").objects.using(schema_editor.connection.alias)
    # A purge that was interrupted is finished from its tombstone.
    in_use = rows.filter(Q(unneeded_since=None) | Q(state="removing")).order_by("pk")
    while pks := list(in_use.values_list("pk", flat=True)[:BATCH]):
        rows.filter(pk__gte=pks[0], pk__lte=pks[-1]).filter(Q(unneeded_since=None) | Q(state="removing")).delete()


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("uploads", "0017_stored_objects")]

    operations = [migrations.RunPython(migrations.RunPython.noop, forget_objects_in_use)]
