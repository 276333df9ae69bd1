"""Sessions know their workspace, owner and place themselves, so that they can outlive their upload's row."""

from django.db import migrations
from django.db.models import OuterRef, Q, Subquery

BATCH = 500


def fill(apps, schema_editor):
    alias = schema_editor.connection.alias
    sessions = apps.get_model("uploads", "UploadSession").objects.using(alias)
    uploads = apps.get_model("uploads", "AudioUpload").objects.using(alias).filter(pk=OuterRef("upload"))

    def of_upload(column):
        return Subquery(uploads.values(column)[:1])

    while pks := list(sessions.filter(workspace=None).order_by("pk").values_list("pk", flat=True)[:BATCH]):
        batch = sessions.filter(pk__in=pks)
        arrived = batch.exclude(upload__status="receiving").values_list("pk", flat=True)
        sessions.filter(pk__in=list(arrived)).update(
            state="completed", handle="", received_bytes=of_upload("file_size")
        )
        batch.update(
            workspace_id=of_upload("workspace"),
            owner_id=of_upload("owner"),
            storage_provider=of_upload("storage_provider"),
            storage_path=of_upload("storage_path"),
            size_bytes=of_upload("file_size"),
        )


def remove_new(apps, schema_editor):
    """The version before knows no session without an upload, and no other kind."""
    sessions = apps.get_model("uploads", "UploadSession").objects.using(schema_editor.connection.alias)
    foreign = sessions.filter(Q(upload=None) | ~Q(kind="direct"))
    while pks := list(foreign.order_by("pk").values_list("pk", flat=True)[:BATCH]):
        sessions.filter(pk__in=pks).delete()


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("uploads", "0022_upload_sessions_of_all_kinds")]

    operations = [migrations.RunPython(fill, remove_new)]
