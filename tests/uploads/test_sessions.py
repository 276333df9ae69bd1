"""Uploads over several requests on a disk: begun, continued, completed, given up."""

import hashlib
from pathlib import Path

import pytest
from django.db import connection

from audiotricks.errors import Invalid, NotFound, PermissionDenied
from media.formats import ContentMismatch
from quotas.errors import FileTooLarge, QuotaExceeded
from quotas.models import Membership, QuotaReservation, StorageQuota, Workspace
from quotas.reservations import change_quota
from tests.uploads.life import actual, assert_books_balance, counted
from tests.uploads.sending import files_under
from tests.uploads.sessions import BrokenOff, Sent, again, begin, recording, send, send_all
from uploads.intake.ingest import DigestMismatch, EmptyFile
from uploads.intake.sessions.begin import announce_sha256, declare_size
from uploads.intake.sessions.chunks import begin_chunks, store_chunk
from uploads.intake.sessions.complete import complete, end_session, offset_to_tell
from uploads.intake.sessions.errors import (
    ChecksumMismatch,
    OffsetMismatch,
    SessionEnded,
    SizeAlreadyDeclared,
    UploadFinished,
    UploadTooLong,
)
from uploads.intake.sessions.find import session_for
from uploads.intake.sessions.receive import receive
from uploads.models import AudioUpload, Status, UploadEvent, UploadSession

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("without_decoding")]

DATA = recording(200_000)


def content_of(upload: AudioUpload, audio_root: Path) -> bytes:
    return (audio_root / upload.storage_path).read_bytes()


def nothing_is_left(workspace: Workspace, audio_root: Path) -> bool:
    rows = AudioUpload.objects.exists() or QuotaReservation.objects.exists()
    return not rows and counted(workspace) == (0, 0, 0, 0) and not files_under(audio_root)


def test_a_file_comes_in_several_requests_and_is_written_once(workspace: Workspace, audio_root: Path) -> None:
    session = begin(workspace, DATA)
    assert counted(workspace) == (0, 0, len(DATA), 1)
    (inode,) = [path.stat().st_ino for path in audio_root.rglob("*.session")]
    session = send_all(session, DATA, [1, 70_000, 150_000])
    upload = AudioUpload.objects.get()
    assert (session.state, upload.status) == (UploadSession.State.COMPLETED, Status.UPLOADED)
    assert content_of(upload, audio_root) == DATA
    assert (audio_root / upload.storage_path).stat().st_ino == inode
    assert UploadEvent.objects.get(upload_id=upload.pk).details["door"] == "tus"
    assert_books_balance(workspace)
    assert offset_to_tell(session, actor=session.owner).received_bytes == len(DATA)
    assert complete(session, actor=session.owner) == upload


def test_what_arrived_before_a_connection_broke_is_kept(workspace: Workspace, audio_root: Path) -> None:
    """Promise 18. The offset never decreases, and the offset that HEAD tells is accepted next."""
    session = begin(workspace, DATA)
    with pytest.raises(BrokenOff):
        receive(
            session,
            Sent(DATA[:100], DATA[100:3000], error=BrokenOff()),
            offset=0,
            length=len(DATA),
            actor=session.owner,
        )
    told = offset_to_tell(session, actor=session.owner)
    assert told.received_bytes == 3000
    with pytest.raises(OffsetMismatch) as refused:
        send(session, DATA[2999:], offset=2999)
    assert refused.value.members == {"offset": 3000}
    assert again(session).received_bytes == 3000
    send(session, DATA[3000:], offset=told.received_bytes)
    assert content_of(AudioUpload.objects.get(), audio_root) == DATA


@pytest.mark.parametrize("checksum", [None, ("sha256", bytes(32))])
@pytest.mark.parametrize("is_partial", [False, True])
def test_a_broken_request_of_a_deferred_length_reserves_only_what_came(
    workspace: Workspace, *, is_partial: bool, checksum: tuple[str, bytes] | None
) -> None:
    """Promise 22. Quota is reserved for what may still come, and not for a request that is over."""
    session = begin(workspace, DATA, size_bytes=None, is_partial=is_partial)
    send(session, DATA[:1000])
    with pytest.raises(BrokenOff):
        receive(
            session,
            Sent(DATA[1000:3000], error=BrokenOff()),
            offset=1000,
            length=len(DATA),
            actor=session.owner,
            checksum=checksum,
        )
    arrived = again(session).received_bytes
    assert arrived == (3000 if checksum is None else 1000)
    assert counted(workspace) == (0, 0, arrived, 0 if is_partial else 1)
    assert_books_balance(workspace)
    send(session, DATA[arrived:], offset=arrived)
    declare_size(session, len(DATA))
    if not is_partial:
        complete(session, actor=session.owner)
        assert counted(workspace) == (len(DATA), 1, 0, 0)


def test_a_broken_request_of_a_declared_length_keeps_its_reservation(workspace: Workspace) -> None:
    session = begin(workspace, DATA)
    with pytest.raises(BrokenOff):
        receive(session, Sent(DATA[:3000], error=BrokenOff()), offset=0, length=len(DATA) - 10, actor=session.owner)
    assert counted(workspace) == (0, 0, len(DATA), 1)


def test_a_piece_with_a_wrong_checksum_is_discarded(workspace: Workspace, audio_root: Path) -> None:
    """Promise 20. A wrong checksum discards the piece; so does a connection that breaks off in it (promise 18)."""
    session = begin(workspace, DATA)
    right = hashlib.sha1(DATA[:90_000], usedforsecurity=False).digest()
    with pytest.raises(ChecksumMismatch):
        send(session, DATA[:90_001], checksum=("sha1", right))
    with pytest.raises(BrokenOff):
        receive(
            session,
            Sent(DATA[:90_000], error=BrokenOff()),
            offset=0,
            length=90_001,
            actor=session.owner,
            checksum=("sha1", right),
        )
    assert again(session).received_bytes == 0
    send(session, DATA[:90_000], checksum=("sha1", right))
    rest = hashlib.md5(DATA[90_000:], usedforsecurity=False).digest()
    send(session, DATA[90_000:], offset=90_000, checksum=("md5", rest))
    assert content_of(AudioUpload.objects.get(), audio_root) == DATA


def test_bytes_beyond_the_declared_length_are_never_stored(workspace: Workspace, audio_root: Path) -> None:
    """Promise 21. Not a byte of such a body is read."""
    session = begin(workspace, DATA)
    send(session, DATA[:1000])
    body = Sent(DATA)
    with pytest.raises(UploadTooLong) as refused:
        receive(session, body, offset=1000, length=len(DATA), actor=session.owner)
    assert refused.value.members == {"expected": len(DATA), "received": len(DATA) + 1000}
    assert len(body.pieces[0]) == len(DATA) and again(session).received_bytes == 1000
    send(session, DATA[1000:], offset=1000)
    with pytest.raises(UploadTooLong):
        send(session, b"x", offset=len(DATA))
    assert send(session, b"", offset=len(DATA)).state == UploadSession.State.COMPLETED
    assert content_of(AudioUpload.objects.get(), audio_root) == DATA


def test_giving_up_releases_bytes_and_quota(workspace: Workspace, audio_root: Path) -> None:
    """Promise 22. Expiry and DELETE release bytes and quota; the client is told why."""
    session = begin(workspace, DATA)
    send(session, DATA[:1000])
    end_session(session, "upload_terminated")
    assert nothing_is_left(workspace, audio_root)
    for call in (
        lambda: offset_to_tell(session, actor=session.owner),
        lambda: send(session, DATA[1000:], offset=1000),
        lambda: end_session(session, "upload_terminated"),
        lambda: session_for(session.owner, UploadSession.Kind.TUS, session.pk),
        lambda: declare_size(session, 5),
    ):
        with pytest.raises(SessionEnded) as ended:
            call()
        assert ended.value.members == {"reason": "upload_terminated"}


def test_a_file_that_arrived_is_not_given_up(workspace: Workspace, audio_root: Path) -> None:
    """Promise 24: a finished upload never changes."""
    session = send(begin(workspace, DATA), DATA)
    with pytest.raises(UploadFinished) as refused:
        end_session(session, "upload_terminated")
    upload = AudioUpload.objects.get()
    assert refused.value.members == {"upload": str(upload.pk)}
    assert content_of(upload, audio_root) == DATA


def test_the_size_can_be_declared_later(workspace: Workspace, audio_root: Path) -> None:
    session = begin(workspace, DATA, size_bytes=None)
    assert counted(workspace) == (0, 0, 0, 1)
    send(session, DATA[:1000])
    assert counted(workspace) == (0, 0, 1000, 1)
    with pytest.raises(UploadTooLong):
        declare_size(session, 999)
    declare_size(session, len(DATA))
    declare_size(session, len(DATA))
    with pytest.raises(SizeAlreadyDeclared):
        declare_size(session, len(DATA) + 1)
    assert counted(workspace) == (0, 0, len(DATA), 1) == actual(workspace)
    found = again(session)
    assert found.expires_at == found.file.reservation.expires_at
    assert found.file.file_size == len(DATA)
    send(session, DATA[1000:], offset=1000)
    assert content_of(AudioUpload.objects.get(), audio_root) == DATA
    assert_books_balance(workspace)


def test_bytes_without_a_declared_size_stay_inside_the_quota(workspace: Workspace, audio_root: Path) -> None:
    """Promise 46. A missing or understated Content-Length is still limited."""
    change_quota(workspace, changes={"max_storage_bytes": 5000})
    session = begin(workspace, DATA, size_bytes=None)
    send(session, DATA[:4000])
    body = Sent(DATA)
    with pytest.raises(QuotaExceeded):
        receive(session, body, offset=4000, length=1001, actor=session.owner)
    assert len(body.pieces[0]) == len(DATA)
    with pytest.raises(QuotaExceeded):
        declare_size(session, 5001)
    assert again(session).received_bytes == 4000
    change_quota(workspace, changes={"max_storage_bytes": None, "max_file_size": 4500})
    with pytest.raises(FileTooLarge):
        declare_size(session, 4501)
    assert counted(workspace) == (0, 0, 4000, 1)


@pytest.mark.parametrize("changes", [{"max_storage_bytes": 1000}, {"max_file_size": 1000}])
def test_the_quota_is_asked_again_at_the_end(workspace: Workspace, audio_root: Path, changes: dict[str, int]) -> None:
    """Promise 23. Permission and quota are checked again at the end."""
    session = begin(workspace, DATA)
    send(session, DATA[:-1])
    change_quota(workspace, changes=changes)
    with pytest.raises((QuotaExceeded, FileTooLarge)) as refused:
        send(session, DATA[-1:], offset=len(DATA) - 1)
    assert again(session).error_code == refused.value.code
    assert nothing_is_left(workspace, audio_root)


def test_the_role_is_asked_again_at_the_end(workspace: Workspace, audio_root: Path) -> None:
    """Promise 23. Permission and quota are checked again at the end."""
    session = begin(workspace, DATA)
    send(session, DATA[:-1])
    Membership.objects.filter(user=session.owner).update(role=Membership.Role.VIEWER)
    with pytest.raises(PermissionDenied):
        session_for(session.owner, UploadSession.Kind.TUS, session.pk)
    with pytest.raises(PermissionDenied):
        send(session, DATA[-1:], offset=len(DATA) - 1)
    assert again(session).error_code == "permission_denied"
    assert nothing_is_left(workspace, audio_root)


def test_a_file_of_another_kind_is_refused_after_its_first_bytes(workspace: Workspace, audio_root: Path) -> None:
    session = begin(workspace, DATA)
    body = Sent(bytes(70_000), DATA)
    with pytest.raises(ContentMismatch):
        receive(session, body, offset=0, length=len(DATA), actor=session.owner)
    assert len(body.pieces[0]) == len(DATA)
    assert again(session).error_code == "content_mismatch"
    assert nothing_is_left(workspace, audio_root)


@pytest.mark.parametrize("pieces", [[], [100_000]])
def test_the_whole_files_checksum_is_compared_before_it_is_a_file(
    workspace: Workspace, audio_root: Path, pieces: list[int]
) -> None:
    wrong = hashlib.sha256(b"").hexdigest()
    session = begin(workspace, DATA, sha256=wrong)
    with pytest.raises(DigestMismatch):
        send_all(session, DATA, pieces)
    assert again(session).error_code == "digest_mismatch"
    assert nothing_is_left(workspace, audio_root)


@pytest.mark.parametrize("pieces", [[], [100_000]])
def test_a_checksum_that_is_told_while_bytes_come_is_compared(
    workspace: Workspace, audio_root: Path, pieces: list[int]
) -> None:
    right = hashlib.sha256(DATA).hexdigest()
    session = begin(workspace, DATA)
    announce_sha256(session, right)
    announce_sha256(session, right)
    with pytest.raises(Invalid):
        announce_sha256(session, hashlib.sha256(b"").hexdigest())
    send_all(session, DATA, pieces)
    upload = AudioUpload.objects.get()
    assert (upload.checksum_sha256, upload.checksum_md5) == (right, "")


def test_an_empty_file_leaves_a_session_that_is_over(workspace: Workspace, audio_root: Path) -> None:
    with pytest.raises(EmptyFile) as refused:
        begin(workspace, b"")
    session = UploadSession.objects.get()
    assert refused.value.members == {"session": str(session.pk)}
    with pytest.raises(SessionEnded):
        session_for(session.owner, UploadSession.Kind.TUS, session.pk)
    undeclared = begin(workspace, DATA, size_bytes=None)
    with pytest.raises(EmptyFile):
        declare_size(undeclared, 0)
    assert again(undeclared).error_code == "empty_file"
    assert nothing_is_left(workspace, audio_root)


def test_a_session_is_its_owners_alone(workspace: Workspace) -> None:
    session = begin(workspace, DATA)
    other = begin(workspace, DATA).owner
    with pytest.raises(NotFound):
        session_for(other, UploadSession.Kind.TUS, session.pk)
    with pytest.raises(NotFound):
        session_for(session.owner, UploadSession.Kind.CHUNKS, session.pk)
    assert session_for(session.owner, UploadSession.Kind.TUS, session.pk) == session


def test_nothing_stays_of_a_session_that_could_not_begin(workspace: Workspace, audio_root: Path) -> None:
    def fail(session: UploadSession) -> None:
        raise BrokenOff

    for given in ({}, {"is_partial": True}):
        with pytest.raises(BrokenOff):
            begin(workspace, DATA, on_begun=fail, **given)
    StorageQuota.objects.update(max_storage_bytes=10)
    for given in ({}, {"is_partial": True}):
        with pytest.raises(QuotaExceeded):
            begin(workspace, DATA, **given)
    assert not UploadSession.objects.exists()
    assert nothing_is_left(workspace, audio_root)


class WithoutConnection(Sent):
    """A body that is read while the thread holds no connection to the database."""

    def readinto(self, buffer: memoryview) -> int:
        assert connection.connection is None
        return super().readinto(buffer)


def test_no_connection_is_held_while_a_client_sends(workspace: Workspace) -> None:
    """Promise 26. Slow clients do not stop the others."""
    session = begin(workspace, DATA, part_bytes=80_000)
    body = WithoutConnection(*[DATA[start : start + 50_000] for start in range(0, len(DATA), 50_000)])
    receive(session, body, offset=0, length=len(DATA), actor=session.owner)
    chunked = begin_chunks(workspace=workspace, owner=session.owner, filename="tone.wav", size_bytes=len(DATA))
    store_chunk(chunked, 0, WithoutConnection(DATA), length=len(DATA), actor=session.owner)
    assert AudioUpload.objects.count() == 2
