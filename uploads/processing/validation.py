"""The first step: the object is what arrived and decodable; it may be a duplicate."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import structlog
from django.db import transaction
from django.db.models import Exists, OuterRef
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from audiotricks.clock import Now
from objectstore import get_storage
from objectstore.errors import ObjectReadDiffers, StorageError, TransientStorageError
from objectstore.hashing import READ_BYTES, StreamDigests, digest_of_file
from uploads.errors import ObjectDamaged
from uploads.lifecycle.transitions import move
from uploads.lifecycle.work import holder_of
from uploads.models import AudioUpload, Status, StoredObject, UploadSession
from uploads.models.objects import StoredObjectQuerySet
from uploads.models.states import VALIDATED
from uploads.objects import ledger
from uploads.objects.read import damaged_if_it_differs, ensure_whole, examine_object
from uploads.processing.steps import StepResult
from uploads.processing.working_copy import examined, working_copy

log = structlog.get_logger(__name__)

#: Objects with the same bytes that are read in search of a whole one.
MOST_OBJECTS_READ = 3


def validate(upload: AudioUpload) -> StepResult:
    """Compare size and hashes, examine, and decide on a duplicate. Raises ObjectLost, ObjectDamaged, MediaError,
    TransientStorageError.
    """
    try:
        digests = hash_copy(upload)
    except (ObjectDamaged, ObjectReadDiffers):
        if get_storage(upload.storage_provider).directory is not None:
            raise
        # A whole object may have been damaged on its way here.
        with damaged_if_it_differs():
            digests = hash_copy(upload, anew=True)
    examined(upload)
    publish_hashes(upload, digests)
    return StepResult(
        columns={"validation_completed_at": Now()},
        details={"bytes": digests.size, "sha256": digests.sha256, "md5": digests.md5},
        look=partial(find_whole_object, upload, digests.sha256),
        decide=partial(enter_processing, digests=digests),
    )


def publish_hashes(upload: AudioUpload, digests: StreamDigests) -> None:
    """Before duplicates are looked for, so that of two equal files one finds the other."""
    if upload.facts == digests.facts:
        return
    hashes = {"checksum_sha256": digests.sha256, "checksum_md5": digests.md5}
    with transaction.atomic():
        StoredObject.objects.filter(uploads=upload).update(**hashes)
        if not AudioUpload.objects.filter(pk=upload.pk, **holder_of(upload)).update(**hashes):
            transaction.set_rollback(True)


def hash_copy(upload: AudioUpload, *, anew: bool = False) -> StreamDigests:
    """Compares with the known facts."""
    with working_copy(upload, anew=anew) as path:
        with path.open("rb") as file:
            digests = digest_of_file(file)
        ensure_whole(upload, digests.facts)
        check_parts(upload, path)
    return digests


def check_parts(upload: AudioUpload, path: Path) -> None:
    """Compare a file that a client sent in parts with each part that the storage told us it was made of.

    A part may have been sent twice with different bytes: the object must be of those that the client was answered for.
    Raises ObjectDamaged.
    """
    session = UploadSession.objects.direct().filter(upload=upload.pk).only("part_md5s", "part_bytes").first()
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


# Duplicates


@dataclass(frozen=True, slots=True)
class Look:
    """The whole object, if any, and the keys of all that were read."""

    whole: StoredObject | None
    read: frozenset[int]


def objects_with(upload: AudioUpload, sha256: str, statuses: Iterable[Status]) -> StoredObjectQuerySet:
    """The workspace's, owned by other files in these states, oldest first."""
    files = AudioUpload.objects.filter(workspace_id=upload.workspace_id, status__in=statuses).exclude(pk=upload.pk)
    objects = StoredObject.objects.filter(
        checksum_sha256=sha256, storage_provider=upload.storage_provider, state=StoredObject.State.STORED
    )
    return objects.filter(Exists(files.filter(stored_object=OuterRef("pk")))).order_by("pk")


def find_whole_object(upload: AudioUpload, sha256: str) -> Look:
    """Skips damaged, missing and unreachable ones."""
    read: set[int] = set()
    for stored in objects_with(upload, sha256, VALIDATED)[:MOST_OBJECTS_READ]:
        read.add(stored.pk)
        if stored.pk == upload.stored_object_id or is_whole(stored):
            return Look(stored, frozenset(read))
    return Look(None, frozenset(read))


def is_whole(stored: StoredObject) -> bool:
    try:
        if isinstance(examine_object(stored), StreamDigests):
            return True
    except TransientStorageError:
        log.warning("stored_object_not_reached", object=stored.pk, name=stored.storage_path)
        return False
    except StorageError:
        pass
    log.error("stored_object_damaged", object=stored.pk, name=stored.storage_path)
    return False


def enter_processing(upload: AudioUpload, look: Look, *, digests: StreamDigests) -> bool:
    """Move the file on, with its own object or the whole one to share. Equal files decide in turn, under the locks of
    their objects. False, without a decision, if ``look`` did not read all.
    """
    # Hashes are published before: of two that decide at once, one sees the object of the other and waits for it.
    undecided = objects_with(upload, digests.sha256, (Status.VALIDATING,)).values_list("pk", flat=True)
    held = ledger.lock([upload.stored_object_id, *undecided, look.whole.pk if look.whole else None])
    own = held.get(upload.stored_object_id or 0)
    candidates = set(objects_with(upload, digests.sha256, VALIDATED).values_list("pk", flat=True)[:MOST_OBJECTS_READ])
    if (look.whole is None or look.whole.pk not in candidates) and candidates - look.read:
        return False
    enter = partial(
        move,
        upload,
        Status.PROCESSING,
        "processing",
        only_from=frozenset({Status.VALIDATING}),
        only_if={**holder_of(upload), "stored_object": upload.stored_object_id},
    )
    shared = held.get(look.whole.pk) if look.whole and look.whole != own else None
    original = original_of(upload, shared) if shared and shared.pk in candidates else None
    if shared is None or original is None:
        enter()
        return True
    enter(
        details={"duplicate_of": str(original.pk)},
        duplicate_of=original,
        **ledger.owning(AudioUpload, "stored_object", shared),
    )
    ledger.share(shared, verified_at=Now())
    ledger.release([own.pk if own else None])
    return True


def original_of(upload: AudioUpload, shared: StoredObject) -> AudioUpload | None:
    """The original of the oldest owner, or that owner, locked; never a tombstone."""
    owners = AudioUpload.objects.filter(
        stored_object=shared, workspace_id=upload.workspace_id, status__in=VALIDATED
    ).exclude(pk=upload.pk)
    first = owners.order_by("uploaded_at", "id").first()
    if first is None:
        return None
    wanted = {upload.pk, first.pk, first.duplicate_of_id or first.pk}
    held = {row.pk: row for row in AudioUpload.objects.select_for_update().filter(pk__in=wanted).order_by("pk")}
    original = held.get(first.duplicate_of_id or first.pk, first)
    return first if original.status == Status.PURGED else original
