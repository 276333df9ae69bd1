"""``check_storage`` as an operator runs it: what it finds, what it spares, what it says."""

import io
import json
import os
import signal
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from objectstore.errors import TransientStorageError
from objectstore.local import LocalStorage
from objectstore.retry import RetryPolicy
from quotas.models import Workspace
from tests.audio import make_png, make_wav
from tests.uploads.life import arrive, complete, new_workspace, row, sweep_after_grace, unneeded_object
from tests.uploads.sending import what_is_there
from uploads.lifecycle.trash import delete_upload, purge_upload
from uploads.lifecycle.work import take_upload
from uploads.models import AudioUpload, Status, StoredObject
from uploads.objects.marks import look_at_mark
from uploads.upkeep import inventory

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("without_decoding")]

OLD = 25 * 3600


def check_storage(**options: Any) -> dict[str, Any]:
    """The summary, with the exit ``code`` and the ``findings``."""
    out, code = io.StringIO(), 0
    try:
        call_command("check_storage", json=True, stdout=out, stderr=io.StringIO(), **options)
    except SystemExit as ended:
        code = int(str(ended.code))
    *findings, last = [json.loads(line) for line in out.getvalue().splitlines()]
    return {**last["summary"], "code": code, "findings": findings}


def kinds(checked: dict[str, Any]) -> list[str]:
    return sorted(finding["kind"] for finding in checked["findings"])


def age(path: Path, seconds: float = OLD) -> Path:
    then = time.time() - seconds
    os.utime(path, (then, then))
    return path


def orphan(root: Path, *, seconds: float = OLD) -> Path:
    """An object of ours that no row knows."""
    look_at_mark("local")
    path = root / "audio" / "0b7e1d0c-4f5d-4c53-9d0f-2f6f9a3b8c11" / "audio.wav"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"nobody's")
    return age(path, seconds)


def test_a_whole_vault_is_well(workspace: Workspace, audio_root: Path) -> None:
    """Promise 10. It says what it has looked at, and ends with 0."""
    complete(workspace, thumbnail=make_png())
    complete(workspace)
    delete_upload(complete(workspace, make_wav(seed=1)), actor=None)
    sweep_after_grace(audio_root)
    before = what_is_there(audio_root)
    for deep in (False, True):
        checked = check_storage(deep=deep)
        assert (checked["code"], checked["findings"]) == (0, [])
        assert (checked["files"], checked["objects"], checked["thumbnails"]) == (3, 3, 1)
        assert checked["bytes_read"] == (len(make_wav()) + len(make_wav(seed=1)) if deep else 0)
    assert what_is_there(audio_root) == before


def test_each_fault_has_a_name_of_its_own(workspace: Workspace, audio_root: Path) -> None:
    """Promise 10. Missing, wrong size, wrong hash, orphaned and a missing thumbnail are told apart."""
    missing, longer, shorter, other, bare, whole = (
        complete(workspace, make_wav(seed=number), thumbnail=make_png()) for number in range(6)
    )
    paths = {upload.pk: audio_root / upload.storage_path for upload in AudioUpload.objects.all()}
    paths[missing.pk].unlink()
    paths[longer.pk].write_bytes(paths[longer.pk].read_bytes() + b"\0")
    paths[shorter.pk].write_bytes(b"")
    data = paths[other.pk].read_bytes()
    paths[other.pk].write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    (audio_root / bare.thumbnail_path).unlink()
    lost = orphan(audio_root)

    shallow = check_storage()
    assert shallow["code"] == 1
    assert kinds(shallow) == ["missing", "missing_thumbnail", "orphaned", "wrong_size", "wrong_size"]
    deep = check_storage(deep=True)
    assert deep["code"] == 1
    found = {finding["upload"]: finding for finding in deep["findings"]}
    assert {upload: finding["kind"] for upload, finding in found.items()} == {
        str(missing.pk): "missing",
        str(longer.pk): "wrong_size",
        str(shorter.pk): "wrong_size",
        str(other.pk): "wrong_hash",
        str(bare.pk): "missing_thumbnail",
        None: "orphaned",
    }
    assert (found[str(shorter.pk)]["expected"], found[str(shorter.pk)]["found"]) == (shorter.file_size, 0)
    assert found[str(other.pk)]["expected"] == other.checksum_sha256
    assert found[None]["name"] == str(lost.relative_to(audio_root))
    assert found[str(bare.pk)]["name"] == bare.thumbnail_path
    assert deep["found"]["wrong_size"] == 2 and deep["repaired"] == 0
    verified = AudioUpload.objects.exclude(verified_at=None)
    assert set(verified) == {bare, whole}


def test_without_fix_nothing_is_changed(workspace: Workspace, audio_root: Path) -> None:
    (audio_root / complete(workspace).storage_path).unlink()
    orphan(audio_root)
    before = what_is_there(audio_root)
    assert check_storage()["code"] == check_storage(deep=True)["code"] == 1
    assert what_is_there(audio_root) == before
    assert not StoredObject.objects.unneeded().exists()


def test_what_is_on_its_way_is_spared(workspace: Workspace) -> None:
    """Promise 9. No object yet, one that a worker may replace, one that is being moved, one that goes."""
    for status in ("receiving", "validating", "processing", "archiving", "restoring", "purged"):
        row(workspace, Status(status))
    checked = check_storage(deep=True)
    assert (checked["code"], checked["findings"], checked["on_the_way"]) == (0, [], 5)


def test_objects_within_their_grace_are_spared(workspace: Workspace, audio_root: Path, settings: Any) -> None:
    """Promise 9. It may be one of a file that is just arriving."""
    path = orphan(audio_root, seconds=0)
    checked = check_storage(fix=True)
    assert (checked["code"], checked["findings"], checked["young_objects"]) == (0, [], 1)
    age(path, settings.ORPHAN_GRACE_HOURS * 3600 - 60)
    assert check_storage()["code"] == 0
    age(path, settings.ORPHAN_GRACE_HOURS * 3600 + 60)
    assert check_storage()["code"] == 1


def test_what_lies_beside_our_objects_is_not_ours_to_judge(workspace: Workspace, audio_root: Path) -> None:
    for name in ("audio/notes.txt", "elsewhere/audio.wav"):
        (audio_root / name).parent.mkdir(parents=True, exist_ok=True)
        age_me = audio_root / name
        age_me.write_bytes(b"mine")
        age(age_me)
    assert check_storage(fix=True)["findings"] == []
    assert (audio_root / "audio/notes.txt").exists()


def test_files_that_share_an_object_are_each_told_and_it_is_read_once(
    workspace: Workspace, audio_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = complete(workspace), complete(workspace)
    assert first.storage_path == second.storage_path
    opened: list[str] = []
    read = LocalStorage.open_range

    def watch(storage: LocalStorage, name: str, *args: Any) -> Any:
        if not name.startswith("vault/"):
            opened.append(name)
        return read(storage, name, *args)

    monkeypatch.setattr(LocalStorage, "open_range", watch)
    path = audio_root / first.storage_path
    path.write_bytes(b"\1" + path.read_bytes()[1:])
    checked = check_storage(deep=True)
    assert {finding["upload"] for finding in checked["findings"]} == {str(first.pk), str(second.pk)}
    assert kinds(checked) == ["wrong_hash", "wrong_hash"]
    assert opened == [first.storage_path]


def test_every_row_is_met_however_they_fall_into_batches(
    workspace: Workspace, audio_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 10. Rows that share an object are never torn apart, and none is met twice."""
    monkeypatch.setattr(inventory, "BATCH_SIZE", 3)
    shared = arrive(workspace)
    for _ in range(4):
        row(workspace, Status.COMPLETED, storage_path=shared.storage_path, file_size=shared.file_size)
    lost = {str(row(workspace, Status.COMPLETED).pk) for _ in range(10)}
    checked = check_storage(parallel=3)
    assert checked["files"] == 15
    assert sorted(finding["upload"] for finding in checked["findings"]) == sorted(lost)
    assert check_storage(parallel=1)["files"] == 15


def test_a_file_that_is_purged_meanwhile_is_no_finding(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 10. Its row had been read, and its object was gone when its turn came."""
    upload = complete(workspace)
    delete_upload(upload, actor=None)
    stat, left = inventory.stat_or_none, [upload]

    def purge_first(alias: str, name: str) -> Any:
        if left:
            purge_upload(left.pop(), actor=None)
        return stat(alias, name)

    monkeypatch.setattr(inventory, "stat_or_none", purge_first)
    checked = check_storage()
    assert (checked["code"], checked["files"], checked["findings"]) == (0, 1, [])


def test_a_file_that_a_worker_takes_meanwhile_is_no_finding(
    workspace: Workspace, audio_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 9."""
    upload = arrive(workspace)
    (audio_root / upload.storage_path).unlink()
    stat = inventory.stat_or_none

    def claim_first(alias: str, name: str) -> Any:
        take_upload(str(upload.pk))
        return stat(alias, name)

    monkeypatch.setattr(inventory, "stat_or_none", claim_first)
    assert check_storage()["findings"] == []


def test_one_workspace_can_be_looked_at_alone(workspace: Workspace, audio_root: Path) -> None:
    """Promise 38. Then nothing of the others is named, and no orphan, which belongs to nobody."""
    other = new_workspace()
    for upload in (complete(workspace), complete(other)):
        (audio_root / upload.storage_path).unlink()
    orphan(audio_root)
    checked = check_storage(workspace=workspace.slug)
    assert (checked["files"], checked["objects"], kinds(checked)) == (1, 0, ["missing"])
    assert checked["findings"][0]["workspace"] == str(workspace.pk)


def test_an_orphan_says_when_it_can_go(audio_root: Path, db: None) -> None:
    path = orphan(audio_root)
    assert (
        "has not begun" not in json.dumps(check_storage()) and "begins with" in check_storage()["findings"][0]["detail"]
    )
    unneeded_object(str(path.relative_to(audio_root)), unneeded_since=timezone.now() - timedelta(hours=1))
    assert "grace period ends on" in check_storage()["findings"][0]["detail"]


def test_a_disk_that_cannot_be_read_is_a_finding_of_its_own(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 14. It says nothing about the object, which is neither missing nor damaged."""
    complete(workspace)

    def broken(*args: Any) -> Any:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(inventory, "digest_object", broken)
    for fix in (False, True):
        checked = check_storage(deep=True, fix=fix)
        assert (checked["code"], kinds(checked), checked["repaired"]) == (1, ["unreadable"], 0)


def test_a_storage_that_is_not_configured_any_more_is_told(workspace: Workspace) -> None:
    row(workspace, Status.COMPLETED, storage_provider="elsewhere")
    checked = check_storage(fix=True)
    assert (checked["code"], kinds(checked)) == (1, ["unreadable"])
    assert "elsewhere" in checked["findings"][0]["detail"]


def test_a_storage_that_is_away_ends_the_check_in_words(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    """Promise 14. Nothing is called missing because the network is down."""
    complete(workspace)
    at_once = RetryPolicy(max_attempts=2, initial_delay=0.0, max_delay=0.0)
    monkeypatch.setattr("objectstore.retry.PRESETS", {settings.STORAGE_RETRY: at_once})

    def away(*args: Any) -> Any:
        raise TransientStorageError

    monkeypatch.setattr(LocalStorage, "stat", away)
    out = io.StringIO()
    with pytest.raises(CommandError, match="could not be finished") as raised:
        call_command("check_storage", stdout=out, stderr=io.StringIO())
    assert raised.value.returncode == 1 and out.getvalue() == ""


def test_ctrl_c_ends_the_check_after_what_is_in_hand(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says how far it came, and does not claim that all is well."""
    monkeypatch.setattr(inventory, "BATCH_SIZE", 1)
    for number in range(8):
        arrive(workspace, make_wav(seed=number))
    stat, handler = inventory.stat_or_none, signal.getsignal(signal.SIGINT)

    def interrupt(alias: str, name: str) -> Any:
        monkeypatch.setattr(inventory, "stat_or_none", stat)
        os.kill(os.getpid(), signal.SIGINT)
        return stat(alias, name)

    monkeypatch.setattr(inventory, "stat_or_none", interrupt)
    checked = check_storage(parallel=1)
    assert (checked["code"], checked["interrupted"], checked["findings"]) == (130, True, [])
    assert 0 < checked["files"] < 8
    assert signal.getsignal(signal.SIGINT) == handler


def test_a_person_reads_words(workspace: Workspace, audio_root: Path) -> None:
    out = io.StringIO()
    call_command("check_storage", stdout=out, stderr=io.StringIO())
    assert "All is well." in out.getvalue()
    upload = complete(workspace)
    (audio_root / upload.storage_path).unlink()
    out = io.StringIO()
    with pytest.raises(SystemExit):
        call_command("check_storage", stdout=out, stderr=io.StringIO())
    first, *rest = out.getvalue().splitlines()
    assert first.startswith(f"missing: {upload.storage_path} (storage local, file {upload.pk}")
    assert "missing: 1" in rest and "All is well." not in rest


@pytest.mark.parametrize("options", [{"workspace": "nowhere"}, {"parallel": 0}])
def test_wrong_usage_is_told(options: dict[str, Any], db: None) -> None:
    with pytest.raises(CommandError) as raised:
        call_command("check_storage", **options)
    assert raised.value.returncode == 2


def test_one_storage_can_be_looked_at_alone(
    workspace: Workspace, audio_root: Path, settings: Any, tmp_path: Path
) -> None:
    other = {"BACKEND": "objectstore.local.LocalStorage", "OPTIONS": {"location": tmp_path / "other"}}
    settings.STORAGES = {**settings.STORAGES, "other": other}
    orphan(audio_root)
    assert kinds(check_storage(storage="other")) == []
    assert kinds(check_storage(storage="local")) == ["orphaned"]
    with pytest.raises(CommandError, match="local"):
        check_storage(storage="nowhere")
