"""Uploads over several requests, on each kind of storage."""

import hashlib
from itertools import pairwise
from typing import Any

import pytest

from objectstore.base import AudioStorage
from objectstore.names import SESSIONS
from quotas.models import Workspace
from tests.audio import make_wav
from tests.uploads.life import assert_books_balance, counted, stored_names
from tests.uploads.sessions import MEBIBYTE, BrokenOff, Sent, again, begin, editor_of, send
from uploads.intake.sessions.begin import declare_size
from uploads.intake.sessions.chunks import arrived_chunks, begin_chunks, store_chunk
from uploads.intake.sessions.complete import complete, end_session, offset_to_tell
from uploads.intake.sessions.concatenate import concatenate
from uploads.intake.sessions.errors import ChecksumMismatch
from uploads.intake.sessions.receive import receive
from uploads.models import AudioUpload, Status, UploadPart, UploadSession
from uploads.processing.runner import process_upload

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("without_decoding")]

#: Two whole parts and a rest.
DATA = make_wav(seconds=721)


@pytest.fixture(autouse=True)
def small_parts(settings: Any) -> None:
    settings.STORAGE_PART_BYTES = 5 * MEBIBYTE


def content_of(storage: AudioStorage, upload: AudioUpload) -> bytes:
    with storage.open_range(upload.storage_path) as file:
        return file.read()


def pieces_in(storage: AudioStorage) -> list[str]:
    """What lies in the storage of uploads that are not files yet."""
    if storage.directory is not None:
        return [path.name for path in storage.directory.rglob("*.session")]
    return [stat.name for stat in storage._list(SESSIONS)]  # type: ignore[attr-defined]


def assert_one_file(storage: AudioStorage, workspace: Workspace, data: bytes = DATA) -> AudioUpload:
    """It is stored whole, once, and nothing else is."""
    upload = AudioUpload.objects.get()
    assert upload.status == Status.UPLOADED and content_of(storage, upload) == data
    assert stored_names() == {upload.storage_path} and pieces_in(storage) == []
    assert not UploadPart.objects.exists()
    assert_books_balance(workspace)
    return upload


def test_an_upload_breaks_off_at_many_places_and_goes_on(any_storage: AudioStorage, workspace: Workspace) -> None:
    """Promise 18. What arrived before a broken connection is kept, and the offset that HEAD tells is accepted next."""
    session = begin(workspace, DATA, sha256=hashlib.sha256(DATA).hexdigest())
    offset = 0
    for end in (10, 3 * MEBIBYTE, 5 * MEBIBYTE, 5 * MEBIBYTE + 1, 10 * MEBIBYTE + 7):
        with pytest.raises(BrokenOff):
            receive(
                session,
                Sent(DATA[offset:end], error=BrokenOff()),
                offset=offset,
                length=len(DATA) - offset,
                actor=session.owner,
            )
        offset = offset_to_tell(session, actor=session.owner).received_bytes
        assert offset == end
    send(session, DATA[offset:], offset=offset)
    upload = assert_one_file(any_storage, workspace)
    process_upload(str(upload.pk))
    upload.refresh_from_db()
    assert upload.status == Status.COMPLETED, upload.error_message


class Silent(Sent):
    """Is silent for a while after each piece; ``seen`` are the offsets that count when it goes on."""

    def __init__(self, session: UploadSession, *pieces: bytes) -> None:
        super().__init__(*pieces)
        self.session = session
        self.seen: list[int] = []
        self.silences = 0

    def readinto(self, buffer: memoryview) -> int:
        self.seen.append(again(self.session).received_bytes)
        return super().readinto(buffer)

    def is_idle(self, seconds: float) -> bool:
        self.silences += 1
        return True


@pytest.mark.parametrize("checksum", [False, True])
def test_what_came_before_a_silence_is_saved(
    any_storage: AudioStorage, workspace: Workspace, *, checksum: bool
) -> None:
    """Promise 18. Nobody tells when a connection dies silently. A piece with a checksum still counts as a whole."""
    session = begin(workspace, DATA, sha256=hashlib.sha256(DATA).hexdigest())
    ends = [0, 10, 3 * MEBIBYTE, 5 * MEBIBYTE, 6 * MEBIBYTE, len(DATA)]
    body = Silent(session, *[DATA[start:end] for start, end in pairwise(ends)])
    given: dict[str, Any] = {"checksum": ("sha256", hashlib.sha256(DATA).digest())} if checksum else {}
    receive(session, body, offset=0, length=len(DATA), actor=session.owner, **given)
    if checksum:
        assert set(body.seen) == {0} and body.silences == 0
    else:
        assert set(ends[:-1]) <= set(body.seen)
    assert_one_file(any_storage, workspace)


def test_pieces_with_checksums_count_as_a_whole(any_storage: AudioStorage, workspace: Workspace) -> None:
    """Promise 20. A wrong checksum discards the piece."""
    session = begin(workspace, DATA)
    first, rest = DATA[: 6 * MEBIBYTE], DATA[6 * MEBIBYTE :]
    right = hashlib.sha256(first).digest()
    with pytest.raises(ChecksumMismatch):
        send(session, first[:-1] + b"?", checksum=("sha256", right))
    assert again(session).received_bytes == 0
    send(session, first, checksum=("sha256", right))
    send(session, rest, offset=len(first), checksum=("md5", hashlib.md5(rest, usedforsecurity=False).digest()))
    assert_one_file(any_storage, workspace)


def test_a_size_is_declared_after_the_last_byte(any_storage: AudioStorage, workspace: Workspace) -> None:
    data = DATA[: 6 * MEBIBYTE]
    session = begin(workspace, data, size_bytes=None)
    send(session, data)
    declare_size(session, len(data))
    complete(session, actor=session.owner)
    assert_one_file(any_storage, workspace, data)


def test_what_is_given_up_leaves_nothing(any_storage: AudioStorage, workspace: Workspace) -> None:
    """Promise 22. Expiry and DELETE release bytes and quota."""
    session = begin(workspace, DATA)
    send(session, DATA[: 6 * MEBIBYTE])
    end_session(session, "upload_terminated")
    assert stored_names() == set() and pieces_in(any_storage) == []
    assert counted(workspace) == (0, 0, 0, 0)
    assert (again(session).handle, again(session).tail) == ("", "")


def test_partial_uploads_become_one_file(any_storage: AudioStorage, workspace: Workspace) -> None:
    """Promise 24. Concatenation keeps order and sum; a finished upload never changes."""
    owner = editor_of(workspace)
    cuts = [0, 6 * MEBIBYTE, 6 * MEBIBYTE, 6 * MEBIBYTE + 1, len(DATA)]
    partials = []
    for start, end in pairwise(cuts):
        piece = DATA[start:end]
        partial = begin(workspace, piece, owner=owner, is_partial=True)
        partials.append(send(partial, piece) if piece else partial)
    assert counted(workspace) == (0, 0, len(DATA), 0)
    final, is_new = concatenate(partials, workspace=workspace, owner=owner, filename="tone.wav")
    assert is_new and final.state == UploadSession.State.COMPLETED
    upload = assert_one_file(any_storage, workspace)
    assert concatenate(partials, workspace=workspace, owner=owner, filename="tone.wav") == (final, False)
    assert AudioUpload.objects.get() == upload


def test_chunks_come_in_any_order(any_storage: AudioStorage, workspace: Workspace) -> None:
    session = begin_chunks(
        workspace=workspace, owner=editor_of(workspace), filename="tone.wav", size_bytes=len(DATA), chunk_size=1
    )
    size = session.part_bytes
    pieces = [DATA[start : start + size] for start in range(0, len(DATA), size)]
    assert session.total_parts == len(pieces)
    progress = None
    for place, index in enumerate((*range(1, len(pieces)), 0), start=1):
        piece = pieces[index]
        digest = ("sha256", hashlib.sha256(piece).digest())
        for _attempt in range(2):
            progress = store_chunk(
                session, index, Sent(piece), length=len(piece), digests=[digest], actor=session.owner
            )
            assert (progress.index, progress.completed, progress.total) == (index, place, len(pieces))
        if place == 1:
            assert arrived_chunks(session) == [index]
    assert progress is not None and progress.upload is not None
    assert assert_one_file(any_storage, workspace) == progress.upload
