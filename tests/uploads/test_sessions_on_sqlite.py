"""Uploads over several requests on the embedded database, in a process that is configured for it."""

from pathlib import Path

from tests.prepared import ran_on_sqlite

PROGRAM = """
import threading
from datetime import timedelta
import django
django.setup()
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
from django.db.models.functions import Now
from quotas.models import QuotaReservation, StorageQuota
from quotas.workspaces import personal_workspace
from tests.uploads.sessions import Sent, again, begin, recording, send
from uploads.intake.sessions.chunks import begin_chunks, store_chunk
from uploads.intake.sessions.complete import end_session, offset_to_tell
from uploads.intake.sessions.concatenate import concatenate
from uploads.intake.sessions.errors import OffsetMismatch, SessionLocked
from uploads.models import AudioUpload, UploadSession
from uploads.upkeep.sweeps import sweep_stale_reservations
from objectstore import get_storage

assert connection.vendor == "sqlite"
call_command("migrate", verbosity=0)
owner = User.objects.create(username="owner")
workspace = personal_workspace(owner)
DATA = recording(300_000)


def content(upload):
    with get_storage("local").open_range(upload.storage_path) as file:
        return file.read()


def at_once(*calls):
    outcomes = []
    def run(call):
        try:
            outcomes.append(call())
        except Exception as error:
            outcomes.append(error)
        finally:
            connection.close()
    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    return outcomes


session = begin(workspace, DATA, owner=owner)
outcomes = at_once(*[lambda: send(session, DATA[:100_000])] * 3)
assert sum(isinstance(outcome, UploadSession) for outcome in outcomes) == 1, outcomes
assert all(isinstance(o, UploadSession | OffsetMismatch | SessionLocked) for o in outcomes), outcomes
assert offset_to_tell(session, actor=owner).received_bytes == 100_000
send(session, DATA[100_000:], offset=100_000)
assert content(AudioUpload.objects.get()) == DATA

chunked = begin_chunks(workspace=workspace, owner=owner, filename="a.wav", size_bytes=len(DATA), chunk_size=50_000)
def put(index):
    piece = DATA[index * 50_000 : (index + 1) * 50_000]
    return lambda: store_chunk(chunked, index, Sent(piece), length=len(piece), actor=owner)
outcomes = at_once(*map(put, range(6)))
assert not any(isinstance(outcome, Exception) for outcome in outcomes), outcomes
assert content(again(chunked).upload) == DATA

halves = [DATA[:150_000], DATA[150_000:]]
partials = [send(begin(workspace, half, owner=owner, is_partial=True), half) for half in halves]
final, is_new = concatenate(partials, workspace=workspace, owner=owner, filename="b.wav")
assert is_new and content(final.upload) == DATA

given_up = send(begin(workspace, DATA, owner=owner), DATA[:10])
end_session(given_up, "upload_terminated")
for partial in (True, False):
    begin(workspace, DATA, owner=owner, is_partial=partial)
UploadSession.objects.update(expires_at=Now() - timedelta(hours=1))
QuotaReservation.objects.update(expires_at=Now() - timedelta(hours=1))
counts = sweep_stale_reservations()
assert (counts["abandoned"], counts["partials_ended"]) == (1, 1), counts
quota = StorageQuota.objects.get()
assert (quota.reserved_bytes, quota.reserved_files, quota.current_file_count) == (0, 0, 3)
assert not QuotaReservation.objects.exists()
print("done")
"""


def test_sessions_hold_on_sqlite_too(tmp_path: Path) -> None:
    """Promise 19. Two PATCHes at one offset: the bytes are stored once. Promises 22 and 24 as on PostgreSQL."""
    ran_on_sqlite(PROGRAM, tmp_path)
