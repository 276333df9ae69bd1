"""What an earlier version lost of a file's tags is read once more."""

from collections.abc import Callable

import pytest
from django.core.management import call_command

from objectstore import get_storage
from quotas.models import Workspace
from tests.audio import make_mp3
from tests.factories import WorkspaceFactory
from tests.plugging import steps_of
from tests.uploads.life import complete, row
from uploads.models import AudioUpload, Status, UploadEvent

pytestmark = pytest.mark.django_db(transaction=True)


def test_tags_that_were_lost_are_read_again(
    workspace: Workspace, declare: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    declare(processing_steps=steps_of("uploads.processing.description.describe"))
    upload = complete(workspace, make_mp3(tags=(("title", "Größe"),)), filename="x.mp3")
    whole = complete(workspace, make_mp3(seed=1), filename="y.mp3")
    AudioUpload.objects.filter(pk=upload.pk).update(metadata={"tags": {"title": "Gr??e"}, "source": "us"})
    call_command("describe_again", "--workspace", workspace.slug)
    assert "Read: 2. Different: 1. Not read: 0." in capsys.readouterr().out
    upload.refresh_from_db()
    assert upload.metadata == {"tags": {"title": "Größe"}, "source": "us"}
    assert upload.status == Status.COMPLETED
    assert UploadEvent.objects.filter(action="described_again").get().upload_id == upload.pk != whole.pk


def test_a_file_that_cannot_be_read_is_named_and_stays_as_it_is(
    workspace: Workspace, declare: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    declare(processing_steps=steps_of("uploads.processing.description.describe"))
    lost = complete(workspace, make_mp3(tags=(("title", "x"),)), filename="lost.mp3")
    get_storage("local").delete(lost.storage_path)
    row(WorkspaceFactory(), Status.FAILED, original_filename="failed.mp3")
    before = AudioUpload.objects.filter(pk=lost.pk).values().get()
    with pytest.raises(SystemExit, match="1"):
        call_command("describe_again")
    output = capsys.readouterr()
    assert "lost.mp3" in output.err and "failed.mp3" not in output.err
    assert AudioUpload.objects.filter(pk=lost.pk).values().get() == before
