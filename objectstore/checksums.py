"""The checksums of storages, with the interface of hashlib."""

import base64
import hashlib
import zlib
from collections.abc import Callable, Mapping
from typing import Protocol

import google_crc32c

Data = bytes | bytearray | memoryview
SLICE_BYTES = 256 * 1024


class Digest(Protocol):
    def update(self, data: Data, /) -> None: ...

    def digest(self) -> bytes: ...

    def hexdigest(self) -> str: ...


class CRC32:
    def __init__(self, data: Data = b"") -> None:
        self._value = zlib.crc32(data)

    def update(self, data: Data) -> None:
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")

    def hexdigest(self) -> str:
        return self.digest().hex()


class CRC32C:
    def __init__(self, data: Data = b"") -> None:
        self._checksum = google_crc32c.Checksum()
        self.update(data)

    def update(self, data: Data) -> None:
        if isinstance(data, bytes):
            self._checksum.update(data)
            return
        with memoryview(data) as view:
            for start in range(0, len(view), SLICE_BYTES):
                # The library takes nothing but ``bytes``.
                self._checksum.update(bytes(view[start : start + SLICE_BYTES]))

    def digest(self) -> bytes:
        return bytes(self._checksum.digest())

    def hexdigest(self) -> str:
        return self.digest().hex()


def md5(data: Data = b"") -> Digest:
    return hashlib.md5(data, usedforsecurity=False)


#: By their names in ObjectStat, from the cheapest to the dearest.
DIGESTS: dict[str, Callable[[], Digest]] = {"crc32c": CRC32C, "crc32": CRC32, "md5": md5, "sha256": hashlib.sha256}


def difference(expected: Mapping[str, int | str], found: Mapping[str, int | str]) -> str | None:
    """The first of ``size``, ``sha256`` and ``md5`` that differs; None if all known ones agree."""
    for what in ("size", "sha256", "md5"):
        one, other = expected.get(what, ""), found.get(what, "")
        if "" not in (one, other) and one != other:
            return what
    return None


def base64_of(digest: Digest) -> str:
    return base64.b64encode(digest.digest()).decode()
