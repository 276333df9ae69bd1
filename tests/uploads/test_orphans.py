"""Objects that no row needs: noted, kept for their grace period, then removed."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import storages

from objectstore.errors import CredentialsRefused, TransientStorageError
from quotas.models import Workspace
from tests.audio import make_jpeg, make_wav
from tests.quotas.threads import at_once
from tests.uploads.life import (
    ORPHAN,
    age_all,
    ago,
    assert_books_balance,
    complete,
    put_orphan,
    receiving,
    stored_names,
    sweep_after_grace,
)
from uploads.lifecycle.trash import delete_upload
from uploads.models import AudioUpload, Status, StoredObject
from uploads.objects.orphans import sweep_orphaned_objects

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("without_decoding")]

ID = ORPHAN.split("/")[1]


def test_an_orphan_goes_after_its_grace_period_and_not_before(audio_root: Path, db: None) -> None:
    """Promise 2. The period begins when the orphan is first seen, whatever the object's own age."""
    put_orphan(audio_root)
    assert sweep_orphaned_objects() == {"noted": 1, "removed": 0, "held": 0}
    StoredObject.objects.unneeded().update(unneeded_since=ago(hours=23, minutes=59))
    assert sweep_orphaned_objects() == {"noted": 0, "removed": 0, "held": 0}
    assert stored_names() == {ORPHAN}
    StoredObject.objects.unneeded().update(unneeded_since=ago(hours=24, minutes=1))
    assert sweep_orphaned_objects() == {"noted": 0, "removed": 1, "held": 0}
    assert stored_names() == set()
    assert not StoredObject.objects.unneeded().exists()


def test_a_storage_that_does_not_answer_holds_up_no_other(
    audio_root: Path, db: None, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_orphan(audio_root)
    settings.STORAGES = {
        "away": {**settings.STORAGES["local"], "OPTIONS": {"location": audio_root}},
        **settings.STORAGES,
    }
    monkeypatch.setattr(storages["away"], "list", lambda prefix: raise_(TransientStorageError()))
    assert sweep_orphaned_objects() == {"noted": 1, "removed": 0, "held": 0}


def test_an_orphan_that_its_storage_does_not_give_up_keeps_no_other(
    audio_root: Path, db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 16. A retention lock on it, say; it is tried again after another grace period."""
    names = [put_orphan(audio_root, f"audio/{ID[:-2]}{number:02}/audio.wav") for number in range(3)]
    sweep_orphaned_objects()
    StoredObject.objects.unneeded().update(unneeded_since=ago(days=2))
    delete = storages["local"].delete

    def locked(name: str, **seen: Any) -> None:
        if name == names[0]:
            raise CredentialsRefused
        delete(name, **seen)

    monkeypatch.setattr(storages["local"], "delete", locked)
    assert sweep_orphaned_objects() == {"noted": 0, "removed": 2, "held": 0}
    assert stored_names() == {names[0]}
    assert sweep_orphaned_objects() == {"noted": 0, "removed": 0, "held": 0}
    assert StoredObject.objects.get().unneeded_since > ago(hours=1)


def raise_(error: Exception) -> Any:
    raise error


def test_a_young_object_is_not_even_noted(audio_root: Path, db: None) -> None:
    """Promise 9. Its row may be about to be committed."""
    put_orphan(audio_root, age=timedelta(hours=23))
    assert sweep_orphaned_objects() == {"noted": 0, "removed": 0, "held": 0}


def test_what_rows_need_is_never_an_orphan(workspace: Workspace, audio_root: Path, settings: Any) -> None:
    """Promise 9. In whichever state: in the trash, failed, shared, on its way in."""
    uploads = [complete(workspace, make_wav(seed=seed), thumbnail=make_jpeg()) for seed in range(3)]
    complete(workspace, make_wav(seed=0), thumbnail=make_jpeg())
    settings.AUDIO_STORAGE_LAYOUT = "by-user-date"
    complete(workspace, make_wav(seed=3), thumbnail=make_jpeg())
    delete_upload(uploads[0], actor=None)
    AudioUpload.objects.filter(pk=uploads[1].pk).update(status=Status.FAILED)
    assert sweep_after_grace(audio_root)["removed"] == 1
    on_its_way = receiving(workspace, expired=False)
    put_orphan(audio_root, on_its_way.storage_path)
    before = stored_names()
    age_all(audio_root)
    assert sweep_orphaned_objects() == {"noted": 0, "removed": 0, "held": 0}
    StoredObject.objects.update(unneeded_since=ago(days=9))
    assert sweep_orphaned_objects() == {"noted": 0, "removed": 0, "held": 0}
    assert stored_names() == before
    assert not StoredObject.objects.unneeded().exists()


def test_the_picture_that_its_row_no_longer_names_is_an_orphan(workspace: Workspace, audio_root: Path) -> None:
    upload = complete(workspace)
    left_over = put_orphan(audio_root, f"audio/{upload.pk}/thumbnail.png")
    age_all(audio_root)
    sweep_orphaned_objects()
    StoredObject.objects.unneeded().update(unneeded_since=ago(days=2))
    assert sweep_orphaned_objects()["removed"] == 1
    assert stored_names() == {upload.storage_path} and left_over not in stored_names()


@pytest.mark.parametrize("name", ["audio/readme.txt", "other/audio.wav", f"audio/{ID}/notes.txt", "uploads/a/b.wav"])
def test_names_that_are_not_ours_are_left_alone(audio_root: Path, db: None, name: str) -> None:
    put_orphan(audio_root, name)
    assert sweep_orphaned_objects() == {"noted": 0, "removed": 0, "held": 0}
    assert (audio_root / name).exists()


def test_an_orphan_that_is_written_anew_begins_again(audio_root: Path, db: None) -> None:
    put_orphan(audio_root)
    sweep_orphaned_objects()
    StoredObject.objects.unneeded().update(unneeded_since=ago(days=2))
    put_orphan(audio_root, age=timedelta(0))
    assert sweep_orphaned_objects() == {"noted": 0, "removed": 0, "held": 0}
    assert stored_names() == {ORPHAN}


def test_after_an_older_database_is_restored_the_files_it_lacks_get_the_full_grace_period(
    workspace: Workspace, audio_root: Path
) -> None:
    """Promise 17. Objects of years ago look like orphans then; the newer rows may still be brought back."""
    older = complete(workspace, make_wav(seed=1))
    newer = complete(workspace, make_wav(seed=2))
    age_all(audio_root)
    kept = AudioUpload.objects.get(pk=newer.pk)
    AudioUpload.objects.filter(pk=newer.pk).delete()
    assert sweep_orphaned_objects() == {"noted": 1, "removed": 0, "held": 0}
    for _ in range(3):
        assert sweep_orphaned_objects() == {"noted": 0, "removed": 0, "held": 0}
    kept.save(force_insert=True)
    StoredObject.objects.unneeded().update(unneeded_since=ago(days=2))
    assert sweep_orphaned_objects() == {"noted": 0, "removed": 0, "held": 0}
    assert stored_names() == {older.storage_path, newer.storage_path}
    assert_books_balance(workspace)


def test_two_orphan_sweeps_at_once_remove_once(audio_root: Path, db: None, settings: Any) -> None:
    """Promise 33. Each orphan is noted once and removed once."""
    settings.RETENTION_MIN_COUNT = 30
    names = [put_orphan(audio_root, f"audio/{ID[:-2]}{number:02}/audio.wav") for number in range(30)]
    outcomes = at_once(*[sweep_orphaned_objects] * 4)
    assert all(isinstance(outcome, dict) for outcome in outcomes), outcomes
    assert StoredObject.objects.unneeded().count() == 30
    StoredObject.objects.unneeded().update(unneeded_since=ago(days=2))
    outcomes = at_once(*[sweep_orphaned_objects] * 4)
    assert sum(outcome["removed"] for outcome in outcomes) == len(names)
    assert stored_names() == set()
