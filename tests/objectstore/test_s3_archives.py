"""Classes that have to be restored, and keys of one's own, as Amazon has them."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.files.base import ContentFile
from moto.moto_api import state_manager

from objectstore import get_storage
from objectstore.base import Availability, EncryptionReference
from objectstore.errors import ObjectArchived, PermanentStorageError
from objectstore.s3 import S3Storage
from objectstore.s3.facts import availability_of
from tests.object_servers import ObjectServer
from tests.object_servers.fixtures import configure
from tests.object_servers.moto import running_moto
from tests.objectstore.test_storage_contract import CONTENT, MIB, NAME, OTHER, get, names_in, noise, put

KEY = "arn:aws:kms:eu-central-1:111122223333:key/0b7f"
RESTORED = 'ongoing-request="false", expiry-date="Fri, 21 Dec 2029 00:00:00 GMT"'


@pytest.fixture(scope="module")
def moto_server() -> Iterator[ObjectServer]:
    with running_moto() as server:
        yield server


@pytest.fixture
def storage(moto_server: ObjectServer, settings: Any) -> Any:
    return configure(settings, moto_server)


@pytest.fixture
def slow_restores() -> Iterator[None]:
    """The first who asks for an object that is to be restored hears that it is on its way, the next one has it."""
    state_manager.set_transition("s3::keyrestore", {"progression": "manual", "times": 2})
    yield
    state_manager.unset_transition("s3::keyrestore")


@pytest.mark.parametrize("storage_class", ["GLACIER", "DEEP_ARCHIVE"])
def test_what_lies_in_an_archive_is_told_and_not_read(storage: S3Storage, storage_class: str) -> None:
    storage.save(NAME, ContentFile(CONTENT), storage_class=storage_class)
    stat = storage.stat(NAME)
    assert (stat.availability, stat.storage_class, stat.restored_until) == (
        Availability.ARCHIVED,
        storage_class,
        None,
    )
    assert stat.size == len(CONTENT)
    for attempt in (lambda: storage.open_range(NAME), lambda: storage.copy(NAME, OTHER)):
        with pytest.raises(ObjectArchived):
            attempt()
    assert names_in(storage) == {NAME}


def test_an_object_is_moved_into_an_archive_and_back_by_copies(storage: S3Storage) -> None:
    put(storage)
    assert storage.copy(NAME, OTHER, storage_class="GLACIER").availability is Availability.ARCHIVED
    storage.classes.restore(OTHER, days=2)
    restored = storage.stat(OTHER)
    assert restored.availability is Availability.READABLE
    assert restored.restored_until is not None
    assert abs(restored.restored_until - datetime.now(UTC) - timedelta(days=2)) < timedelta(hours=1)
    assert storage.copy(OTHER, "audio/0b7f/back.mp3", storage_class="STANDARD").storage_class == "STANDARD"
    assert get(storage, "audio/0b7f/back.mp3") == CONTENT


def test_a_restore_has_a_state_of_its_own(storage: S3Storage, slow_restores: None) -> None:
    storage.save(NAME, ContentFile(CONTENT), storage_class="GLACIER")
    storage.classes.restore(NAME, days=1)
    assert storage.stat(NAME).availability is Availability.RESTORING
    assert storage.stat(NAME).availability is Availability.READABLE
    assert get(storage) == CONTENT


def test_a_restore_that_is_on_its_way_is_not_asked_for_again(storage: S3Storage, slow_restores: None) -> None:
    storage.save(NAME, ContentFile(CONTENT), storage_class="GLACIER")
    storage.classes.restore(NAME, days=1)
    storage.classes.restore(NAME, days=100)
    until = storage.stat(NAME).restored_until
    assert until is not None
    assert until < datetime.now(UTC) + timedelta(days=2)


def test_glacier_that_is_read_at_once_is_readable(storage: S3Storage) -> None:
    storage.save(NAME, ContentFile(CONTENT), storage_class="GLACIER_IR")
    assert storage.stat(NAME).availability is Availability.READABLE
    assert get(storage) == CONTENT


@pytest.mark.parametrize(
    ("head", "availability", "day"),
    [
        ({}, Availability.READABLE, None),
        ({"StorageClass": "GLACIER"}, Availability.ARCHIVED, None),
        ({"StorageClass": "INTELLIGENT_TIERING"}, Availability.READABLE, None),
        ({"StorageClass": "INTELLIGENT_TIERING", "ArchiveStatus": "ARCHIVE_ACCESS"}, Availability.ARCHIVED, None),
        ({"StorageClass": "GLACIER", "Restore": 'ongoing-request="true"'}, Availability.RESTORING, None),
        ({"StorageClass": "GLACIER", "Restore": RESTORED}, Availability.READABLE, datetime(2029, 12, 21, tzinfo=UTC)),
    ],
    ids=str,
)
def test_the_headers_of_an_answer_say_what_can_be_read(
    head: dict[str, str], availability: Availability, day: datetime | None
) -> None:
    assert availability_of(head) == (availability, day)


def test_a_class_that_the_server_does_not_know_is_a_clean_error(storage: S3Storage) -> None:
    with pytest.raises(PermanentStorageError) as raised:
        storage.save(NAME, ContentFile(CONTENT), storage_class="NOWHERE")
    assert "NOWHERE" not in str(raised.value.detail)
    assert names_in(storage) == set()


class TestKeys:
    @pytest.fixture
    def storage(self, moto_server: ObjectServer, settings: Any) -> Any:
        settings.STORAGE_PART_BYTES = 5 * MIB
        return configure(settings, moto_server, encryption="aws:kms", kms_key_id=KEY)

    def test_objects_are_encrypted_with_the_key_that_is_configured(self, storage: S3Storage) -> None:
        assert storage.encryption_key == EncryptionReference("aws-kms", KEY)
        put(storage)
        assert storage.stat(NAME).encryption_key == KEY
        put(storage, OTHER, noise(6 * MIB))
        assert storage.stat(OTHER).encryption_key == KEY
        assert storage.copy(NAME, "audio/0b7f/copy.mp3").encryption_key == KEY

    def test_the_etag_of_what_is_encrypted_so_is_no_checksum(self, storage: S3Storage) -> None:
        put(storage)
        assert "md5" not in storage.stat(NAME).checksums

    def test_the_accounts_own_key_is_no_key_of_ours(self, moto_server: ObjectServer, settings: Any) -> None:
        storage = configure(settings, moto_server, encryption="aws:kms")
        assert storage.encryption_key is None
        put(storage)
        assert storage.stat(NAME).size == len(CONTENT)


def test_a_bucket_is_made_where_its_region_is(moto_server: ObjectServer, settings: Any) -> None:
    settings.STORAGES = {**settings.STORAGES, "s3": moto_server.entry("made-by-a-test")}
    storage = get_storage("s3")
    assert isinstance(storage, S3Storage)
    assert storage.bucket.create()
    assert not storage.bucket.create()
    assert storage.region == "eu-central-1"
    place = storage.requests.client.get_bucket_location(Bucket="made-by-a-test")
    assert place["LocationConstraint"] == "eu-central-1"
    put(storage)
    assert get(storage) == CONTENT
