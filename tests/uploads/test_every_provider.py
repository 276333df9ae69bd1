"""What can go wrong with a file in a bucket and not on a disk, at each provider."""

import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests
from django.core.files.base import ContentFile
from django.db.models.functions import Now
from django.test import Client

from objectstore.base import AudioStorage, ObjectStat
from objectstore.errors import ObjectNotFound
from objectstore.s3.multipart import MultipartUpload
from quotas.models import QuotaReservation, Workspace
from quotas.workspaces import personal_workspace
from tests.audio import make_wav
from tests.clocks import go_ahead
from tests.factories import UserFactory, client_for, member_of
from tests.forked import Prepared
from tests.object_servers.fixtures import ALIASES
from tests.quotas.threads import at_once
from tests.uploads import dying
from tests.uploads.direct import MEBIBYTE, noise, use_storage
from tests.uploads.life import (
    Bytes,
    actions,
    arrive,
    assert_books_balance,
    complete,
    counted,
    stored_names,
)
from uploads.intake.arrivals import UploadTakenBack
from uploads.intake.ingest import StoredObjectDiffers, ingest_audio
from uploads.lifecycle.trash import delete_upload, purge_upload, undelete_upload
from uploads.models import AudioUpload, Status, StoredObject
from uploads.objects.conditions import failing_writes
from uploads.objects.marks import ensure_ours
from uploads.processing.runner import process_upload
from uploads.serving.links import sign_link
from uploads.upkeep.sweeps import sweep_stale_reservations
from uploads.upkeep.tiers import note_storage_classes

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("without_decoding")]


@pytest.fixture(params=ALIASES)
def bucket(request: pytest.FixtureRequest, settings: Any) -> AudioStorage:
    return use_storage(request.param, request, settings)


def shortened(stat: ObjectStat) -> ObjectStat:
    return replace(stat, size=stat.size - 1)


def with_another_checksum(stat: ObjectStat) -> ObjectStat:
    assert stat.checksums
    return replace(stat, checksums={"md5": "0" * 32})


def lost(stat: ObjectStat) -> ObjectStat:
    raise ObjectNotFound


@pytest.mark.parametrize("lie", [shortened, with_another_checksum, lost])
def test_a_provider_that_has_something_else_than_was_sent_is_not_believed(
    lie: Callable[[ObjectStat], ObjectStat],
    bucket: AudioStorage,
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Promise 1. Its own word of size and checksum is looked at before the row says uploaded."""
    # Its mark is written and read before it lies.
    ensure_ours(bucket.provider)
    stat, lies = type(bucket).stat, [lie]

    def lie_once(self: AudioStorage, name: str) -> ObjectStat:
        told = stat(self, name)
        return lies.pop()(told) if lies else told

    with monkeypatch.context() as lying:
        lying.setattr(type(bucket), "stat", lie_once)
        with pytest.raises(StoredObjectDiffers):
            ingest_audio(Bytes(make_wav()), workspace=workspace, owner=UserFactory(), door="test")
    assert not AudioUpload.objects.exists() and not stored_names()
    assert counted(workspace) == (0, 0, 0, 0)


def test_an_object_that_was_exchanged_in_the_bucket_fails_its_file(bucket: AudioStorage, workspace: Workspace) -> None:
    """Promise 1. Its size and the provider's checksum are in order; what arrived had another SHA-256."""
    upload = arrive(workspace)
    data = make_wav()
    bucket.delete(upload.storage_path)
    bucket.save(upload.storage_path, ContentFile(data[:-1] + bytes([data[-1] ^ 1])))
    process_upload(str(upload.pk))
    upload.refresh_from_db()
    assert (upload.status, upload.error_code) == (Status.FAILED, "object_damaged")


def test_what_was_given_out_ends_with_the_file(bucket: AudioStorage, workspace: Workspace, settings: Any) -> None:
    """Promises 7, 51 and 52. Our links at once; an address of the provider's with its time, and with its object."""
    settings.SIGNED_URL_SECONDS = 300
    owner = member_of(workspace)
    client, stranger = client_for(owner), Client()
    upload = complete(workspace)
    signature = sign_link(upload, maker=owner)

    def answers() -> tuple[Any, Any]:
        return (
            client.get(f"/api/v1/uploads/{upload.pk}/content/"),
            stranger.get("/listen/", {"signature": signature}),
        )

    addresses = []
    for answer in answers():
        assert (answer.status_code, answer["Cache-Control"]) == (302, "private, no-store")
        assert requests.get(answer["Location"], timeout=30).content == make_wav()
        addresses.append(answer["Location"])

    delete_upload(upload, actor=None)
    assert [answer.status_code for answer in answers()] == [404, 410]
    undelete_upload(upload, actor=None)
    assert [answer.status_code for answer in answers()] == [302, 302]
    delete_upload(upload, actor=None)
    purge_upload(upload, actor=None)
    assert [answer.status_code for answer in answers()] == [404, 410]
    assert [requests.get(address, timeout=30).status_code for address in addresses] == [404, 404]


def test_a_class_that_two_workers_see_at_once_is_noted_once(bucket: AudioStorage, workspace: Workspace) -> None:
    """Promise 33. One event for one change of the provider's."""
    upload = complete(workspace)
    known = upload.storage_class
    AudioUpload.objects.update(storage_class="BEFORE")
    StoredObject.objects.update(storage_class="BEFORE")
    for changed in (1, 0):
        outcomes = at_once(*[note_storage_classes] * 4)
        assert sum(outcome["changed"] for outcome in outcomes) == changed
    upload.refresh_from_db()
    assert upload.storage_class == known
    assert actions(upload).count("storage_class_changed") == 1


def unfinished(bucket: Any, name: str) -> int:
    """What the provider keeps of writes that never ended, as far as it says: Google does not."""
    if bucket.provider == "s3":
        return len(bucket.requests.client.list_multipart_uploads(Bucket=bucket.bucket_name).get("Uploads", []))
    if bucket.provider == "azure":
        found = bucket.client.list_blobs(name_starts_with=name, include=["uncommittedblobs"])
        return sum(len(bucket.client.get_blob_client(blob.name).get_block_list("uncommitted")[1]) for blob in found)
    return 0


def test_a_kill_between_the_parts_of_an_object_leaves_nothing_under_its_name(
    bucket: Any, settings: Any, monkeypatch: pytest.MonkeyPatch, prepared: Prepared
) -> None:
    """Promises 2, 9 and 16. Its parts go with its row; those that no row names are spared at first."""
    workspace = personal_workspace(UserFactory())
    settings.STORAGE_PART_BYTES = 5 * MEBIBYTE
    done = prepared.run(dying.main, "part sent", 12 * MEBIBYTE)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, ""), done.stderr
    row = AudioUpload.objects.get()
    assert (row.status, stored_names()) == (Status.RECEIVING, set())
    kept = unfinished(bucket, row.storage_path)
    assert kept >= (1 if bucket.provider != "gcs" else 0)

    QuotaReservation.objects.update(expires_at=Now() - timedelta(seconds=1))
    assert sweep_stale_reservations().items() >= {"abandoned": 1, "released": 0, "partials_removed": 0}.items()
    assert counted(workspace) == (0, 0, 0, 0)
    if bucket.provider == "s3":
        # Ended with its row. A part may be on its way all the same, and what no row names is found by its age.
        assert unfinished(bucket, row.storage_path) == 0
        MultipartUpload.begin(bucket.requests, row.storage_path)
        kept = 1
    # A part that was on its way at the kill may have arrived since.
    assert sweep_stale_reservations()["partials_removed"] == 0
    assert unfinished(bucket, row.storage_path) >= kept

    go_ahead(monkeypatch, days=9)
    swept = sweep_stale_reservations()["partials_removed"]
    if bucket.provider == "s3":
        assert (swept, unfinished(bucket, row.storage_path)) == (1, 0)
    # Azure lets go of blocks by itself, after a week or when the name is written: they are never part of anything.
    bucket.save(row.storage_path, ContentFile(bytes(12 * MEBIBYTE)))
    assert unfinished(bucket, row.storage_path) == 0
    assert bucket.stat(row.storage_path).size == 12 * MEBIBYTE
    bucket.delete(row.storage_path)
    assert stored_names() == set()
    assert bucket.remove_partials(datetime.now(UTC) + timedelta(hours=1)) == 0
    assert_books_balance(workspace)


class Interrupted(Bytes):
    """Its upload is taken back when half of it has come."""

    def chunks(self) -> Iterator[bytes]:
        half = len(self.data) // 2
        yield self.data[:half]
        QuotaReservation.objects.update(expires_at=Now() - timedelta(seconds=1))
        assert sweep_stale_reservations()["abandoned"] == 1
        yield self.data[half:]


def test_an_upload_that_goes_on_after_it_was_taken_back_says_so(
    bucket: AudioStorage, workspace: Workspace, settings: Any
) -> None:
    """Promise 16. Its parts may be gone in the middle of it; that is no fault of the storage's."""
    settings.STORAGE_PART_BYTES = 5 * MEBIBYTE
    with pytest.raises(UploadTakenBack):
        ingest_audio(Interrupted(noise(16 * MEBIBYTE)), workspace=workspace, owner=UserFactory(), door="test")
    assert not AudioUpload.objects.exists() and not stored_names()
    assert counted(workspace) == (0, 0, 0, 0)
    assert failing_writes(bucket.provider) is None


def test_who_asks_for_no_redirect_gets_the_bytes_from_us(bucket: AudioStorage, workspace: Workspace) -> None:
    """Some clients send their token along to the bucket, which then refuses them."""
    upload = complete(workspace)
    client = client_for(member_of(workspace))
    address = f"/api/v1/uploads/{upload.pk}/content/"
    for no in ("false", "0", "no"):
        answer = client.get(f"{address}?redirect={no}")
        assert answer.status_code == 200
        assert b"".join(answer.streaming_content) == make_wav()
    part = client.get(f"{address}?redirect=false", headers={"Range": "bytes=10-19"})
    assert (part.status_code, b"".join(part.streaming_content)) == (206, make_wav()[10:20])
    assert client.get(f"{address}?redirect=true").status_code == 302
