"""What ``/health`` and the first page of the administration say when audio lies in a bucket."""

from typing import Any

import pytest
from django.test import Client

from objectstore.base import AudioStorage
from objectstore.errors import StorageError, StorageFull, TransientStorageError
from objectstore.retry import RetryPolicy, current_policy
from tests.factories import UserFactory
from tests.object_servers import ObjectServer
from tests.object_servers.fixtures import configure
from uploads.upkeep import health

pytestmark = pytest.mark.django_db


@pytest.fixture
def bucket(s3_server: ObjectServer, settings: Any) -> AudioStorage:
    storage = configure(settings, s3_server)
    settings.AUDIO_STORAGE = "s3"
    return storage


def test_a_bucket_that_answers_is_well(bucket: AudioStorage) -> None:
    assert health.check_storage() == {"storage": "s3"}


@pytest.mark.parametrize("wrong", [{"bucket_name": "not-there"}, {"secret_key": "another"}])
def test_a_bucket_that_is_not_there_or_not_ours_is_not(
    s3_server: ObjectServer, settings: Any, wrong: dict[str, str]
) -> None:
    configure(settings, s3_server, **wrong)
    settings.AUDIO_STORAGE = "s3"
    with pytest.raises(StorageError):
        health.check_storage()


def test_a_storage_that_stumbles_is_asked_once(
    bucket: AudioStorage, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asks for the health of it has no time for second tries."""
    patient = RetryPolicy(max_attempts=5, initial_delay=0.0, max_delay=0.0)
    monkeypatch.setattr("objectstore.retry.PRESETS", {settings.STORAGE_RETRY: patient})
    policies: list[RetryPolicy] = []

    def stumble(*args: Any) -> None:
        policies.append(current_policy())
        raise TransientStorageError

    monkeypatch.setattr(type(bucket), "stat", stumble)
    with pytest.raises(TransientStorageError):
        health.check_storage()
    assert [policy.max_attempts for policy in policies] == [1]


def test_the_disk_is_then_that_of_the_working_copies(bucket: AudioStorage, settings: Any) -> None:
    told = health.check_disk()
    assert (told["holds"], told["low"], told["free_bytes"] > 0) == ("working_copies", False, True)
    settings.DISK_WARNING_BYTES = 10**18
    assert health.check_disk()["low"] is True
    settings.DISK_RESERVE_BYTES = 10**18
    with pytest.raises(StorageFull):
        health.check_disk()


@pytest.mark.parametrize(
    ("alias", "title"), [("local", "Free disk space"), ("s3", "Free disk space for working copies")]
)
def test_the_administration_says_what_the_disk_is_for(
    bucket: AudioStorage, settings: Any, alias: str, title: str
) -> None:
    settings.AUDIO_STORAGE = alias
    client = Client()
    client.force_login(UserFactory(is_staff=True, is_superuser=True))
    titles = [figure.title for figure in client.get("/admin/").context["figures"]]
    assert [each for each in titles if "disk" in each] == [title]
