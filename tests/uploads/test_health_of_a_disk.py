"""What ``/health`` says of a disk that does not take files, and that it leaves nothing there."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db.models import F
from django.test import Client

from audiotricks.plug import HealthCheck
from objectstore import get_storage
from objectstore.errors import PermanentStorageError, StorageError
from quotas.models import Workspace
from tests.uploads.life import ago, arrive, stored_names
from uploads.models import StorageCondition

pytestmark = pytest.mark.django_db(transaction=True)


def storage_check() -> tuple[int, dict[str, Any]]:
    answer = Client().get("/health")
    return answer.status_code, answer.json()["checks"]["storage"]


@pytest.fixture(autouse=True)
def only_the_storage(declare: Callable[..., None]) -> None:
    declare(health_checks={"storage": HealthCheck("uploads.upkeep.health.check_storage")})


def failing(monkeypatch: pytest.MonkeyPatch, function: str, error: int = errno.EIO) -> None:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, function, fail)


def test_a_disk_that_takes_files_is_well_and_nothing_stays_on_it(audio_root: Path) -> None:
    for _ in range(2):
        assert storage_check() == (200, {"ok": True, "storage": "local"})
    assert list(audio_root.iterdir()) == []


@pytest.mark.parametrize("function", ["fsync", "open", "write"])
def test_a_disk_that_fails_is_told_before_anybody_uploads_and_again_when_it_works(
    audio_root: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    audio_root.mkdir()
    with monkeypatch.context() as patch:
        failing(patch, function, errno.EROFS if function == "open" else errno.EIO)
        status, check = storage_check()
        assert (status, check["ok"]) == (503, False)
        assert str(audio_root) not in str(check)
    assert storage_check()[0] == 200
    assert list(audio_root.iterdir()) == []


def test_a_probe_that_could_not_be_removed_is_shown_nowhere_and_swept(
    audio_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = get_storage("local")
    with monkeypatch.context() as patch:
        failing(patch, "unlink")
        for _ in range(3):
            with pytest.raises(StorageError):
                storage.probe()
    assert len(list(audio_root.iterdir())) == 1
    assert stored_names() == set()
    assert storage.remove_partials(ago(days=-1)) == 1
    assert list(audio_root.iterdir()) == []


def test_bytes_that_come_back_otherwise_are_found_out(audio_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "pread", lambda descriptor, count, offset: bytes(64))
    with pytest.raises(PermanentStorageError):
        get_storage("local").probe()


def test_uploads_that_cannot_be_stored_are_told_until_one_works_again(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also to the other processes: it stands in the database."""
    real: Callable[..., Any] = os.link
    for number in (1, 2):
        with monkeypatch.context() as patch:
            failing(patch, "link")
            with pytest.raises(StorageError):
                arrive(workspace)
        status, check = storage_check()
        assert (status, check["detail"]) == (503, f"The last uploads could not be stored: {number} in a row.")
    assert os.link is real
    arrive(workspace)
    assert storage_check()[0] == 200


def test_a_failure_that_nobody_has_repeated_for_five_minutes_says_nothing_any_more(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        failing(patch, "link")
        with pytest.raises(StorageError):
            arrive(workspace)
    StorageCondition.objects.update(write_failed_at=ago(minutes=5, seconds=1), failed_writes=F("failed_writes"))
    assert storage_check()[0] == 200


def test_what_a_client_sent_wrong_is_not_the_storages_fault(workspace: Workspace) -> None:
    with pytest.raises(Exception, match="content"):
        arrive(workspace, b"not a WAV" * 100)
    assert storage_check()[0] == 200
