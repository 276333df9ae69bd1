import json
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from ..base import ObjectStat
from ..capabilities import DirectUpload, DirectUploads, OnParts, SignedRequest
from ..content import Metadata, NewObject
from ..errors import DirectUploadIncomplete, ObjectExists
from ..names import check_name
from ..retry import call_with_retry
from .facts import stat_of
from .sessions import QUANTUM_BYTES, SessionGone, UploadSession

if TYPE_CHECKING:
    from . import GCSStorage


class GCSDirectUploads(DirectUploads):
    def __init__(self, storage: "GCSStorage") -> None:
        self._storage = storage

    def begin(
        self, name: str, *, size_bytes: int, content_type: str, metadata: Metadata, seconds: int, origin: str = ""
    ) -> DirectUpload:
        """See DirectUploads. The session lives for a week, whatever ``seconds``. Scripts of origins other than
        ``origin`` cannot read its responses: https://cloud.google.com/storage/docs/performing-resumable-uploads
        """
        check_name(name)
        write_id = secrets.token_hex(16)
        url = self._storage.begin_session(
            name, write_id, NewObject(content_type, metadata), size_bytes=size_bytes, origin=origin
        )
        return DirectUpload("session", json.dumps({"url": url, "write_id": write_id}), 0)

    def requests(self, name: str, direct: DirectUpload, *, size_bytes: int, seconds: int) -> Sequence[SignedRequest]:
        check_name(name)
        session, write_id = self._session_of(name, direct)
        try:
            if call_with_retry(session.ask, size_bytes):
                return []
        except SessionGone:
            if self._storage.find_own(name, write_id) is None:
                raise
            return []
        # A session continues at a multiple of the quantum; bytes sent twice do no harm.
        start = session.received // QUANTUM_BYTES * QUANTUM_BYTES
        shown = f"{start}-{size_bytes - 1}" if size_bytes else "*"
        headers = {"Content-Range": f"bytes {shown}/{size_bytes}"}
        return [SignedRequest(1, "PUT", session.url, headers, start, size_bytes - start)]

    def complete(
        self,
        name: str,
        direct: DirectUpload,
        *,
        size_bytes: int,
        metadata: Metadata,
        etags: Mapping[int, str] | None = None,
        on_parts: OnParts | None = None,
    ) -> ObjectStat:
        check_name(name)
        session, write_id = self._session_of(name, direct)
        stored = self._storage.find_own(name, write_id)
        if stored is None:
            # The client may have sent the last bytes without marking them as the last.
            if not call_with_retry(session.ask, size_bytes):
                raise DirectUploadIncomplete(expected=size_bytes, received=session.received)
            stored = self._storage.own(name, write_id)
        if stored.size != size_bytes:
            raise DirectUploadIncomplete(expected=size_bytes, received=stored.size)
        self._storage.describe(name, stored, write_id, metadata)
        return stat_of(name, stored)

    def abort(self, name: str, direct: DirectUpload) -> None:
        check_name(name)
        session, write_id = self._session_of(name, direct)
        call_with_retry(session.cancel)
        with suppress(ObjectExists):
            stored = self._storage.find_own(name, write_id)
            if stored is not None:
                self._storage.delete(name, seen=stat_of(name, stored))

    def _session_of(self, name: str, direct: DirectUpload) -> tuple[UploadSession, str]:
        handle = json.loads(direct.handle)
        return UploadSession(self._storage.session, name, handle["url"]), handle["write_id"]
