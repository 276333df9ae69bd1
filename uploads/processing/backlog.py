"""Waiting files and their order."""

from collections import Counter
from uuid import UUID

from django.db.models import Exists, F, OuterRef, Subquery

from audiotricks.clock import Now
from quotas.models import Workspace
from uploads.models import AudioUpload, AudioUploadQuerySet, ProcessingTurn, Status
from uploads.objects.conditions import storages_left_alone

#: The limit of counting a backlog.
MOST_COUNTED = 1000


def waiting_files() -> AudioUploadQuerySet:
    """Without those in a storage that is left alone."""
    waiting = AudioUpload.objects.filter(status=Status.UPLOADED, claimable_at__lte=Now())
    left_alone = storages_left_alone()
    return waiting.exclude(storage_provider__in=left_alone) if left_alone else waiting


def next_file() -> UUID | None:
    """Of the workspace whose last turn was longest ago; or None."""
    waiting = waiting_files()
    workspaces = Workspace.objects.filter(Exists(waiting.filter(workspace=OuterRef("pk"))))
    turn = F("processing_turn__taken_at").asc(nulls_first=True)
    # One statement, since another worker could take the workspace's last file between two.
    workspace = Subquery(workspaces.order_by(turn, "pk").values("pk")[:1])
    return waiting.filter(workspace=workspace).order_by("uploaded_at", "id").values_list("pk", flat=True).first()


def note_turn(workspace_id: UUID) -> None:
    if not ProcessingTurn.objects.filter(workspace_id=workspace_id).update(taken_at=Now()):
        ProcessingTurn.objects.update_or_create(workspace_id=workspace_id, defaults={"taken_at": Now()})


def files_ahead(upload: AudioUpload) -> int | None:
    """At most MOST_COUNTED: older ones of its workspace, and as many of each other one as it gets turns until then.
    None for a file that does not wait.
    """
    if upload.status != Status.UPLOADED:
        return None
    oldest = waiting_files().order_by("uploaded_at", "id").values_list("workspace", "uploaded_at", "id")[:MOST_COUNTED]
    mine, others = 0, Counter[UUID]()
    for workspace, uploaded_at, pk in oldest:
        if workspace != upload.workspace_id:
            others[workspace] += 1
        elif upload.uploaded_at is not None and (uploaded_at, pk) < (upload.uploaded_at, upload.pk):
            mine += 1
    return min(mine + sum(min(count, mine + 1) for count in others.values()), MOST_COUNTED)
