"""Several requests that write to one upload at the same time: real threads on PostgreSQL."""

import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.db.models.functions import Now

from quotas.models import Workspace
from tests.quotas.threads import at_once, kinds
from tests.uploads.life import assert_books_balance, counted
from tests.uploads.sending import files_under
from tests.uploads.sessions import Sent, again, begin, editor_of, recording, send
from uploads.intake.sessions.chunks import begin_chunks, store_chunk
from uploads.intake.sessions.complete import WAITS, complete, end_session, offset_to_tell
from uploads.intake.sessions.concatenate import concatenate
from uploads.intake.sessions.errors import OffsetMismatch, SessionEnded, SessionLocked
from uploads.intake.sessions.receive import receive
from uploads.intake.sessions.writing import begin_writing
from uploads.models import AudioUpload, Status, UploadSession
from uploads.upkeep.sweeps import sweep_stale_reservations

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("without_decoding")]

DATA = recording(300_000)


class Stalling(Sent):
    """Sends these pieces, and then nothing until ``go_on`` is set; then ``rest``."""

    def __init__(self, *pieces: bytes, rest: bytes = b"") -> None:
        super().__init__(*pieces)
        self.rest = rest
        self.stalls = threading.Event()
        self.go_on = threading.Event()

    def readinto(self, buffer: memoryview) -> int:
        if not self.pieces and self.rest:
            self.stalls.set()
            assert self.go_on.wait(timeout=30)
            self.pieces, self.rest = [memoryview(self.rest)], b""
        return super().readinto(buffer)


class InThread:
    """A call in a thread of its own; ``outcome`` is what it returned or raised."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self.outcome: Any = None
        self._call = call
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def ended(self) -> Any:
        self._thread.join(timeout=60)
        assert not self._thread.is_alive(), "the thread hangs"
        return self.outcome

    def _run(self) -> None:
        try:
            self.outcome = self._call()
        except Exception as error:
            self.outcome = error
        finally:
            connection.close()


def let_lease_end(session: UploadSession) -> None:
    """As if the writer's client had sent nothing for so long."""
    UploadSession.objects.filter(pk=session.pk).update(claimable_at=Now() - timedelta(seconds=1))


def content_of(audio_root: Path) -> bytes:
    return (audio_root / AudioUpload.objects.get().storage_path).read_bytes()


def stalled(session: UploadSession, *pieces: bytes, rest: bytes, offset: int = 0) -> tuple[Stalling, InThread]:
    body = Stalling(*pieces, rest=rest)
    length = sum(map(len, pieces)) + len(rest)
    request = InThread(lambda: receive(session, body, offset=offset, length=length, actor=session.owner))
    assert body.stalls.wait(timeout=30)
    return body, request


def test_two_requests_at_one_offset_store_the_bytes_once(workspace: Workspace, audio_root: Path) -> None:
    """Promise 19. Two PATCHes at one offset: the bytes are stored once."""
    session = begin(workspace, DATA)
    outcomes = at_once(*[lambda: send(session, DATA[:100_000])] * 2)
    assert kinds(outcomes)["UploadSession"] == 1, outcomes
    (refused,) = [outcome for outcome in outcomes if not isinstance(outcome, UploadSession)]
    assert isinstance(refused, SessionLocked | OffsetMismatch)
    assert again(session).received_bytes == 100_000
    send(session, DATA[100_000:], offset=100_000)
    assert content_of(audio_root) == DATA
    assert_books_balance(workspace)


def test_a_new_writer_takes_over_from_one_that_stalls(workspace: Workspace, audio_root: Path) -> None:
    """Promise 18. The offset that HEAD tells is accepted next: the stalled writer can no longer move it."""
    session = begin(workspace, DATA)
    body, late = stalled(session, DATA[:70_000], rest=b"x" * 100_000)
    let_lease_end(session)
    told = offset_to_tell(session, actor=session.owner).received_bytes
    assert told == 0
    send(session, DATA[:150_000], offset=told)
    body.go_on.set()
    assert isinstance(late.ended(), SessionLocked)
    send(session, DATA[150_000:], offset=150_000)
    assert content_of(audio_root) == DATA


def test_a_writer_that_wakes_up_does_not_move_an_offset_that_was_told(workspace: Workspace) -> None:
    """Promise 18. The offset that HEAD tells is accepted next."""
    session = begin(workspace, DATA)
    body, late = stalled(session, DATA[:70_000], rest=DATA[70_000:100_000])
    let_lease_end(session)
    told = offset_to_tell(session, actor=session.owner).received_bytes
    body.go_on.set()
    assert isinstance(late.ended(), SessionLocked)
    assert again(session).received_bytes == told == 0


def test_a_writer_that_wakes_up_takes_no_room_from_the_next_one(workspace: Workspace) -> None:
    """Promise 22. It lowers the reservation of a deferred length only while nobody else writes."""
    session = begin(workspace, DATA, size_bytes=None)
    late_body, late = stalled(session, DATA[:1000], rest=DATA[1000:])
    let_lease_end(session)
    next_body, request = stalled(session, DATA[:2000], rest=DATA[2000:])
    late_body.go_on.set()
    assert isinstance(late.ended(), SessionLocked)
    assert counted(workspace) == (0, 0, len(DATA), 1)
    next_body.go_on.set()
    assert request.ended().received_bytes == len(DATA)


def test_a_late_writer_changes_nothing_of_a_finished_file(workspace: Workspace, audio_root: Path) -> None:
    """Promise 24: a finished upload never changes."""
    session = begin(workspace, DATA)
    body, late = stalled(session, DATA[:70_000], rest=b"x" * (len(DATA) - 70_000))
    let_lease_end(session)
    send(session, DATA)
    body.go_on.set()
    assert isinstance(late.ended(), SessionLocked | SessionEnded)
    assert content_of(audio_root) == DATA
    assert_books_balance(workspace)


def test_a_late_writer_brings_nothing_back_of_an_upload_that_was_given_up(
    workspace: Workspace, audio_root: Path
) -> None:
    """Promise 22. Expiry and DELETE release bytes and quota, also while a client sends."""
    session = begin(workspace, DATA)
    body, late = stalled(session, DATA[:70_000], rest=DATA[70_000:])
    end_session(session, "upload_terminated")
    body.go_on.set()
    assert isinstance(late.ended(), SessionEnded)
    assert counted(workspace) == (0, 0, 0, 0) and not files_under(audio_root)


def test_a_writer_that_is_alive_is_not_overtaken(workspace: Workspace) -> None:
    """Promise 18. No offset is told while somebody writes."""
    session = begin(workspace, DATA)
    writer = begin_writing(session, 0)
    done = threading.Event()

    def beat() -> None:
        while not done.wait(0.1):
            writer.extend()

    beats = InThread(beat)
    try:
        for call in (
            lambda: offset_to_tell(session, actor=session.owner),
            lambda: send(session, DATA),
        ):
            with pytest.raises(SessionLocked):
                call()
    finally:
        done.set()
        beats.ended()


def test_few_requests_wait_at_a_time(workspace: Workspace) -> None:
    session = begin(workspace, DATA)
    begin_writing(session, 0)
    taken = 0
    while WAITS.acquire(blocking=False):
        taken += 1
    try:
        with pytest.raises(SessionLocked):
            offset_to_tell(session, actor=session.owner)
    finally:
        for _ in range(taken):
            WAITS.release()


def test_completing_at_once_gives_one_file(workspace: Workspace, audio_root: Path) -> None:
    """Promise 13. A completion that is asked again gives one object."""
    session = begin(workspace, DATA)
    send(session, DATA[:-1])
    UploadSession.objects.filter(pk=session.pk).update(received_bytes=len(DATA))
    (partial,) = audio_root.rglob("*.session")
    partial.write_bytes(DATA)
    outcomes = at_once(*[lambda: complete(session, actor=session.owner)] * 3, sweep_stale_reservations)
    assert {type(outcome).__name__ for outcome in outcomes} <= {"AudioUpload", "SessionLocked", "dict"}
    assert complete(session, actor=session.owner).status == Status.UPLOADED
    assert content_of(audio_root) == DATA
    assert_books_balance(workspace)


def test_an_upload_that_is_completed_cannot_be_given_up(workspace: Workspace, audio_root: Path) -> None:
    """Whoever is first decides, and what is left is one file, or nothing."""
    session = begin(workspace, DATA)
    send(session, DATA[:-1])
    outcomes = at_once(
        lambda: send(session, DATA[-1:], offset=len(DATA) - 1),
        lambda: end_session(session, "upload_terminated"),
    )
    found = again(session)
    if found.state == UploadSession.State.COMPLETED:
        assert content_of(audio_root) == DATA, outcomes
    else:
        assert found.state == UploadSession.State.ENDED and not files_under(audio_root), outcomes
        assert not AudioUpload.objects.exists()
    assert_books_balance(workspace)


def test_chunks_in_parallel_and_the_last_two_at_once(workspace: Workspace, audio_root: Path) -> None:
    """Promise 27. The offset of numbered chunks is their sum, exactly."""
    session = begin_chunks(
        workspace=workspace, owner=editor_of(workspace), filename="tone.wav", size_bytes=len(DATA), chunk_size=50_000
    )
    assert session.total_parts == 6

    def put(index: int) -> Callable[[], Any]:
        data = DATA[index * 50_000 : (index + 1) * 50_000]
        return lambda: store_chunk(session, index, Sent(data), length=len(data), actor=session.owner)

    outcomes = at_once(*[put(index) for index in (0, 1, 2, 3, 0, 1)])
    assert set(kinds(outcomes)) <= {"ChunkProgress", "ChunkBusy"}, outcomes
    for index in range(4):
        put(index)()
    assert again(session).received_bytes == 200_000
    outcomes = at_once(put(4), put(5))
    assert kinds(outcomes) == {"ChunkProgress": 2}, outcomes
    upload = put(5)().upload
    assert upload is not None and upload == AudioUpload.objects.get()
    assert content_of(audio_root) == DATA
    assert_books_balance(workspace)


def test_joining_at_once_gives_one_file(workspace: Workspace, audio_root: Path) -> None:
    """Promise 24. Concatenation keeps order and sum."""
    owner = editor_of(workspace)
    halves = DATA[:100_000], DATA[100_000:]
    partials = [send(begin(workspace, half, owner=owner, is_partial=True), half) for half in halves]
    outcomes = at_once(
        *[lambda: concatenate(partials, workspace=workspace, owner=owner, filename="tone.wav")] * 3,
    )
    assert set(kinds(outcomes)) <= {"tuple", "SessionLocked"}, outcomes
    final, _is_new = concatenate(partials, workspace=workspace, owner=owner, filename="tone.wav")
    assert final.file == AudioUpload.objects.get()
    assert content_of(audio_root) == DATA
    assert_books_balance(workspace)
