"""What Google Cloud Storage makes of stored objects.

The parts of an upload over several requests are objects of their own, not bytes of a resumable session: what is in a
session cannot be taken back, and the bytes of two writers would mix.
"""

import secrets
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from django.conf import settings
from google.cloud.storage import Blob

from ..base import ObjectStat
from ..capabilities import IsMine, Parts, PartsOf, StoredPart
from ..content import Metadata, NewObject, StreamedContent
from ..errors import NotMine, ObjectNotFound, PartsDiffer
from ..names import PARTIALS, SESSIONS
from .facts import compare, stat_of

if TYPE_CHECKING:
    from . import GCSStorage

COMPOSED_AT_ONCE = 32
#: The folder of intermediate objects of large compositions, which is never listed.
COMPOSED = f"{PARTIALS}compose/"
MIB = 1024**2


class GCSParts(Parts):
    """The handle is the write id of the object that is made; the tag of a part is the name of its object, in the
    handle's folder.
    """

    # Each part is a request, and a row.
    most_parts = 10_000
    # https://cloud.google.com/storage/quotas#objects
    most_bytes = 5 * 1024**4

    def __init__(self, storage: "GCSStorage") -> None:
        super().__init__(storage)
        self._gcs = storage

    def compose(self, sources: Sequence[str], target: str, wanted: NewObject) -> ObjectStat | None:
        """See Parts. ``remove_partials`` removes what a killed composition of more than 32 sources left."""
        blobs = [self._gcs.described(source) for source in sources]
        if not self._can_compose(blobs, wanted):
            return None
        write_id = secrets.token_hex(16)
        with self._gcs.undone_if_it_fails(target, write_id):
            return stat_of(target, self._compose_all(blobs, target, write_id, wanted))

    def part_bytes(self, size_bytes: int | None) -> int:
        needed = -(-(size_bytes or 0) // self.most_parts)
        return max(int(settings.STORAGE_PART_BYTES), -(-needed // MIB) * MIB)

    def begin(
        self, name: str, *, size_bytes: int | None, part_bytes: int, content_type: str, metadata: Metadata
    ) -> str:
        self._gcs.check_name(name)
        return secrets.token_hex(16)

    def write(self, name: str, handle: str, *, number: int, start: int, data: memoryview, is_mine: IsMine) -> str:
        if not is_mine():
            raise NotMine
        tag = f"{number:05}-{secrets.token_hex(8)}"
        self._gcs.save(f"{SESSIONS}{handle}/{tag}", StreamedContent([data], expected_bytes=len(data)))
        return tag

    def complete(
        self,
        name: str,
        handle: str,
        parts: Sequence[StoredPart],
        *,
        size_bytes: int,
        part_bytes: int,
        content_type: str,
        metadata: Metadata,
    ) -> ObjectStat:
        whole = PartsOf(name, handle, parts, size_bytes, part_bytes)
        return self.join(name, handle, [whole], size_bytes=size_bytes, content_type=content_type, metadata=metadata)

    def join(
        self,
        name: str,
        handle: str,
        sources: Sequence[PartsOf],
        *,
        size_bytes: int,
        content_type: str,
        metadata: Metadata,
    ) -> ObjectStat:
        """See Parts. The parts of all of them are composed at once."""
        found = self._gcs.find_own(name, handle)
        if found is None:
            pieces = [blob for source in sources for blob in self._pieces_of(source)]
            wanted = NewObject(content_type, metadata)
            with self._gcs.undone_if_it_fails(name, handle):
                if pieces and self._can_compose(pieces, wanted):
                    found = self._compose_all(pieces, name, handle, wanted)
                else:
                    content = StreamedContent(self._read(pieces), expected_bytes=size_bytes)
                    self._gcs.write_as(name, handle, content, wanted)
                    found = self._gcs.own(name, handle)
        if found.size != size_bytes:
            raise PartsDiffer
        for source in sources:
            self._remove_pieces(source.handle)
        return stat_of(name, found)

    def abort(self, name: str, handle: str) -> None:
        self._remove_pieces(handle)

    def _pieces_of(self, source: PartsOf) -> list[Blob]:
        """Raises PartsDiffer where one is missing."""
        there = {blob.name.rpartition("/")[2]: blob for blob in self._gcs.blobs(f"{SESSIONS}{source.handle}/")}
        pieces = [there.get(part.tag) for part in source.parts]
        if [piece and piece.size for piece in pieces] != [part.size_bytes for part in source.parts]:
            raise PartsDiffer
        return [piece for piece in pieces if piece is not None]

    def _remove_pieces(self, handle: str) -> None:
        for blob in list(self._gcs.blobs(f"{SESSIONS}{handle}/")):
            name = blob.name.removeprefix(self._gcs.folder)
            with suppress(ObjectNotFound):
                self._gcs.delete(name, seen=stat_of(name, blob))

    def _read(self, pieces: Sequence[Blob]) -> Iterator[bytes]:
        return self._gcs._pieces_of([blob.name.removeprefix(self._gcs.folder) for blob in pieces])

    def _can_compose(self, blobs: Sequence[Blob], wanted: NewObject) -> bool:
        """The library's ``compose`` takes no key, and a composed object has the common class of its sources."""
        classes = {blob.storage_class for blob in blobs}
        wanted_class = wanted.storage_class or self._gcs.storage_class
        return not self._gcs.kms_key_name and len(classes) == 1 and (not wanted_class or wanted_class in classes)

    def _compose_all(self, blobs: Sequence[Blob], target: str, write_id: str, wanted: NewObject) -> Blob:
        attempt = secrets.token_hex(16)
        partials: list[str] = []
        try:
            while len(blobs) > COMPOSED_AT_ONCE:
                groups = [blobs[at : at + COMPOSED_AT_ONCE] for at in range(0, len(blobs), COMPOSED_AT_ONCE)]
                blobs = []
                for group in groups:
                    partials.append(f"{COMPOSED}{attempt}/{len(partials)}")
                    blobs.append(self._compose(group, partials[-1], attempt, NewObject()))
            return self._compose(blobs, target, write_id, wanted)
        finally:
            for name in partials:
                self._gcs.remove_own(name, attempt)

    def _compose(self, blobs: Sequence[Blob], name: str, write_id: str, wanted: NewObject) -> Blob:
        blob = self._gcs.new_blob(name, write_id, wanted)
        composed = self._gcs.made(name, write_id, blob, "compose", blob.compose, blobs, if_generation_match=0)
        compare(composed, sum(part.size for part in blobs), composed.crc32c)
        return composed
