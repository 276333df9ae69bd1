"""Uploads over several requests whose web process is killed: the client goes on at the offset that it is told."""

import signal
from datetime import timedelta
from pathlib import Path

import pytest
from django.db.models.functions import Now

from quotas.models import Workspace
from tests.forked import Prepared
from tests.uploads import dying_sessions
from tests.uploads.dying_sessions import MOMENTS
from tests.uploads.life import assert_books_balance
from tests.uploads.sending import files_under
from tests.uploads.sessions import Sent, again, begin, editor_of, recording, send
from uploads.intake.sessions.chunks import begin_chunks, store_chunk
from uploads.intake.sessions.complete import offset_to_tell
from uploads.intake.sessions.concatenate import concatenate
from uploads.models import AudioUpload, UploadPart, UploadSession
from uploads.upkeep.sweeps import sweep_stale_reservations

pytestmark = pytest.mark.django_db(transaction=True)

DATA = recording(300_000)
HALF = 150_000
KILLED = [moment for moment in MOMENTS if moment != "never"]


def let_leases_end() -> None:
    UploadSession.objects.update(claimable_at=Now() - timedelta(seconds=1))
    UploadPart.objects.update(claimable_at=Now() - timedelta(seconds=1))


def assert_one_whole_file(workspace: Workspace, audio_root: Path) -> None:
    upload = AudioUpload.objects.get()
    assert files_under(audio_root) == [upload.storage_path]
    assert (audio_root / upload.storage_path).read_bytes() == DATA
    assert_books_balance(workspace)


@pytest.mark.parametrize("moment", KILLED)
def test_a_client_goes_on_after_its_process_was_killed(
    moment: str, workspace: Workspace, audio_root: Path, prepared: Prepared
) -> None:
    """Promise 18. The offset never decreases, and the offset that HEAD tells is accepted next."""
    session = begin(workspace, DATA, part_bytes=100_000)
    send(session, DATA[:HALF])
    done = prepared.run(dying_sessions.send, moment, str(session.pk), DATA[HALF:], HALF)
    assert done.returncode == -signal.SIGKILL, done.stderr
    let_leases_end()
    told = offset_to_tell(session, actor=session.owner).received_bytes
    assert told >= HALF
    if told < len(DATA):
        send(session, DATA[told:], offset=told)
    assert_one_whole_file(workspace, audio_root)


@pytest.mark.parametrize("moment", ["before the object", "object published", "file made"])
def test_a_client_that_does_not_come_back_gets_its_file(
    moment: str, workspace: Workspace, audio_root: Path, prepared: Prepared
) -> None:
    """Promise 13. A completion whose answer was lost gives one object."""
    session = begin(workspace, DATA)
    prepared.run(dying_sessions.send, moment, str(session.pk), DATA, 0)
    let_leases_end()
    sweep_stale_reservations()
    assert again(session).state == UploadSession.State.COMPLETED
    assert_one_whole_file(workspace, audio_root)


@pytest.mark.parametrize("moment", ["written, not counted", "before the object", "object published"])
def test_a_chunk_is_sent_again_after_its_process_was_killed(
    moment: str, workspace: Workspace, audio_root: Path, prepared: Prepared
) -> None:
    session = begin_chunks(
        workspace=workspace, owner=editor_of(workspace), filename="tone.wav", size_bytes=len(DATA), chunk_size=HALF
    )
    owner = session.owner
    store_chunk(session, 1, Sent(DATA[HALF:]), length=HALF, actor=owner)
    done = prepared.run(dying_sessions.put_chunk, moment, str(session.pk), 0, DATA[:HALF])
    assert done.returncode == -signal.SIGKILL, done.stderr
    let_leases_end()
    progress = store_chunk(session, 0, Sent(DATA[:HALF]), length=HALF, actor=owner)
    assert (progress.completed, progress.upload) == (2, AudioUpload.objects.get())
    assert_one_whole_file(workspace, audio_root)


@pytest.mark.parametrize("moment", ["before the object", "object published", "file made"])
def test_a_joining_goes_on_after_its_process_was_killed(
    moment: str, workspace: Workspace, audio_root: Path, prepared: Prepared
) -> None:
    """Promise 24. Concatenation keeps order and sum."""
    owner = editor_of(workspace)
    halves = DATA[:HALF], DATA[HALF:]
    partials = [send(begin(workspace, half, owner=owner, is_partial=True), half) for half in halves]
    done = prepared.run(dying_sessions.join, moment, *[str(partial.pk) for partial in partials])
    assert done.returncode == -signal.SIGKILL, done.stderr
    let_leases_end()
    final, is_new = concatenate(partials, workspace=workspace, owner=owner, filename="tone.wav")
    assert not is_new and final.state == UploadSession.State.COMPLETED
    upload = AudioUpload.objects.get()
    assert (audio_root / upload.storage_path).read_bytes() == DATA
    assert_books_balance(workspace)
