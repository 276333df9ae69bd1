"""The headers of tus 1.0.0 (https://tus.io/protocols/resumable-upload), read and written. Knows no request."""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence

from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from audiotricks.errors import DomainError
from quotas.errors import FileTooLarge

#: The whole header, as the web server bounds each line.
MAX_METADATA_BYTES = 8192
#: Printable ASCII without a comma.
METADATA_KEY = re.compile(r"[!-+\--~]+", re.ASCII)
#: Of a number of bytes.
MOST_DIGITS = 18
FINAL = "final;"
PARTIAL = "partial"
#: Bytes of a digest, by its algorithm.
CHECKSUMS = {"sha1": 20, "md5": 16, "sha256": 32}


class InvalidUploadLength(DomainError):
    code = "invalid_upload_length"
    status = 400
    title = _("Send either Upload-Length, as a number of bytes, or Upload-Defer-Length: 1")


class InvalidUploadOffset(DomainError):
    code = "invalid_upload_offset"
    status = 400
    title = _("Send Upload-Offset, as a number of bytes")


class InvalidMetadata(DomainError):
    code = "invalid_metadata"
    status = 400
    title = _("Upload-Metadata cannot be read: separate pairs of a key and a value in Base64 by commas")


class InvalidConcat(DomainError):
    code = "invalid_upload_concat"
    status = 400
    title = _("Upload-Concat is either “partial” or “final;” with the addresses of partial uploads behind it")


class InvalidChecksum(DomainError):
    code = "invalid_checksum"
    status = 400
    title = _("Upload-Checksum is sha1, md5 or sha256 and the checksum in Base64, separated by a space")


def number_of(header: str) -> int | None:
    """The number of bytes that a header names; None for anything else."""
    return int(header) if header.isascii() and header.isdigit() and len(header) <= MOST_DIGITS else None


def declared_length(length: str | None, defer: str | None) -> int | None:
    """The size that ``Upload-Length`` declares, or None for ``Upload-Defer-Length: 1``. Raises InvalidUploadLength,
    and FileTooLarge for a number that no file has.
    """
    if defer is not None and (length is not None or defer != "1"):
        raise InvalidUploadLength
    if defer is not None:
        return None
    length = length or ""
    if length.isascii() and length.isdigit() and len(length) > MOST_DIGITS:
        raise FileTooLarge(_("The file is larger than the storage takes."))
    size = number_of(length)
    if size is None:
        raise InvalidUploadLength
    return size


def upload_offset(header: str | None) -> int:
    """Raises InvalidUploadOffset."""
    offset = number_of(header or "")
    if offset is None:
        raise InvalidUploadOffset
    return offset


def parse_metadata(header: str | None) -> dict[str, str]:
    """Keys and their values in Base64, encoded by us. Raises InvalidMetadata."""
    if not header or not header.strip():
        return {}
    if len(header) > MAX_METADATA_BYTES:
        raise InvalidMetadata(
            format_lazy(_("Upload-Metadata is longer than {maximum} bytes."), maximum=MAX_METADATA_BYTES)
        )
    metadata: dict[str, str] = {}
    for pair in header.split(","):
        key, _space, value = pair.strip(" \t").partition(" ")
        if not METADATA_KEY.fullmatch(key):
            raise InvalidMetadata(_("A key of Upload-Metadata is empty or not printable ASCII."))
        if key in metadata:
            raise InvalidMetadata(format_lazy(_("Upload-Metadata names “{key}” twice."), key=key[:100]))
        decoded = base64_bytes(value)
        if decoded is None:
            raise InvalidMetadata(
                format_lazy(_("The value of “{key}” in Upload-Metadata is not Base64."), key=key[:100])
            )
        metadata[key] = base64.b64encode(decoded).decode()
    return metadata


def format_metadata(metadata: Mapping[str, str]) -> str:
    return ",".join(f"{key} {value}" if value else key for key, value in metadata.items())


def metadata_text(metadata: Mapping[str, str], *keys: str) -> str:
    """The first non-empty value of these keys; empty without one. Raises InvalidMetadata for one that is not UTF-8."""
    for key in keys:
        try:
            if text := base64.b64decode(metadata.get(key, "")).decode():
                return text
        except UnicodeDecodeError:
            raise InvalidMetadata(
                format_lazy(_("The value of “{key}” in Upload-Metadata is not UTF-8."), key=key)
            ) from None
    return ""


def parse_concat(header: str | None) -> tuple[bool, Sequence[str] | None]:
    """Whether the upload is partial, and the addresses that make up a final one. Raises InvalidConcat."""
    if header is None:
        return False, None
    if header == PARTIAL:
        return True, None
    if header.startswith(FINAL):
        return False, header.removeprefix(FINAL).split()
    raise InvalidConcat


def parse_checksum(header: str | None) -> tuple[str, bytes] | None:
    """The algorithm, by its name in :mod:`hashlib`, and the digest. Raises InvalidChecksum."""
    if header is None:
        return None
    algorithm, _space, value = header.partition(" ")
    digest = base64_bytes(value)
    if digest is None or len(digest) != CHECKSUMS.get(algorithm):
        raise InvalidChecksum
    return algorithm, digest


def base64_bytes(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
