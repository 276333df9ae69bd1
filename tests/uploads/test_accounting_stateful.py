"""Any sequence of what can happen to files, with a storage that fails on the way, leaves books that balance."""

import shutil
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from audiotricks.errors import DomainError
from media.inspection import EncodedImage
from objectstore import get_storage
from objectstore.base import ObjectStat
from objectstore.errors import PermanentStorageError, StorageFull, TransientStorageError
from objectstore.local import LocalStorage
from quotas.models import Membership, QuotaReservation, StorageQuota, Workspace
from tests.audio import make_wav
from tests.factories import MembershipFactory, UserFactory
from tests.uploads.life import Bytes, assert_books_balance, new_workspace, validating_only
from tests.uploads.sessions import Sent
from uploads.actions.holds import set_legal_hold
from uploads.intake import ingest
from uploads.intake.sessions.begin import begin_session
from uploads.intake.sessions.complete import end_session
from uploads.intake.sessions.concatenate import concatenate
from uploads.intake.sessions.receive import receive
from uploads.intake.thumbnails import remove_thumbnail, save_thumbnail
from uploads.lifecycle.trash import delete_upload, purge_upload, undelete_upload
from uploads.lifecycle.work import retry_upload, take_upload
from uploads.models import AudioUpload, Status, StorageMark, StoredObject, UploadEvent, UploadSession
from uploads.objects.marks import look_at_mark
from uploads.objects.orphans import sweep_orphaned_objects
from uploads.processing.runner import process_upload
from uploads.upkeep.sweeps import (
    expire_uploads,
    purge_trash,
    sweep_stale_reservations,
    sweep_stale_work,
)
from uploads.upkeep.usage import recalculate

FAULTS = {"transient": TransientStorageError, "permanent": PermanentStorageError, "full": StorageFull}
#: What becomes of the next calls of the storage: nothing, or a fault before or after the call did its work.
planned: list[tuple[str, str] | None] = []

plans = st.lists(
    st.none() | st.tuples(st.sampled_from(sorted(FAULTS)), st.sampled_from(["before", "after"])), max_size=3
)
picks = st.integers(0, 1000)
COUNTED = (Status.UPLOADED, Status.COMPLETED, Status.FAILED)
PICTURE = EncodedImage(data=b"picture", extension="jpg", mime_type="image/jpeg", width=1, height=1)


class FaultyStorage(LocalStorage):
    """The local storage, with the faults that are planned."""

    def save(self, name: str, *args: Any, **kwargs: Any) -> str:  # type: ignore[override]
        return faulty(super().save, name, *args, **kwargs)

    def delete(self, name: str, *, seen: ObjectStat | None = None) -> None:
        faulty(super().delete, name, seen=seen)

    def stat(self, name: str) -> Any:
        return faulty(super().stat, name)

    def open_range(self, name: str, start: int = 0, length: int | None = None) -> Any:
        return faulty(super().open_range, name, start, length)


def faulty(call: Any, *args: Any, **kwargs: Any) -> Any:
    plan = planned.pop(0) if planned else None
    if plan is None:
        return call(*args, **kwargs)
    kind, moment = plan
    if moment == "after":
        result = call(*args, **kwargs)
        if hasattr(result, "close"):
            result.close()
    raise FAULTS[kind]


class Killed(BaseException):
    """The process ended here."""


class Vault(RuleBasedStateMachine):
    """Two workspaces, one of them narrow, and two recordings that go in again and again."""

    def __init__(self) -> None:
        super().__init__()
        planned.clear()
        self.owner = UserFactory()
        self.workspaces: list[Workspace] = []
        self.arrived: dict[Any, int] = {}

    @initialize()
    def open_workspaces_with_two_of_the_same_each(self) -> None:
        look_at_mark("local")
        size = len(make_wav())
        self.workspaces = [
            new_workspace(max_storage_bytes=4 * size, max_file_count=5, retention_days=10, auto_cleanup=True),
            new_workspace(retention_days=10, auto_cleanup=True),
        ]
        for workspace in self.workspaces:
            MembershipFactory(workspace=workspace, user=self.owner, role=Membership.Role.EDITOR)
        self.arrived = dict.fromkeys([workspace.pk for workspace in self.workspaces], 0)
        for pick in (0, 1, 0, 1):
            self.upload(pick, seed=0, given=False, processed=True, plan=[])

    def teardown(self) -> None:
        try:
            if self.workspaces:
                self.whatever_faults_left_is_taken_by_the_sweeps()
        finally:
            planned.clear()
            for model in (
                UploadEvent, UploadSession, AudioUpload, QuotaReservation, StoredObject, StorageMark, StorageQuota,
            ):  # fmt: skip
                model.objects.all().delete()
            shutil.rmtree(storage().root, ignore_errors=True)

    def picked(self, pick: int, *statuses: Status) -> AudioUpload:
        """One of those in these states, as long as there is one; so that most verbs are not refused."""
        rows = AudioUpload.objects.exclude(status__in=(Status.RECEIVING, Status.PURGED)).order_by("created_at")
        likely = rows.filter(status__in=statuses)
        rows = likely if pick % 8 and likely.exists() else rows
        return rows[pick % rows.count()]

    def has_files(self) -> bool:
        return AudioUpload.objects.exclude(status__in=(Status.RECEIVING, Status.PURGED)).exists()

    # What users do

    def an_open_session(self, pick: int) -> UploadSession | None:
        sessions = UploadSession.objects.open().order_by("created_at")
        return sessions[pick % sessions.count()] if sessions.exists() else None

    @rule(pick=picks, partial=st.booleans(), declared=st.booleans())
    def begin_a_session(self, pick: int, partial: bool, declared: bool) -> None:
        size = len(make_wav()) if declared else None
        with suppress(DomainError):
            begin_session(
                UploadSession.Kind.TUS,
                workspace=self.workspaces[pick % 2],
                owner=self.owner,
                filename="" if partial else "tone.wav",
                size_bytes=size,
                is_partial=partial,
            )

    @rule(pick=picks, share=st.integers(1, 4), plan=plans)
    def send_to_a_session(self, pick: int, share: int, plan: list[Any]) -> None:
        session = self.an_open_session(pick)
        data = make_wav()
        if session is None:
            return
        rest = data[session.received_bytes :]
        piece = rest[: max(1, len(rest) // share)]
        planned[:] = plan
        with suppress(DomainError):
            receive(session, Sent(piece), offset=session.received_bytes, length=len(piece), actor=self.owner)
        planned.clear()

    @rule(pick=picks)
    def give_up_a_session(self, pick: int) -> None:
        session = self.an_open_session(pick)
        if session is not None:
            with suppress(DomainError):
                end_session(session, "upload_terminated")

    @rule(pick=picks, count=st.integers(1, 3), plan=plans)
    def join_sessions(self, pick: int, count: int, plan: list[Any]) -> None:
        partials = list(
            UploadSession.objects.open().filter(is_partial=True, workspace=self.workspaces[pick % 2])[:count]
        )
        planned[:] = plan
        with suppress(DomainError):
            concatenate(partials, workspace=self.workspaces[pick % 2], owner=self.owner, filename="tone.wav")
        planned.clear()

    @rule(pick=picks, seed=st.integers(0, 1), given=st.booleans(), processed=st.booleans(), plan=plans)
    def upload(self, pick: int, seed: int, given: bool, processed: bool, plan: list[Any]) -> None:
        workspace = self.workspaces[pick % 2]
        source = Bytes(make_wav(seed=seed), thumbnail=b"picture" if given else None)
        planned[:] = plan
        try:
            upload = ingest.ingest_audio(source, workspace=workspace, owner=self.owner, door="test")
        except DomainError:
            return
        finally:
            planned.clear()
        self.arrived[workspace.pk] += 1
        if processed:
            process_upload(str(upload.pk))

    @precondition(has_files)
    @rule(pick=picks, plan=plans)
    def delete(self, pick: int, plan: list[Any]) -> None:
        self.act(delete_upload, self.picked(pick, *COUNTED), plan, held_is_refused=True)

    @precondition(has_files)
    @rule(pick=picks)
    def undelete(self, pick: int) -> None:
        self.act(undelete_upload, self.picked(pick, Status.DELETED), [])

    @precondition(has_files)
    @rule(pick=picks, plan=plans)
    def purge(self, pick: int, plan: list[Any]) -> None:
        self.act(purge_upload, self.picked(pick, Status.DELETED), plan, held_is_refused=True)

    @precondition(has_files)
    @rule(pick=picks)
    def retry(self, pick: int) -> None:
        self.act(retry_upload, self.picked(pick, Status.FAILED), [])

    @precondition(has_files)
    @rule(pick=picks, held=st.booleans())
    def hold(self, pick: int, held: bool) -> None:
        upload = self.picked(pick)
        try:
            set_legal_hold(upload, held=held, actor=self.owner)
        except DomainError:
            assert held and upload.status == Status.DELETED

    @precondition(has_files)
    @rule(pick=picks, plan=plans, away=st.booleans())
    def picture(self, pick: int, plan: list[Any], away: bool) -> None:
        upload = self.picked(pick)
        planned[:] = plan
        try:
            remove_thumbnail(upload) if away else save_thumbnail(upload, PICTURE)
        except DomainError:
            assert plan
        finally:
            planned.clear()

    def act(self, verb: Any, upload: AudioUpload, plan: list[Any], *, held_is_refused: bool = False) -> None:
        """A refused verb leaves the row as it was."""
        before, held = upload.status, upload.legal_hold
        planned[:] = plan
        try:
            verb(upload, actor=self.owner)
        except DomainError:
            assert AudioUpload.objects.get(pk=upload.pk).status == before
        else:
            assert not (held and held_is_refused)
        finally:
            planned.clear()

    # What workers and the clock do

    @precondition(has_files)
    @rule(pick=picks, plan=plans)
    def process(self, pick: int, plan: list[Any]) -> None:
        AudioUpload.objects.filter(status=Status.UPLOADED).update(claimable_at=timezone.now())
        planned[:] = plan
        process_upload(str(self.picked(pick, Status.UPLOADED).pk))
        planned.clear()

    @precondition(has_files)
    @rule(pick=picks)
    def worker_dies(self, pick: int) -> None:
        if take_upload(str(self.picked(pick, Status.UPLOADED).pk)):
            AudioUpload.objects.filter(status=Status.VALIDATING).update(claimable_at=long_ago())
            assert sweep_stale_work()["taken_back"] >= 1

    @rule(pick=picks, seed=st.integers(0, 1), where=st.sampled_from(["_write", "_compared", "finish_receiving"]))
    def server_dies(self, pick: int, seed: int, where: str) -> None:
        """In the middle of an upload, so that nobody cleans up."""

        def die(*args: Any, **kwargs: Any) -> None:
            raise Killed

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(ingest, where, die)
            patched.setattr(ingest, "abandon_receiving", lambda *args, **kwargs: False)
            with pytest.raises((Killed, DomainError)):
                ingest.ingest_audio(
                    Bytes(make_wav(seed=seed)), workspace=self.workspaces[pick % 2], owner=self.owner, door="test"
                )

    @rule(plan=plans)
    def files_expire(self, plan: list[Any]) -> None:
        AudioUpload.objects.filter(status=Status.COMPLETED).update(uploaded_at=long_ago())
        planned[:] = plan
        expire_uploads()
        planned.clear()

    @rule(plan=plans)
    def trash_is_emptied(self, plan: list[Any]) -> None:
        AudioUpload.objects.in_trash().update(deleted_at=long_ago())
        planned[:] = plan
        purge_trash()
        planned.clear()

    @rule(plan=plans)
    def sweeps_run(self, plan: list[Any]) -> None:
        AudioUpload.objects.filter(status=Status.PURGED).update(claimable_at=long_ago())
        QuotaReservation.objects.update(expires_at=long_ago())
        UploadSession.objects.open().update(expires_at=long_ago())
        planned[:] = plan
        sweep_stale_work()
        sweep_stale_reservations()
        planned.clear()

    @rule()
    def orphans_are_swept(self) -> None:
        sweep_orphaned_objects()

    # What must hold, always

    @invariant()
    def the_books_balance(self) -> None:
        assert_books_balance(*self.workspaces, orphans=True)
        assert recalculate() == []
        for workspace in self.workspaces:
            completed = UploadSession.objects.filter(state="completed", is_partial=False, workspace=workspace).count()
            monthly = StorageQuota.objects.get(workspace=workspace).monthly_uploads
            assert monthly == self.arrived[workspace.pk] + completed

    def whatever_faults_left_is_taken_by_the_sweeps(self) -> None:
        with pytest.MonkeyPatch.context() as patched:
            later = timezone.now() + timedelta(days=40)
            AudioUpload.objects.filter(status=Status.PURGED).update(claimable_at=long_ago())
            for module in ("upkeep.sweeps", "objects.orphans"):
                patched.setattr(f"uploads.{module}.earliest_now", lambda: later)
            for _ in range(2):
                sweep_stale_work()
                sweep_stale_reservations()
                sweep_orphaned_objects()
        assert not AudioUpload.objects.filter(status__in=(Status.RECEIVING, Status.PURGED)).exists()
        assert not QuotaReservation.objects.exists()
        assert_books_balance(*self.workspaces)


def storage() -> FaultyStorage:
    found = get_storage("local")
    assert isinstance(found, FaultyStorage)
    return found


def long_ago() -> Any:
    return timezone.now() - timedelta(days=35)


@pytest.mark.django_db(transaction=True)
def test_any_sequence_of_operations_and_faults_leaves_books_that_balance(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 28. Counters are the rows, each path has its object, reservations are the rows that are arriving."""
    validating_only(monkeypatch)
    monkeypatch.setattr("uploads.upkeep.sweeps.waiting_tasks", lambda: 0)
    monkeypatch.setattr("uploads.intake.ingest.reencode_image", lambda picture: PICTURE)
    local = {**settings.STORAGES["local"], "BACKEND": f"{__name__}.FaultyStorage"}
    settings.STORAGES = {**settings.STORAGES, "local": local}
    run_state_machine_as_test(
        Vault,
        settings=hypothesis_settings(max_examples=15, stateful_step_count=30, deadline=None, database=None),
    )
