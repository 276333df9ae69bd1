"""Predicts the result of uploads without their bytes."""

from collections.abc import Sequence
from typing import Any

from audiotricks.errors import DomainError
from quotas.models import StorageQuota, Workspace
from quotas.reservations import check_room, current_month
from uploads.intake.ingest import check_declared
from uploads.models import AudioUpload, Status
from uploads.models.states import WITHOUT_OBJECT


def preflight(workspace: Workspace, quota: StorageQuota, files: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each file ``accept``, ``duplicate`` (may be uploaded), ``in_trash`` or ``refused`` with ``code``. Accepted
    files count for later ones; nothing is reserved.
    """
    held = _held(workspace, [file["sha256"].lower() for file in files if file.get("sha256")])
    month = current_month()
    answers: list[dict[str, Any]] = []
    accepted_bytes = accepted_files = 0
    for file in files:
        answer: dict[str, Any] = {"filename": file["filename"]}
        duplicate = held.get(file.get("sha256", "").lower())
        try:
            check_declared(file["filename"], file["size"])
            check_room(
                quota, size_bytes=file["size"], other_bytes=accepted_bytes, other_files=accepted_files, month=month
            )
        except DomainError as error:
            answer |= {"verdict": "refused", "code": error.code, "detail": error.detail}
        else:
            if duplicate is None:
                answer["verdict"] = "accept"
                accepted_bytes += file["size"]
                accepted_files += 1
            else:
                answer |= {"verdict": "in_trash" if duplicate.status == Status.DELETED else "duplicate"}
                answer["upload"] = duplicate.pk
        answers.append(answer)
    return answers


def _held(workspace: Workspace, hashes: list[str]) -> dict[str, AudioUpload]:
    rows = AudioUpload.objects.in_workspace(workspace).filter(checksum_sha256__in=hashes)
    rows = rows.exclude(status__in=(*WITHOUT_OBJECT, Status.FAILED))
    # Files outside the trash first.
    ordered = sorted(rows, key=lambda upload: upload.status != Status.DELETED)
    return {upload.checksum_sha256: upload for upload in ordered}
