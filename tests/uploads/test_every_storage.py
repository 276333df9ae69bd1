"""What the vault does with files, whole stories, on each kind of storage: nothing else changes with the setting."""

import hashlib
import io
import json
import signal
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from django.core.files.base import ContentFile
from django.core.management import call_command
from django.db.models import F
from django.db.models.functions import Now

from objectstore import default_alias
from objectstore.base import AudioStorage
from objectstore.errors import ObjectExists, StorageFull, TransientStorageError
from quotas.models import QuotaReservation, Workspace
from quotas.workspaces import personal_workspace
from tests.audio import make_flac, make_jpeg, make_mp3, make_png, make_wav
from tests.clocks import go_ahead
from tests.factories import MembershipFactory, UserFactory, client_for, member_of
from tests.forked import Prepared
from tests.quotas.threads import at_once
from tests.servers import free_port
from tests.uploads import dying
from tests.uploads.life import (
    actions,
    arrive,
    assert_books_balance,
    complete,
    counted,
    stored_names,
    unneeded_names,
    use_broker,
)
from tests.uploads.listening import hear
from tests.uploads.sending import file_part, post_form, post_raw
from uploads.intake.files import store_audio_file
from uploads.lifecycle.trash import delete_upload, purge_upload
from uploads.models import AudioUpload, Status, StoredObject
from uploads.objects.marks import ensure_ours
from uploads.objects.orphans import sweep_orphaned_objects
from uploads.processing.runner import process_upload
from uploads.upkeep.sweeps import sweep_stale_reservations, sweep_stale_work

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("any_storage")]

MP3 = make_mp3(seconds=3)
ORPHAN = "audio/6f1d7a4e-2f53-4a55-9f0a-0d8f3f3f7d11/audio.wav"


def read(storage: AudioStorage, name: str) -> bytes:
    with storage.open_range(name) as file:
        return file.read()


def check_storage(**options: Any) -> dict[str, Any]:
    """The summary, with the exit ``code`` and the findings' kinds."""
    out, code = io.StringIO(), 0
    try:
        call_command("check_storage", json=True, stdout=out, stderr=io.StringIO(), **options)
    except SystemExit as ended:
        code = int(str(ended.code))
    *findings, last = [json.loads(line) for line in out.getvalue().splitlines()]
    return {**last["summary"], "code": code, "kinds": sorted(finding["kind"] for finding in findings)}


def test_an_upload_is_what_was_sent_and_is_stored_once(any_storage: AudioStorage, workspace: Workspace) -> None:
    """Promise 1, Promise 12, Promise 36. By form and raw, while the broker is away; nothing is ever written over."""
    client = client_for(member_of(workspace))
    use_broker(f"redis://127.0.0.1:{free_port()}/0")
    path = f"/api/v1/uploads/?workspace={workspace.slug}"
    digest = hashlib.sha256(MP3).hexdigest()
    sent = post_raw(client, MP3, "Größe 1.mp3", path=path)
    form = post_form(client, file_part(make_flac(), "two.flac"), path=path)
    assert (sent.status_code, form.status_code) == (201, 201)
    told = sent.json()
    assert (told["status"], told["file_size"], told["checksum_sha256"]) == ("uploaded", len(MP3), digest)
    assert told["checksum_md5"] == hashlib.md5(MP3).hexdigest()
    upload = AudioUpload.objects.get(pk=told["id"])
    stat = any_storage.stat(upload.storage_path)
    assert (stat.size, read(any_storage, upload.storage_path)) == (len(MP3), MP3)
    assert upload.storage_class == stat.storage_class
    assert upload.storage_url == any_storage.location_of(upload.storage_path)
    with pytest.raises(ObjectExists):
        any_storage.save(upload.storage_path, ContentFile(b"other"))

    wrong = {"Repr-Digest": "sha-256=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:"}
    assert post_raw(client, MP3, path=path, **wrong).status_code == 422
    assert post_raw(client, b"<html>" * 1000, path=path).status_code == 415
    assert_books_balance(workspace)

    use_broker("memory://")
    AudioUpload.objects.update(claimable_at=F("claimable_at") - timedelta(seconds=61))
    assert sweep_stale_work()["sent_again"] == 2
    for upload in AudioUpload.objects.all():
        process_upload(str(upload.pk))
    assert set(AudioUpload.objects.values_list("status", flat=True)) == {"completed"}
    assert {upload.checksum_sha256 for upload in AudioUpload.objects.all()} >= {digest}
    assert_books_balance(workspace)


def test_what_is_heard_is_the_file_by_an_address_of_its_own(
    any_storage: AudioStorage, workspace: Workspace, settings: Any
) -> None:
    """Promise 42, Promise 51. Name, type and ranges are those of the file wherever the bytes come from."""
    client = client_for(member_of(workspace, "viewer"))
    upload = complete(workspace, MP3, filename="Größe.mp3")
    other = complete(workspace, make_mp3(seed=2), filename="other.mp3")
    path = f"/api/v1/uploads/{upload.pk}/content/"
    etag = f'"{upload.checksum_sha256}"'

    whole = hear(client, path)
    assert (whole.status, whole.body) == (200, MP3)
    assert whole.headers["Content-Type"] == "audio/mpeg"
    assert whole.headers["Content-Disposition"] == "inline; filename*=utf-8''Gr%C3%B6%C3%9Fe.mp3"
    assert hear(client, f"{path}?download").headers["Content-Disposition"].startswith("attachment; filename*=")
    for asked, start, end in (("0-0", 0, 1), ("100-", 100, len(MP3)), ("-7", len(MP3) - 7, len(MP3))):
        part = hear(client, path, Range=f"bytes={asked}")
        assert (part.status, part.body) == (206, MP3[start:end])
        assert part.headers["Content-Range"] == f"bytes {start}-{end - 1}/{len(MP3)}"
    assert hear(client, path, Range=f"bytes={len(MP3)}-").status == 416
    # What only we know how to compare
    assert hear(client, path, If_None_Match=etag).status == 304
    assert hear(client, path, If_Match='"other"').status == 412
    part = hear(client, path, If_Match=etag, If_Range=etag, Range="bytes=1-2")
    assert (part.status, part.body) == (206, MP3[1:3])
    head = client.head(path)
    assert (head.status_code, head["Content-Length"], head["ETag"]) == (200, str(len(MP3)), etag)

    if whole.address:
        assert any_storage.signer
        answers = [
            requests.request(verb, address, timeout=30).status_code
            for verb, address in (
                ("PUT", whole.address),
                ("DELETE", whole.address),
                ("GET", whole.address.replace(str(upload.pk), str(other.pk))),
                ("GET", whole.address.partition("?")[0]),
            )
        ]
        assert all(400 <= status < 500 for status in answers), answers
        assert read(any_storage, upload.storage_path) == MP3

    AudioUpload.objects.filter(pk=upload.pk).update(mime_type="text/html")
    strange = hear(client, path)
    assert strange.headers["Content-Type"] == "application/octet-stream"
    assert strange.headers["Content-Disposition"].startswith("attachment")
    assert strange.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"

    settings.DOWNLOAD_REDIRECTS = False
    ours = hear(client, path, Range="bytes=10-19")
    assert (ours.status, ours.body, ours.address) == (206, MP3[10:20], "")


def test_a_picture_comes_goes_and_stays_beside_its_file(any_storage: AudioStorage, workspace: Workspace) -> None:
    """Promise 42. It is served by us, whatever lies where."""
    client = client_for(member_of(workspace))
    upload = complete(workspace, make_mp3(artwork=make_jpeg()), filename="one.mp3")
    path = f"/api/v1/uploads/{upload.pk}/thumbnail/"
    assert upload.thumbnail_path in stored_names()
    shown = hear(client, path)
    assert (shown.status, shown.headers["Content-Type"], shown.address) == (200, "image/jpeg", "")
    assert client.put(path, make_png(), content_type="image/png").status_code == 200
    assert hear(client, path).headers["Content-Type"] == "image/png"
    assert_books_balance(workspace)
    assert client.delete(path).status_code == 204
    assert hear(client, path).status == 404
    assert_books_balance(workspace)


@pytest.mark.race
@pytest.mark.usefixtures("without_decoding")
def test_twenty_of_the_same_share_one_object_until_the_last_is_gone(
    any_storage: AudioStorage, workspace: Workspace
) -> None:
    """Promise 8, Promise 11."""
    owner = UserFactory()

    def send() -> AudioUpload:
        upload = arrive(workspace, owner=owner)
        process_upload(str(upload.pk))
        return upload

    outcomes = at_once(*[send] * 20)
    assert all(isinstance(outcome, AudioUpload) for outcome in outcomes), outcomes
    rows = list(AudioUpload.objects.order_by("pk"))
    assert {row.status for row in rows} == {"completed"}
    (name,) = stored_names() - unneeded_names(any_storage.provider)
    assert {row.storage_path for row in rows} == {name}
    assert_books_balance(workspace)

    for row in rows[:-1]:
        delete_upload(row, actor=None)
        purge_upload(row, actor=None)
    assert read(any_storage, name) == make_wav()
    last = AudioUpload.objects.get()
    delete_upload(last, actor=None)
    at_once(lambda: purge_upload(last, actor=None), send)
    # Whichever was first, the newcomer has its bytes.
    (newcomer,) = AudioUpload.objects.all()
    assert newcomer.status == "completed"
    assert read(any_storage, newcomer.storage_path) == make_wav()
    assert_books_balance(workspace)


def test_the_trash_gives_back_and_a_purge_that_is_cut_off_ends_later(
    any_storage: AudioStorage, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 7. The bytes are a 404 at once, and what a crash leaves is a tombstone that a sweep finishes."""
    client = client_for(member_of(workspace))
    upload = complete(workspace, thumbnail=make_png())
    path = f"/api/v1/uploads/{upload.pk}/"
    assert client.delete(path).status_code == 204
    assert (hear(client, f"{path}content/").status, hear(client, f"{path}thumbnail/").status) == (404, 404)
    assert counted(workspace)[:2] == (0, 0)
    assert client.post(f"{path}undelete/").status_code == 200
    assert hear(client, f"{path}content/").body == make_wav()
    assert_books_balance(workspace)

    assert client.delete(path).status_code == 204
    with monkeypatch.context() as patched:

        def away(self: AudioStorage, name: str) -> None:
            raise TransientStorageError

        patched.setattr(type(any_storage), "delete", away)
        assert client.delete(f"{path}?permanently=true").status_code == 204
    assert hear(client, f"{path}content/").status == 404
    assert AudioUpload.objects.get().status == Status.PURGED
    assert len(stored_names()) == 2
    go_ahead(monkeypatch, minutes=2)
    assert sweep_stale_work()["purges_finished"] == 1
    assert not AudioUpload.objects.exists() and not stored_names()


@pytest.mark.parametrize("moment", ["half of the bytes written", "object stored"])
def test_a_kill_in_an_upload_leaves_what_goes_after_its_time(
    moment: str,
    any_storage: AudioStorage,
    audio_root: Path,
    monkeypatch: pytest.MonkeyPatch,
    prepared: Prepared,
) -> None:
    """Promise 2, Promise 9, Promise 16."""
    workspace = personal_workspace(UserFactory())
    done = prepared.run(dying.main, moment)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, ""), done.stderr
    row = AudioUpload.objects.get()
    names = {row.storage_path} if moment == "object stored" else set()
    assert (row.status, row.storage_provider, stored_names()) == (Status.RECEIVING, any_storage.provider, names)

    QuotaReservation.objects.update(expires_at=Now() - timedelta(seconds=1))
    assert sweep_stale_reservations()["abandoned"] == 1
    assert counted(workspace) == (0, 0, 0, 0)
    assert sweep_orphaned_objects() == {"noted": 0, "removed": 0, "held": 0}
    assert (AudioUpload.objects.count(), stored_names()) == (0, names)

    go_ahead(monkeypatch, hours=23)
    sweep_orphaned_objects()
    assert stored_names() == names
    go_ahead(monkeypatch, hours=1)
    sweep_orphaned_objects()
    sweep_stale_reservations()
    assert stored_names() == set()
    if any_storage.provider == "local":
        assert [path for path in audio_root.rglob("*") if path.is_file() and path.parent.name != "vault"] == []


@pytest.mark.usefixtures("without_decoding")
def test_the_check_tells_what_is_wrong_and_repairs_what_it_can(
    any_storage: AudioStorage, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 10."""
    files = [complete(workspace, make_wav(seed=seed)) for seed in range(4)]
    with_picture = complete(workspace, make_wav(seed=9), thumbnail=make_png())
    assert (check_storage(deep=True)["code"], check_storage()["kinds"]) == (0, [])
    lost, short, altered, saved = files
    for upload, content in ((short, b"short"), (altered, b"\1" * altered.file_size)):
        any_storage.delete(upload.storage_path)
        any_storage.save(upload.storage_path, ContentFile(content))
    any_storage.delete(lost.storage_path)
    any_storage.delete(with_picture.thumbnail_path)
    any_storage.save(ORPHAN, ContentFile(b"nobody's"))

    assert check_storage()["kinds"] == ["missing", "missing_thumbnail", "wrong_size"]
    go_ahead(monkeypatch, hours=24)
    told = ["missing", "missing_thumbnail", "orphaned", "wrong_hash", "wrong_size"]
    assert (check_storage(deep=True)["kinds"], len(stored_names())) == (told, 5)

    # A twin from before the damage
    twin = complete(workspace, make_wav(seed=0))
    fixed = check_storage(deep=True, fix=True)
    assert (fixed["code"], fixed["kinds"]) == (1, told)
    for upload in (lost, twin, saved, with_picture):
        upload.refresh_from_db()
    assert (lost.storage_path, with_picture.thumbnail_path) == (twin.storage_path, "")
    assert actions(lost)[-1] == "object_replaced" and actions(short)[-1] == "found_damaged"
    assert saved.verified_at is not None
    StoredObject.objects.unneeded().update(unneeded_since=F("unneeded_since") - timedelta(hours=1))
    check_storage(fix=True)
    assert ORPHAN not in stored_names()


def test_files_of_this_machine_come_in_by_command_and_by_call(
    any_storage: AudioStorage, workspace: Workspace, shelf: Path
) -> None:
    """Promise 1. What is asked of the bucket afterwards is what lay in the folder."""
    owner = UserFactory(username="olga")
    MembershipFactory(workspace=workspace, user=owner)
    (shelf / "one.wav").write_bytes(make_wav(seed=1))
    (shelf / "two.mp3").write_bytes(MP3)
    out = io.StringIO()
    call_command("import_audio", str(shelf), workspace=workspace.slug, json=True, stdout=out, stderr=io.StringIO())
    *lines, summary = [json.loads(line) for line in out.getvalue().splitlines()]
    assert len(lines) == 2, summary
    contents = {read(any_storage, upload.storage_path) for upload in AudioUpload.objects.all()}
    assert contents == {make_wav(seed=1), MP3}

    (shelf / "cover.png").write_bytes(make_png())
    stored = store_audio_file(
        shelf / "two.mp3", workspace=workspace, owner=owner, thumbnail=shelf / "cover.png", cleanup=True
    )
    assert stored.storage_provider == any_storage.provider
    assert read(any_storage, stored.audio_path) == MP3
    assert {stored.audio_path, stored.thumbnail_path} <= stored_names()
    assert stored.cleaned_up and not (shelf / "two.mp3").exists()
    assert_books_balance(workspace)


def test_without_room_there_is_a_clear_answer_and_nothing_stays(
    any_storage: AudioStorage, workspace: Workspace, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 5. In the storage while a file arrives, and for the working copy while it is looked into."""
    client = client_for(member_of(workspace))
    path = f"/api/v1/uploads/?workspace={workspace.slug}"
    ensure_ours(default_alias())
    real = type(any_storage).save

    def full(self: AudioStorage, name: str, content: Any, *args: Any, **options: Any) -> str:
        next(iter(content.chunks()))
        raise StorageFull

    with monkeypatch.context() as patched:
        patched.setattr(type(any_storage), "save", full)
        refused = post_raw(client, MP3, path=path)
    assert (refused.status_code, refused.json()["code"]) == (507, "storage_full")
    assert type(any_storage).save is real
    assert_books_balance(workspace)
    assert counted(workspace) == (0, 0, 0, 0) and not stored_names()

    upload = AudioUpload.objects.get(pk=post_raw(client, MP3, path=path).json()["id"])
    reserve, settings.DISK_RESERVE_BYTES = settings.DISK_RESERVE_BYTES, 10**18
    process_upload(str(upload.pk))
    upload.refresh_from_db()
    if any_storage.directory is None:
        assert (upload.status, upload.error_code) == ("uploaded", "storage_unavailable")
        settings.DISK_RESERVE_BYTES = reserve
        AudioUpload.objects.update(claimable_at=Now())
        process_upload(str(upload.pk))
        upload.refresh_from_db()
    assert upload.status == "completed"
    assert list(Path(settings.TEMP_AUDIO_DIR).glob("*")) == []
