import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING

from google.cloud.storage import Blob

from ..base import ObjectStat
from ..capabilities import Parts
from ..content import NewObject
from .facts import compare, stat_of

if TYPE_CHECKING:
    from . import GCSStorage

COMPOSED_AT_ONCE = 32
#: The folder of intermediate objects of large compositions, which is never listed.
PARTIALS = "partials/compose/"


class GCSParts(Parts):
    def __init__(self, storage: "GCSStorage") -> None:
        super().__init__(storage)
        self._gcs = storage

    def compose(self, sources: Sequence[str], target: str, wanted: NewObject) -> ObjectStat | None:
        """See Parts. ``remove_partials`` removes what a killed composition of more than 32 sources left."""
        if self._gcs.kms_key_name:
            # The library's ``compose`` takes no key.
            return None
        blobs = [self._gcs.described(source) for source in sources]
        classes = {blob.storage_class for blob in blobs}
        wanted_class = wanted.storage_class or self._gcs.storage_class
        if len(classes) != 1 or (wanted_class and wanted_class not in classes):
            # A composed object has the common class of its sources.
            return None
        write_id = secrets.token_hex(16)
        partials: list[str] = []
        try:
            while len(blobs) > COMPOSED_AT_ONCE:
                groups = [blobs[at : at + COMPOSED_AT_ONCE] for at in range(0, len(blobs), COMPOSED_AT_ONCE)]
                blobs = []
                for group in groups:
                    partials.append(f"{PARTIALS}{write_id}/{len(partials)}")
                    blobs.append(self._compose(group, partials[-1], write_id, NewObject()))
            with self._gcs.undone_if_it_fails(target, write_id):
                return stat_of(target, self._compose(blobs, target, write_id, wanted))
        finally:
            for name in partials:
                self._gcs.remove_own(name, write_id)

    def _compose(self, blobs: Sequence[Blob], name: str, write_id: str, wanted: NewObject) -> Blob:
        blob = self._gcs.new_blob(name, write_id, wanted)
        composed = self._gcs.made(name, write_id, blob, "compose", blob.compose, blobs, if_generation_match=0)
        compare(composed, sum(part.size for part in blobs), composed.crc32c)
        return composed
