"""Google Cloud Storage, through its JSON API: https://cloud.google.com/storage/docs/json_api."""

import json
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from typing import Any

from django.core.files.base import File

from ..base import DirectUpload, Metadata, ObjectStat, OnParts, SignedRequest
from ..checksums import CRC32C, base64_of, md5
from ..errors import DirectUploadIncomplete, ObjectExists, ObjectNotFound, StorageError
from ..metadata import WRITE_ID, encode_metadata, write_id_of
from ..names import is_valid_name
from ..parts import PartReader
from ..remote import Body
from ..retry import TIDYING, call_with_retry, retry_policy
from .bucket import GCSBucket
from .http import Resource
from .objects import METADATA_BYTES, compare, stat_of
from .sessions import QUANTUM_BYTES, SessionGone, UploadSession, lost_content, part_bytes

DEFAULT_TYPE = "application/octet-stream"
COMPOSED_AT_ONCE = 32
#: Where compositions of more than that have their intermediate objects, which are never listed.
PARTIALS = "partials/compose/"
PARTIAL = re.compile(r"partials/compose/[0-9a-f]{32}/[0-9]+")


class GCSStorage(GCSBucket):
    """The objects of one bucket. For its options see ``GCSBucket``."""

    # Writing

    def save(  # type: ignore[override]
        self,
        name: str,
        content: "File[Any]",
        max_length: int | None = None,
        *,
        content_type: str = "",
        metadata: Metadata | None = None,
        storage_class: str = "",
    ) -> str:
        """See AudioStorage. A write that was killed leaves at most a session, which the storage forgets in a week."""
        self.check_name(name, max_length)
        write_id = secrets.token_hex(16)

        def description() -> Resource:
            return self._description(name, write_id, content_type, metadata, storage_class)

        at_first = description()
        with PartReader(content, part_bytes(), parallel=1) as reader:
            part = reader.next_part()
            with self._undone_if_it_fails(name, write_id):
                if reader.ended:
                    self._insert(description(), part)
                else:
                    stored = self._send_parts(at_first, reader, part)
                    self._describe(stored, description())
        return name

    def copy(self, source: str, target: str, *, storage_class: str = "") -> ObjectStat:
        self.check_name(source)
        self.check_name(target)
        original = call_with_retry(self._objects.get, source)
        write_id = secrets.token_hex(16)
        kept = {key: original[key] for key in ("contentType", "metadata") if key in original}
        wanted = {**self._description(target, write_id, "", None, storage_class), **kept}
        wanted["metadata"] = {**original.get("metadata", {}), WRITE_ID: write_id}

        with self._undone_if_it_fails(target, write_id):
            token: str | None = ""
            while token is not None:
                token = self._rewrite(original, wanted, token)
            copied = self._own(target, write_id)
            compare(copied, int(original["size"]), original["crc32c"])
        return stat_of(copied)

    def compose(
        self,
        sources: Sequence[str],
        target: str,
        *,
        content_type: str = "",
        metadata: Metadata | None = None,
        storage_class: str = "",
    ) -> ObjectStat:
        """See AudioStorage. What a kill leaves of more than 32 sources is removed by ``remove_partials``."""
        for name in (*sources, target):
            self.check_name(name)
        parts = [call_with_retry(self._objects.get, source) for source in sources]
        classes = {part["storageClass"] for part in parts}
        wanted_class = storage_class or self.storage_class
        if len(classes) != 1 or (wanted_class and wanted_class not in classes):
            # What the storage composes has the one class of all its sources.
            return super().compose(
                sources, target, content_type=content_type, metadata=metadata, storage_class=storage_class
            )
        write_id = secrets.token_hex(16)
        partials: list[str] = []
        try:
            while len(parts) > COMPOSED_AT_ONCE:
                groups = [parts[at : at + COMPOSED_AT_ONCE] for at in range(0, len(parts), COMPOSED_AT_ONCE)]
                parts = []
                for group in groups:
                    partials.append(f"{PARTIALS}{write_id}/{len(partials)}")
                    parts.append(self._compose(group, self._description(partials[-1], write_id, "", None, "")))
            wanted = self._description(target, write_id, content_type, metadata, storage_class)
            with self._undone_if_it_fails(target, write_id):
                return stat_of(self._compose(parts, wanted))
        finally:
            for name in partials:
                self._remove_own(name, write_id)

    def delete(self, name: str, *, seen: ObjectStat | None = None) -> None:
        self.check_name(name)
        with suppress(ObjectNotFound):
            call_with_retry(self._objects.delete, name, (seen or self.stat(name)).version)
        self._purge(name)

    def versions_of(self, name: str) -> int:
        """See AudioStorage: noncurrent generations, and what is soft-deleted."""
        self.check_name(name)
        return sum(len(self._versions(name, {kind: "true"})) for kind in ("versions", "softDeleted"))

    def remove_versions(self, name: str) -> None:
        """See AudioStorage. What is soft-deleted then, Google keeps until its time is over."""
        self.check_name(name)
        for version in self._versions(name, {"versions": "true"}):
            if "timeDeleted" in version:
                with suppress(ObjectNotFound):
                    call_with_retry(self._objects.delete_version, name, version["generation"])

    def _versions(self, name: str, kind: Mapping[str, str]) -> Sequence[Resource]:
        found: list[Resource] = []
        token = ""
        while True:
            page = call_with_retry(partial(self._objects.page, name, token, **kind))
            items = page.get("items", ())
            found += [item for item in items if item["name"] == name]
            token = page.get("nextPageToken", "")
            if not token or (items and items[-1]["name"] != name):
                return found

    # Reading

    def stat(self, name: str) -> ObjectStat:
        self.check_name(name)
        return stat_of(call_with_retry(self._objects.get, name))

    def fetch(self, stat: ObjectStat, start: int, length: int) -> Body:
        return self._objects.download(stat, start, length)

    def list(self, prefix: str = "") -> Iterator[ObjectStat]:
        return (stat for stat in self._pages(prefix) if not stat.name.startswith(PARTIALS))

    def remove_partials(self, older_than: datetime) -> int:
        """See AudioStorage: intermediate objects of compositions. Unfinished uploads end by themselves in a week."""
        removed = 0
        for stat in self._pages(PARTIALS):
            if PARTIAL.fullmatch(stat.name) and stat.modified_at < older_than:
                self.delete(stat.name)
                removed += 1
        return removed

    # Sent by clients themselves

    def begin_direct(
        self, name: str, *, size_bytes: int, content_type: str, metadata: Metadata, seconds: int, origin: str = ""
    ) -> DirectUpload:
        """See AudioStorage. How long the session lives is the storage's choice: a week.

        Scripts of other origins than the one that it began with get no answers that they may read:
        https://cloud.google.com/storage/docs/performing-resumable-uploads
        """
        self.check_name(name)
        write_id = secrets.token_hex(16)
        wanted = self._description(name, write_id, content_type, metadata, "")
        url = call_with_retry(self._objects.begin_session, wanted, size_bytes=size_bytes, origin=origin)
        return DirectUpload("session", json.dumps({"url": url, "write_id": write_id}), 0)

    def direct_requests(
        self, name: str, direct: DirectUpload, *, size_bytes: int, seconds: int
    ) -> Sequence[SignedRequest]:
        self.check_name(name)
        session, write_id = self._session_of(name, direct)
        try:
            if call_with_retry(session.ask, size_bytes) is not None:
                return []
        except SessionGone:
            if self._find_own(name, write_id) is None:
                raise
            return []
        # What is there goes on at a multiple of this; bytes that are sent again do no harm.
        start = session.received // QUANTUM_BYTES * QUANTUM_BYTES
        shown = f"{start}-{size_bytes - 1}" if size_bytes else "*"
        return [
            SignedRequest(
                number=1,
                method="PUT",
                url=session.url,
                headers={"Content-Range": f"bytes {shown}/{size_bytes}"},
                start=start,
                size=size_bytes - start,
            )
        ]

    def complete_direct(
        self,
        name: str,
        direct: DirectUpload,
        *,
        size_bytes: int,
        metadata: Metadata,
        etags: Mapping[int, str] | None = None,
        on_parts: OnParts | None = None,
    ) -> ObjectStat:
        self.check_name(name)
        session, write_id = self._session_of(name, direct)
        stored = self._find_own(name, write_id)
        if stored is None:
            # The last bytes may have been sent without saying that they were the last.
            if call_with_retry(session.ask, size_bytes) is None:
                raise DirectUploadIncomplete(expected=size_bytes, received=session.received)
            stored = self._own(name, write_id)
        if int(stored["size"]) != size_bytes:
            raise DirectUploadIncomplete(expected=size_bytes, received=int(stored["size"]))
        return stat_of(self._describe(stored, self._description(name, write_id, "", metadata, "")))

    def abort_direct(self, name: str, direct: DirectUpload) -> None:
        self.check_name(name)
        session, write_id = self._session_of(name, direct)
        call_with_retry(session.cancel)
        with suppress(ObjectExists):
            stored = self._find_own(name, write_id)
            if stored is not None:
                with suppress(ObjectNotFound):
                    call_with_retry(self._objects.delete, name, stored["generation"])

    # What all of them need

    def _description(
        self, name: str, write_id: str, content_type: str, metadata: Metadata | None, storage_class: str
    ) -> Resource:
        """Of an object that is to be made."""
        described = dict(metadata()) if metadata is not None else {}
        resource = {
            "name": name,
            "contentType": content_type or DEFAULT_TYPE,
            "metadata": encode_metadata(described, write_id, most_bytes=METADATA_BYTES),
            "storageClass": storage_class or self.storage_class,
        }
        return {key: value for key, value in resource.items() if value}

    def _insert(self, wanted: Resource, content: bytearray) -> None:
        crc32c = base64_of(CRC32C(content))
        stored = self._made(
            wanted, self._objects.insert, {**wanted, "md5Hash": base64_of(md5(content)), "crc32c": crc32c}, content
        )
        compare(stored, len(content), crc32c)

    def _send_parts(self, wanted: Resource, reader: PartReader, first: bytearray) -> Resource:
        url = call_with_retry(self._objects.begin_session, wanted)
        session = UploadSession(self._objects.requests, wanted["name"], url)
        try:
            size, crc32c = session.send_all(reader, first)
            stored = self._own(wanted["name"], wanted["metadata"][WRITE_ID])
        except BaseException:
            session.cancel_if_possible()
            raise
        compare(stored, size, crc32c)
        return stored

    def _rewrite(self, original: Resource, wanted: Resource, token: str) -> str | None:
        """Copy for a while; return the token to go on with, None at the end."""
        try:
            answer = call_with_retry(self._objects.rewrite, original, wanted, token)
        except ObjectExists:
            # It may be ours, after an answer that was lost.
            return None
        return None if answer["done"] else str(answer["rewriteToken"])

    def _describe(self, stored: Resource, wanted: Resource) -> Resource:
        """Bring an object's metadata up to date."""
        if stored.get("metadata") == wanted["metadata"]:
            return stored
        changes = {"metadata": wanted["metadata"]}
        return call_with_retry(self._objects.describe, stored["name"], stored["generation"], changes)

    def _compose(self, parts: Sequence[Resource], wanted: Resource) -> Resource:
        composed = self._made(wanted, self._objects.compose, parts, wanted)
        compare(composed, sum(int(part["size"]) for part in parts), composed["crc32c"])
        return composed

    def _made(self, wanted: Resource, make: Callable[..., Resource], *args: Any) -> Resource:
        """Call ``make(*args)`` until it answers. Raises ObjectExists if there is an object, and it is not our own."""
        try:
            return call_with_retry(make, *args)
        except ObjectExists:
            return self._own(wanted["name"], wanted["metadata"][WRITE_ID])

    def _own(self, name: str, write_id: str) -> Resource:
        """The object that we made. Raises ObjectExists if it is another one, TransientStorageError if there is none."""
        resource = self._find_own(name, write_id)
        if resource is None:
            raise lost_content()
        return resource

    def _find_own(self, name: str, write_id: str) -> Resource | None:
        """The object that we made; None if there is none. Raises ObjectExists if it is another one."""
        try:
            resource = call_with_retry(self._objects.get, name)
        except ObjectNotFound:
            return None
        if write_id_of(resource.get("metadata", {})) != write_id:
            raise ObjectExists
        return resource

    @contextmanager
    def _undone_if_it_fails(self, name: str, write_id: str) -> Iterator[None]:
        try:
            yield
        except ObjectExists:
            raise
        except BaseException:
            self._remove_own(name, write_id)
            raise

    def _remove_own(self, name: str, write_id: str) -> None:
        """Asks once: what it cannot reach, a sweep takes later."""
        with suppress(StorageError), retry_policy(TIDYING):
            resource = self._find_own(name, write_id)
            if resource is not None:
                self._objects.delete(name, resource["generation"])

    def _pages(self, prefix: str) -> Iterator[ObjectStat]:
        token = ""
        while True:
            page = call_with_retry(self._objects.page, prefix, token)
            for resource in page.get("items", ()):
                if is_valid_name(resource["name"]):
                    yield stat_of(resource)
            token = page.get("nextPageToken", "")
            if not token:
                return

    def _session_of(self, name: str, direct: DirectUpload) -> tuple[UploadSession, str]:
        handle = json.loads(direct.handle)
        return UploadSession(self._objects.requests, name, handle["url"]), handle["write_id"]
