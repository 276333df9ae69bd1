"""What would happen if these files were uploaded, without a byte of them."""

from collections.abc import Sequence
from typing import Any

from audiotricks.errors import DomainError
from quotas.models import StorageQuota, Workspace
from quotas.reservations import check_room
from uploads.ingest import check_declared
from uploads.models import HIDDEN, AudioUpload, Status


def preflight(workspace: Workspace, quota: StorageQuota, files: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A verdict a file, in their order: ``accept``, ``duplicate``, ``in_trash`` or ``refused`` with ``code``.

    Room is reckoned as if the accepted ones came one after the other. Nothing is reserved: an upload may still be
    refused if others were faster. A duplicate is not refused; the client may save itself the way.
    """
    held = _held(workspace, [file["sha256"].lower() for file in files if file.get("sha256")])
    answers: list[dict[str, Any]] = []
    accepted_bytes = accepted_files = 0
    for file in files:
        answer: dict[str, Any] = {"filename": file["filename"]}
        twin = held.get(file.get("sha256", "").lower())
        try:
            _check(file, quota, accepted_bytes, accepted_files)
        except DomainError as error:
            answer |= {"verdict": "refused", "code": error.code, "detail": error.detail}
        else:
            if twin is None:
                answer["verdict"] = "accept"
                accepted_bytes += file["size"]
                accepted_files += 1
            else:
                answer |= {"verdict": "in_trash" if twin.status == Status.DELETED else "duplicate", "upload": twin.pk}
        answers.append(answer)
    return answers


def _check(file: dict[str, Any], quota: StorageQuota, accepted_bytes: int, accepted_files: int) -> None:
    check_declared(file["filename"], file["size"])
    check_room(quota, size_bytes=file["size"], other_bytes=accepted_bytes, other_files=accepted_files)


def _held(workspace: Workspace, hashes: list[str]) -> dict[str, AudioUpload]:
    rows = AudioUpload.objects.in_workspace(workspace).filter(checksum_sha256__in=hashes)
    rows = rows.exclude(status__in=(*HIDDEN, Status.FAILED))
    # One that is at hand hides one in the trash.
    ordered = sorted(rows, key=lambda upload: upload.status != Status.DELETED)
    return {upload.checksum_sha256: upload for upload in ordered}
