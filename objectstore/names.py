"""The names of stored objects.

Two layouts, chosen by ``AUDIO_STORAGE_LAYOUT`` for new files; both are always read:

- ``by-id``: ``audio/{id}/audio.{ext}`` with ``audio/{id}/thumbnail.{ext}``;
- ``by-user-date``: ``uploads/{user_id}/{yyyy}/{mm}/{dd}/{id}-{slug}.{ext}`` with ``{id}-{slug}.thumbnail.{ext}``.
  A slug has no dot, so that the two cannot be confused.

The name that the user gave lives in the database; only its slug, plain ASCII, is used here.
"""

import re
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal
from uuid import UUID

from django.conf import settings

from .errors import InvalidObjectName

Kind = Literal["audio", "thumbnail"]
Layout = Literal["by-id", "by-user-date"]

# What a sweep lists; nothing else in a storage is ours to remove.
PREFIXES = ("audio/", "uploads/")
# Under these we write at all; the archive, storage_doctor and the marks have their own.
OUR_FOLDERS = (*PREFIXES, "archive/", "doctor/", "partials/", "vault/")
# What lies here is a piece of an object that is not there yet.
PARTIALS = "partials/"
SESSIONS = f"{PARTIALS}sessions/"
MAX_SLUG_LENGTH = 40
MAX_NAME_LENGTH = 500
# A file system allows 255, and a local temporary name is 23 longer than its object's.
MAX_SEGMENT_LENGTH = 200

SEGMENT = rf"[A-Za-z0-9_](?:[A-Za-z0-9._-]{{0,{MAX_SEGMENT_LENGTH - 2}}}[A-Za-z0-9_-])?"
NAME = re.compile(rf"{SEGMENT}(?:/{SEGMENT})*")
EXTENSION = re.compile(r"[a-z0-9]{1,8}")
UUID_PATTERN = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
BY_ID = re.compile(rf"audio/(?P<id>{UUID_PATTERN})/(?P<kind>audio|thumbnail)\.(?P<extension>{EXTENSION.pattern})")
BY_USER_DATE = re.compile(
    rf"uploads/(?:[0-9]{{1,20}}|{UUID_PATTERN})/[0-9]{{4}}/(?:0[1-9]|1[0-2])/(?:0[1-9]|[12][0-9]|3[01])/"
    rf"(?P<id>{UUID_PATTERN})-[a-z0-9-]{{1,{MAX_SLUG_LENGTH}}}"
    rf"(?P<thumbnail>\.thumbnail)?\.(?P<extension>{EXTENSION.pattern})"
)


@dataclass(frozen=True, slots=True)
class ParsedName:
    """``extension`` has no dot."""

    upload_id: UUID
    kind: Kind
    extension: str
    layout: Layout


def audio_name(
    upload_id: UUID,
    *,
    extension: str,
    owner_id: int | UUID,
    filename: str,
    created_at: datetime,
    layout: Layout | None = None,
) -> str:
    """``extension`` is lower-case without a dot; ``created_at`` gives its UTC day; ``layout`` defaults to the
    configured one. Raises InvalidObjectName for an unusable extension or owner.
    """
    if (layout or settings.AUDIO_STORAGE_LAYOUT) == "by-id":
        name = f"audio/{upload_id}/audio.{extension}"
    else:
        day = created_at.astimezone(UTC)
        name = f"uploads/{owner_id}/{day:%Y/%m/%d}/{upload_id}-{slug_of(filename)}.{extension}"
    if parse_name(name) is None:
        raise InvalidObjectName
    return name


def thumbnail_name(audio_name: str, extension: str) -> str:
    """Raises InvalidObjectName for a name that is no audio."""
    parsed = parse_name(audio_name)
    if parsed is None or parsed.kind != "audio" or not EXTENSION.fullmatch(extension):
        raise InvalidObjectName
    if parsed.layout == "by-id":
        return f"audio/{parsed.upload_id}/thumbnail.{extension}"
    return f"{audio_name.removesuffix('.' + parsed.extension)}.thumbnail.{extension}"


def partial_name(session_id: UUID) -> str:
    """The name for the bytes of an upload that becomes a part of another one."""
    return f"{SESSIONS}{session_id}/partial"


def side_name(session_id: UUID, nonce: str) -> str:
    """The name for the last bytes of an upload, too few for a part."""
    return f"{SESSIONS}{session_id}/{nonce}"


def parse_name(name: str) -> ParsedName | None:
    """None for a name of neither layout, which sweeps leave alone."""
    if match := BY_ID.fullmatch(name):
        kind: Kind = "audio" if match["kind"] == "audio" else "thumbnail"
        return ParsedName(UUID(match["id"]), kind, match["extension"], "by-id")
    if match := BY_USER_DATE.fullmatch(name):
        kind = "thumbnail" if match["thumbnail"] else "audio"
        return ParsedName(UUID(match["id"]), kind, match["extension"], "by-user-date")
    return None


def is_valid_name(name: str) -> bool:
    """Relative segments of ASCII letters, digits, ``.``, ``_`` and ``-`` that neither begin nor end with a dot: no
    traversal, NUL, backslash, drive letter or hidden file.
    """
    return len(name) <= MAX_NAME_LENGTH and NAME.fullmatch(name) is not None


def check_name(name: str) -> None:
    if not is_valid_name(name):
        raise InvalidObjectName


def slug_of(filename: str) -> str:
    """1 to 40 lower-case ASCII letters, digits and hyphens."""
    stem = re.split(r"[/\\]", filename)[-1]
    stem = stem.rpartition(".")[0] or stem
    plain = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:MAX_SLUG_LENGTH].strip("-") or "audio"
