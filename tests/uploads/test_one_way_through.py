"""One file, from the first byte to the last: uploaded, processed, listed, served, thrown away."""

import hashlib

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from objectstore import default_alias
from quotas.models import StorageQuota
from tests.audio import audio_bytes, make_jpeg, make_mp3
from tests.factories import UserFactory, client_for
from tests.uploads.life import names_in
from tests.uploads.listening import hear
from uploads.models import AudioUpload, Status
from uploads.processing.runner import process_upload

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("any_storage")]


def test_a_file_goes_in_is_known_checked_counted_and_served():
    user = UserFactory()
    client = client_for(user)
    data = make_mp3(tags=(("title", "One"), ("artist", "Two")), artwork=make_jpeg())

    answer = client.post("/api/v1/uploads/", {"file": SimpleUploadedFile("one.mp3", data)}, format="multipart")

    assert answer.status_code == 201, answer.content
    assert answer.json()["status"] == "uploaded"
    assert answer.json()["checksum_sha256"] == hashlib.sha256(data).hexdigest()
    pk = answer.json()["id"]
    quota = StorageQuota.objects.get()
    assert (quota.current_storage_bytes, quota.current_file_count, quota.reserved_bytes) == (len(data), 1, 0)

    process_upload(pk)

    row = client.get(f"/api/v1/uploads/{pk}/").json()
    assert row["status"] == "completed", row
    assert row["metadata"]["tags"]["title"] == "One"
    assert row["codec"] == "mp3"
    assert row["thumbnail_path"] == f"audio/{pk}/thumbnail.jpg"
    assert [upload["id"] for upload in client.get("/api/v1/uploads/").json()["results"]] == [pk]

    whole = hear(client, f"/api/v1/uploads/{pk}/content/")
    assert (whole.status, whole.body) == (200, data)
    part = hear(client, f"/api/v1/uploads/{pk}/content/", Range="bytes=10-19")
    assert (part.status, part.body) == (206, data[10:20])

    assert client.delete(f"/api/v1/uploads/{pk}/").status_code == 204
    assert client.get(f"/api/v1/uploads/{pk}/content/").status_code == 404
    assert client.delete(f"/api/v1/uploads/{pk}/?permanently=true").status_code == 204
    assert not AudioUpload.objects.exists()
    assert names_in(default_alias()) == set()


@pytest.mark.parametrize(
    "extension", ["mp3", "wav", "flac", "ogg", "oga", "opus", "m4a", "aac", "aiff", "aif", "wma", "webm"]
)
def test_every_accepted_format_is_completed_and_described(extension):
    client = client_for(UserFactory())
    data = audio_bytes(extension)
    answer = client.post(
        "/api/v1/uploads/", data, content_type="application/octet-stream",
        HTTP_CONTENT_DISPOSITION=f'attachment; filename="x.{extension}"',
    )  # fmt: skip
    assert answer.status_code == 201, answer.content

    process_upload(answer.json()["id"])

    upload = AudioUpload.objects.get()
    assert upload.status == Status.COMPLETED, upload.error_message
    assert upload.duration and upload.sample_rate and upload.channels and upload.codec
