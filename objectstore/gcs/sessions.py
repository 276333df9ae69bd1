"""Resumable uploads to Google Cloud Storage: https://cloud.google.com/storage/docs/performing-resumable-uploads."""

import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from http import HTTPStatus

from django.conf import settings
from django.utils.translation import gettext_lazy as _

from ..checksums import CRC32C, base64_of
from ..errors import ObjectExists, ObjectNotFound, StorageError, TransientStorageError
from ..parts import PartReader
from ..retry import TIDYING, call_with_retry, retry_policy
from .access import Session, check_kind
from .errors import vendor_errors
from .facts import lost_content

#: The size of every chunk but the last is a multiple of this.
QUANTUM_BYTES = 256 * 1024
#: "Resume Incomplete" in the protocol of resumable uploads; "Permanent Redirect" in HTTP.
RESUME_INCOMPLETE = HTTPStatus.PERMANENT_REDIRECT
COMPLETE = frozenset({200, 201})
GOING_ON = COMPLETE | {RESUME_INCOMPLETE}
GONE = frozenset({404, 410})
#: 499 is the response of a cancelled session; a complete one may refuse.
CANCELLED = frozenset({200, 204, 400, 499}) | GONE


class SessionGone(ObjectNotFound):
    """The session was cancelled, or a week has passed."""


def part_bytes() -> int:
    return int(settings.STORAGE_PART_BYTES) // QUANTUM_BYTES * QUANTUM_BYTES


class UploadSession:
    """An object that is sent in pieces to a secret URL. ``received`` are the bytes that the storage has. Not safe for
    threads.
    """

    def __init__(self, session: Session, name: str, url: str) -> None:
        self.url = url
        self.received = 0
        self._session = session
        self._name = name
        self._is_sure = True

    def send_all(self, reader: PartReader, first: bytearray) -> tuple[int, str]:
        """Send ``first`` and the following parts, each while the next is read; return size in bytes and CRC32C
        (base64). Reading errors come out unchanged. The last response may be lost, so the caller looks at the
        object.
        """
        part, size, checksum = first, 0, CRC32C()
        try:
            with ThreadPoolExecutor(1, thread_name_prefix="part") as pool:
                while not reader.ended:
                    size += len(part)
                    checksum.update(part)
                    sending = pool.submit(copy_context().run, self.send, part)
                    following = reader.next_part()
                    sending.result()
                    reader.release(part)
                    part = following
        except SessionGone:
            raise lost_content() from None
        size += len(part)
        checksum.update(part)
        crc32c = base64_of(checksum)
        with suppress(SessionGone, ObjectExists):
            self.finish(part, size, crc32c)
        return size, crc32c

    def send(self, part: bytearray) -> None:
        start, end = self.received, self.received + len(part)
        with memoryview(part) as view:
            while self.received < end:
                call_with_retry(self._send_rest, view, start)

    def finish(self, part: bytearray, total: int, crc32c: str) -> None:
        """Send the last of ``total`` bytes, whose CRC32C (base64) the storage compares."""
        start = self.received
        with memoryview(part) as view:
            while not call_with_retry(self._send_rest, view, start, total, crc32c):
                pass

    def ask(self, total: int | None, crc32c: str = "") -> bool:
        """Update ``received``; True when the object is made. Raises SessionGone."""
        return self._put(b"", "*", total, crc32c)

    def cancel(self) -> None:
        self._session.send_plain(
            "DELETE", self.url, action="cancel upload", name=self._name, expected=CANCELLED
        ).close()

    def cancel_if_possible(self) -> None:
        with suppress(StorageError), retry_policy(TIDYING):
            self.cancel()

    def _send_rest(self, view: memoryview, start: int, total: int | None = None, crc32c: str = "") -> bool:
        """Send the missing bytes of this part; True when the object is made."""
        end = start + len(view)
        if not self._is_sure:
            if self.ask(total, crc32c):
                return True
            self._is_sure = True
        if not start <= self.received <= end:
            raise lost_content()
        if self.received == end and total is None:
            return False
        before, self._is_sure = self.received, False
        # Released here, since a failed request may be referenced longer than its buffer is free for reuse.
        with view[before - start :] as rest:
            is_made = self._put(rest, f"{before}-{end - 1}" if before < end else "*", total, crc32c)
        if not is_made and self.received <= before:
            raise TransientStorageError(_("The storage did not take what was sent."))
        self._is_sure = True
        return is_made

    def _put(self, data: bytes | memoryview, sent: str, total: int | None, crc32c: str) -> bool:
        headers = {"Content-Range": f"bytes {sent}/{'*' if total is None else total}"}
        if crc32c:
            headers["X-Goog-Hash"] = f"crc32c={crc32c}"
        response = self._session.send_plain(
            "PUT",
            self.url,
            action="upload",
            name=self._name,
            expected=GOING_ON | {410},
            missing=SessionGone,
            headers=headers,
            data=data,
        )
        if response.status_code in GONE:
            raise SessionGone
        if response.status_code in COMPLETE:
            with vendor_errors("upload", self._name):
                check_kind(response)
            return True
        match = re.fullmatch(r"bytes=0-(\d+)", response.headers.get("Range", ""))
        self.received = int(match[1]) + 1 if match else 0
        return False
