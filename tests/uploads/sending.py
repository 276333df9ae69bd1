"""Uploads as clients write them, and a look at what they left behind."""

from pathlib import Path
from typing import Any

from audiotricks.models import IdempotencyKey
from quotas.models import QuotaReservation, StorageQuota
from tests.audio import make_mp3
from uploads.models import AudioUpload, UploadEvent

UPLOADS = "/api/v1/uploads/"
BOUNDARY = "a-line-between-parts"
COUNTERS = (
    "current_storage_bytes", "current_file_count", "reserved_bytes", "reserved_files", "monthly_uploads",
    "monthly_upload_bytes",
)  # fmt: skip


def field(name: str, value: bytes | str) -> bytes:
    """A part without its delimiter."""
    value = value.encode() if isinstance(value, str) else value
    return f'Content-Disposition: form-data; name="{name}"\r\n\r\n'.encode() + value


def file_part(data: bytes | None = None, filename: str = "one.mp3", name: str = "file") -> bytes:
    head = f'Content-Disposition: form-data; name="{name}"; filename="{filename}"\r\n'
    return f"{head}Content-Type: application/octet-stream\r\n\r\n".encode() + (make_mp3() if data is None else data)


def form(*parts: bytes, boundary: str = BOUNDARY, end: bytes = b"--\r\n") -> bytes:
    line = b"--" + boundary.encode()
    return b"".join(line + b"\r\n" + part + b"\r\n" for part in parts) + line + end


def form_type(boundary: str = BOUNDARY) -> str:
    return f"multipart/form-data; boundary={boundary}"


def post_form(client: Any, *parts: bytes, path: str = UPLOADS, **extra: Any) -> Any:
    return client.post(path, form(*parts), content_type=form_type(), **extra)


def post_raw(client: Any, data: bytes, filename: str = "one.mp3", path: str = UPLOADS, **headers: str) -> Any:
    headers.setdefault("Content-Disposition", f'attachment; filename="{filename}"')
    return client.post(path, data, content_type="application/octet-stream", headers=headers)


def files_under(root: Path) -> list[str]:
    """Every file, hidden and temporary ones too."""
    return sorted(
        str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir() and path.parent != root / "vault"
    )


def what_is_there(root: Path) -> dict[str, Any]:
    """Rows, events, reservations, keys, files and counters above zero; empty when nothing is left of an upload."""
    quotas = StorageQuota.objects.all()
    counted = [{name: getattr(quota, name) for name in COUNTERS if getattr(quota, name)} for quota in quotas]
    there = {
        "rows": [(upload.original_filename, upload.status) for upload in AudioUpload.objects.all()],
        "events": list(UploadEvent.objects.values_list("action", flat=True)),
        "reservations": list(QuotaReservation.objects.values_list("bytes", flat=True)),
        "keys": list(IdempotencyKey.objects.values_list("state", flat=True)),
        "files": files_under(root),
        "counters": [counters for counters in counted if counters],
    }
    return {name: found for name, found in there.items() if found}
