"""The first step: the stored object is what arrived and the audio that its name says, and may be a duplicate."""

import hashlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO

import structlog
from django.db import transaction
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from audiotricks.clock import Now
from objectstore import get_storage
from objectstore.errors import ObjectNotFound, ObjectReadDiffers, StorageError, TransientStorageError
from objectstore.hashing import READ_BYTES, StreamDigests, digest_of_file
from quotas.reservations import lock_quota
from uploads.errors import ObjectDamaged, ObjectLost
from uploads.lifecycle.transitions import move
from uploads.lifecycle.work import holder_of
from uploads.models import AudioUpload, AudioUploadQuerySet, Status, UploadSession
from uploads.models.states import VALIDATED
from uploads.objects.marks import ensure_ours
from uploads.objects.placing import object_of
from uploads.processing.steps import StepResult
from uploads.processing.working_copy import examined, working_copy

log = structlog.get_logger(__name__)


def validate(upload: AudioUpload) -> StepResult:
    """Read the object, compare size and hashes, have it examined, and decide whether it is a duplicate.

    Raises ObjectLost, ObjectDamaged, MediaError; TransientStorageError when it is worth another try.
    """
    try:
        digests = hash_copy(upload)
    except (ObjectDamaged, ObjectReadDiffers):
        if get_storage(upload.storage_provider).directory is not None:
            raise
        # What is whole where it lies may have been corrupted on its way here.
        with damaged_if_it_differs():
            digests = hash_copy(upload, anew=True)
    examined(upload)
    return StepResult(
        columns={
            "checksum_sha256": digests.sha256,
            "checksum_md5": digests.md5,
            "validation_completed_at": Now(),
        },
        details={"bytes": digests.size, "sha256": digests.sha256, "md5": digests.md5},
        decide=partial(enter_processing, sha256=digests.sha256, unfit=unfit_objects(twins_of(upload, digests.sha256))),
    )


def hash_copy(upload: AudioUpload, *, anew: bool = False) -> StreamDigests:
    """Hash the working copy and compare it with what is known of the file."""
    with working_copy(upload, anew=anew) as path:
        with path.open("rb") as file:
            digests = digest_of_file(file)
        check_intact(upload, size=digests.size, sha256=digests.sha256, md5=digests.md5)
        check_parts(upload, path)
    return digests


def digest_object(upload: AudioUpload) -> StreamDigests:
    """Read the stored object to its end, once more where a network may be why it is not what it should be.

    Raises ObjectLost, ObjectDamaged where the storage itself says that it holds something else, and storage errors,
    which say nothing about the object.
    """
    with suppress(ObjectDamaged, ObjectReadDiffers):
        digests = read_object(upload)
        if get_storage(upload.storage_provider).directory is None:
            check_intact(upload, size=digests.size, sha256=digests.sha256, md5=digests.md5)
        return digests
    with damaged_if_it_differs():
        return read_object(upload)


@contextmanager
def damaged_if_it_differs() -> Iterator[None]:
    try:
        yield
    except ObjectReadDiffers as error:
        found = error.members
        raise ObjectDamaged(
            _("The storage sends other bytes than its own checksum says."),
            what=found["algorithm"],
            expected=found["expected"],
            found=found["found"],
        ) from error


def read_object(upload: AudioUpload) -> StreamDigests:
    try:
        with get_storage(upload.storage_provider).open_range(upload.storage_path) as stored:
            return digest_of_file(stored)
    except ObjectNotFound as error:
        raise ObjectLost from error


def check_intact(upload: AudioUpload, *, size: int, sha256: str = "", md5: str = "") -> None:
    """Raise ObjectDamaged if what is stored is not what arrived, as far as both sides are known.

    Members: ``what`` (``size``, ``sha256`` or ``md5``), ``expected`` and ``found``.
    """
    for what, name, expected, found in (
        ("size", _("size"), upload.file_size, size),
        ("sha256", "SHA-256", upload.checksum_sha256, sha256),
        ("md5", "MD5", upload.checksum_md5, md5),
    ):
        if expected != "" and found not in ("", expected):
            raise ObjectDamaged(
                format_lazy(
                    _("The stored object's {what} is {stored}; it arrived with {known}."),
                    what=name,
                    stored=found,
                    known=expected,
                ),
                what=what,
                expected=expected,
                found=found,
            )


def check_parts(upload: AudioUpload, path: Path) -> None:
    """Compare a file that a client sent in parts with each part that the storage told us it was made of.

    A part may have been sent twice with different bytes: the object must be of those that the client was answered for.
    Raises ObjectDamaged.
    """
    session = UploadSession.objects.filter(upload=upload.pk).only("part_md5s", "part_bytes").first()
    if session is None or not session.part_bytes:
        return
    with path.open("rb") as file:
        for number, expected in enumerate(session.part_md5s):
            if not expected:
                continue
            file.seek(number * session.part_bytes)
            found = md5_of_next(file, session.part_bytes)
            if found != expected:
                raise ObjectDamaged(
                    format_lazy(
                        _("Part {number} of the stored object is not the one that was sent."), number=number + 1
                    ),
                    what="md5",
                    expected=expected,
                    found=found,
                )


def md5_of_next(file: BinaryIO, size_bytes: int) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    while size_bytes and (piece := file.read(min(size_bytes, READ_BYTES))):
        digest.update(piece)
        size_bytes -= len(piece)
    return digest.hexdigest()


def twins_of(upload: AudioUpload, sha256: str) -> AudioUploadQuerySet:
    """The files whose object this one could share, oldest first."""
    return (
        AudioUpload.objects.filter(
            workspace_id=upload.workspace_id,
            checksum_sha256=sha256,
            storage_provider=upload.storage_provider,
            status__in=VALIDATED,
        )
        .exclude(pk=upload.pk)
        .order_by("uploaded_at", "id")
    )


def unfit_objects(uploads: AudioUploadQuerySet) -> set[str]:
    """The names of their objects that are gone, no longer what they were, or out of reach.

    No good copy may be given up for one of them.
    """
    unfit: set[str] = set()
    for upload in {upload.storage_path: upload for upload in uploads}.values():
        try:
            intact = digest_object(upload).sha256 == upload.checksum_sha256
        except TransientStorageError:
            log.warning("stored_object_not_reached", twin_upload_id=str(upload.pk), name=upload.storage_path)
            unfit.add(upload.storage_path)
            continue
        except (ObjectDamaged, ObjectLost, StorageError, OSError):
            intact = False
        if not intact:
            log.error("stored_object_damaged", damaged_upload_id=str(upload.pk), name=upload.storage_path)
            unfit.add(upload.storage_path)
    return unfit


def enter_processing(upload: AudioUpload, *, sha256: str, unfit: Collection[str] = ()) -> None:
    """Move the file on, sharing the object of a twin if the workspace has one that is fit: decided here, once.

    Under the lock of the workspace's quota row, which every purge takes too: a twin's object cannot go between the
    query and the commit. The object that is no longer needed goes after the commit.
    """
    lock_quota(upload.workspace_id)
    ours = holder_of(upload)
    twin = twins_of(upload, sha256).exclude(storage_path__in=unfit).first()
    if twin is None or twin.storage_path == upload.storage_path:
        move(upload, Status.PROCESSING, "processing", only_from=frozenset({Status.VALIDATING}), only_if=ours)
        return
    # A tombstone cannot be referred to: it may go before this is committed.
    original = twin.duplicate_of if twin.duplicate_of and twin.duplicate_of.status != Status.PURGED else twin
    redundant = upload.storage_path
    move(
        upload,
        Status.PROCESSING,
        "processing",
        only_from=frozenset({Status.VALIDATING}),
        only_if=ours,
        details={"duplicate_of": str(original.pk)},
        duplicate_of=original,
        **object_of(twin),
    )
    if not AudioUpload.objects.filter(storage_provider=upload.storage_provider, storage_path=redundant).exists():
        transaction.on_commit(partial(remove_redundant, upload.storage_provider, redundant), robust=True)


def remove_redundant(provider: str, name: str) -> None:
    try:
        ensure_ours(provider).delete(name)
    except StorageError as error:
        log.warning("redundant_object_left_to_the_sweep", name=name, error=str(error))
