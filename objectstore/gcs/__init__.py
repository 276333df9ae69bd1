"""Objects in a bucket of Google Cloud Storage, through Google's library without its retries, which are
limited by time.
"""

import io
import re
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from typing import Any

from django.core.files.base import File
from google.cloud.storage import Blob, Bucket, Client

from ..base import EncryptionReference, ObjectStat
from ..capabilities import StorageClasses
from ..checksums import CRC32C, base64_of, md5
from ..content import Metadata, NewObject
from ..errors import BucketNotFound, ObjectExists, ObjectNotFound, StorageError
from ..metadata import WRITE_ID, encode_metadata, write_id_of
from ..names import is_valid_name
from ..parts import PartReader
from ..remote import Body, RemoteStorage, checked_body
from ..retry import TIDYING, call_with_retry, retry_policy
from .access import Session, find_credentials
from .control import GCSBucketControl
from .direct_uploads import GCSDirectUploads
from .errors import vendor_errors
from .facts import check_described, compare, lost_content, stat_of
from .parts import COMPOSED, GCSParts
from .rules import GCSRules
from .sessions import UploadSession, part_bytes
from .signing import GCSSigner

DEFAULT_TYPE = "application/octet-stream"
#: The library sends an object of at most this size in one request.
INSERTED_BYTES = 8 * 1024**2
PARTIAL = re.compile(r"partials/compose/[0-9a-f]{32}/[0-9]+")
LISTED = (
    "kind,nextPageToken,items(name,size,timeCreated,timeDeleted,storageClass,contentType,md5Hash,crc32c,generation)"
)
#: Custom metadata of an object: https://cloud.google.com/storage/quotas#objects
METADATA_BYTES = 8 * 1024


class GCSStorage(RemoteStorage):
    """The objects of one bucket, under the prefix ``location``.

    ``credentials_file`` is Google's file, ``credentials`` an object of google-auth; default: where Google's library
    looks. ``endpoint_url`` is another server, which gets anonymous requests unless credentials are given. ``region`` is
    where the bucket is created. ``kms_key_name`` and ``storage_class`` apply to new objects.
    """

    provider = "gcs"

    #: Objects in a page of a listing.
    page_names = 1000

    def __init__(
        self,
        *,
        bucket_name: str,
        location: str = "",
        project_id: str | None = None,
        credentials: Any = None,
        credentials_file: str = "",
        region: str = "",
        endpoint_url: str = "",
        kms_key_name: str = "",
        storage_class: str = "",
        purge_versions: bool = False,
    ) -> None:
        self.bucket_name = bucket_name
        #: The prefix of our names in the bucket, with its ``/``; empty where we have the whole bucket.
        self.folder = f"{location.strip('/')}/" if location.strip("/") else ""
        self.region = region
        self.endpoint_url = endpoint_url
        self.kms_key_name = kms_key_name
        self.storage_class = storage_class
        self.purge_versions = purge_versions
        if kms_key_name:
            self.encryption_key = EncryptionReference("gcp-kms", kms_key_name)
        self._project_id = project_id
        self._credentials = credentials
        self._credentials_file = credentials_file
        self._lock = threading.Lock()
        self._made: tuple[Client, Session] | None = None
        self.parts = GCSParts(self)
        self.direct = GCSDirectUploads(self)
        self.signer = GCSSigner(self)
        self.classes = StorageClasses(self)
        self.rules = GCSRules(self)
        self.bucket = GCSBucketControl(self)

    # Writing

    def _write(self, name: str, content: "File[Any]", wanted: NewObject) -> None:
        """See AudioStorage. A killed write leaves at most an upload session, which ends in a week."""
        self.write_as(name, secrets.token_hex(16), content, wanted)

    def write_as(self, name: str, write_id: str, content: "File[Any]", wanted: NewObject) -> None:
        at_first = NewObject(wanted.content_type, partial(dict, wanted.metadata()), wanted.storage_class)
        with PartReader(content, part_bytes(), parallel=1) as reader:
            part = reader.next_part()
            with self.undone_if_it_fails(name, write_id):
                if reader.ended and len(part) <= INSERTED_BYTES:
                    self._insert(name, write_id, part, wanted)
                else:
                    stored = self._send_parts(name, write_id, reader, part, at_first)
                    self.describe(name, stored, write_id, wanted.metadata)

    def copy(self, source: str, target: str, *, storage_class: str = "") -> ObjectStat:
        self.check_name(target)
        original = self.described(source)
        write_id = secrets.token_hex(16)
        copied = self.new_blob(target, write_id, NewObject(original.content_type or "", dict, storage_class))
        copied.metadata = {**(original.metadata or {}), WRITE_ID: write_id}
        with self.undone_if_it_fails(target, write_id):
            token: str | None = None
            # An existing object may be ours, after a lost response.
            with suppress(ObjectExists):
                while True:
                    rewrite = partial(copied.rewrite, original, token=token, if_generation_match=0)
                    token, _copied_bytes, _all_bytes = self.ask("copy", target, rewrite)
                    if token is None:
                        break
            copied = self.own(target, write_id)
            compare(copied, original.size, original.crc32c)
        return stat_of(target, copied)

    def delete(self, name: str, *, seen: ObjectStat | None = None) -> None:
        # There is another generation, or none.
        with suppress(ObjectExists, ObjectNotFound):
            version = (seen or self.stat(name)).version
            self.ask("delete", name, self.blob(name).delete, if_generation_match=int(version))
        self._purge(name)

    # Reading

    def stat(self, name: str) -> ObjectStat:
        return stat_of(name, self.described(name))

    def fetch(self, stat: ObjectStat, start: int, length: int) -> Body:
        response = self.session.send_plain(
            "GET",
            f"{self.client.api_endpoint}/download/storage/v1{self.blob(stat.name).path}",
            action="read",
            name=stat.name,
            expected=frozenset({200, 206}),
            is_streamed=True,
            params={"alt": "media", "generation": stat.version},
            # Allowing gzip prevents decompression on the way: these are the bytes as written.
            headers={"Range": f"bytes={start}-{start + length - 1}", "Accept-Encoding": "gzip"},
        )
        take = partial(response.raw.read, decode_content=False)
        return checked_body(
            Body(take, response.close, partial(vendor_errors, "read", stat.name)),
            stat,
            start,
            length,
            version=response.headers.get("X-Goog-Generation", stat.version),
            status=response.status_code,
            content_range=response.headers.get("Content-Range", ""),
        )

    def location_of(self, name: str) -> str:
        self.check_name(name)
        return f"gs://{self.bucket_name}/{self.folder}{name}"

    def remove_partials(self, older_than: datetime, *, sessions_older_than: datetime | None = None) -> int:
        """See AudioStorage: intermediate objects of compositions. Unfinished uploads end by themselves in a week."""
        removed = 0
        for stat in self._list(COMPOSED):
            if PARTIAL.fullmatch(stat.name) and stat.modified_at < older_than:
                self.delete(stat.name, seen=stat)
                removed += 1
        return removed + self._remove_session_objects(sessions_older_than or older_than)

    # For this package

    @property
    def client(self) -> Client:
        return self._reached()[0]

    @property
    def session(self) -> Session:
        return self._reached()[1]

    @property
    def google_bucket(self) -> Bucket:
        return self.client.bucket(self.bucket_name)

    def blob(self, name: str) -> Blob:
        self.check_name(name)
        return self.google_bucket.blob(self.folder + name)

    def new_blob(self, name: str, write_id: str, wanted: NewObject) -> Blob:
        self.check_name(name)
        blob = self.google_bucket.blob(self.folder + name, kms_key_name=self.kms_key_name or None)
        blob.content_type = wanted.content_type or DEFAULT_TYPE
        blob.metadata = encode_metadata(wanted.metadata(), write_id, most_bytes=METADATA_BYTES)
        if wanted.storage_class or self.storage_class:
            blob.storage_class = wanted.storage_class or self.storage_class
        return blob

    def ask(
        self,
        action: str,
        name: str,
        call: Callable[..., Any],
        *args: Any,
        missing: type[StorageError] = ObjectNotFound,
        **options: Any,
    ) -> Any:
        """Call a function of Google's library by the retry policy. Raises StorageErrors only."""

        def ask_once() -> Any:
            with vendor_errors(action, name, missing=missing):
                return call(*args, retry=None, **options)

        return call_with_retry(ask_once)

    def described(self, name: str) -> Blob:
        """Raises ObjectNotFound."""
        blob = self.blob(name)
        self.ask("stat", name, blob.reload)
        check_described(blob)
        return blob

    def describe(self, name: str, stored: Blob, write_id: str, metadata: Metadata) -> None:
        wanted = encode_metadata(metadata(), write_id, most_bytes=METADATA_BYTES)
        if stored.metadata != wanted:
            stored.metadata = wanted
            self.ask("describe", name, stored.patch)
            check_described(stored)

    def begin_session(
        self, name: str, write_id: str, wanted: NewObject, *, size_bytes: int | None = None, origin: str = ""
    ) -> str:
        """A secret URL that suffices to write this object."""
        begin = self.new_blob(name, write_id, wanted).create_resumable_upload_session
        options = {"size": size_bytes, "origin": origin or None, "checksum": None, "if_generation_match": 0}
        return str(self.ask("write", name, begin, missing=BucketNotFound, **options))

    def made(
        self, name: str, write_id: str, blob: Blob, action: str, make: Callable[..., Any], *args: Any, **options: Any
    ) -> Blob:
        """Call ``make``, which creates ``blob``. Raises ObjectExists for an object of another write."""
        try:
            self.ask(action, name, make, *args, **options)
        except ObjectExists:
            return self.own(name, write_id)
        check_described(blob)
        return blob

    def own(self, name: str, write_id: str) -> Blob:
        """Raises ObjectExists for an object of another write, TransientStorageError for none."""
        blob = self.find_own(name, write_id)
        if blob is None:
            raise lost_content()
        return blob

    def find_own(self, name: str, write_id: str) -> Blob | None:
        """None if there is no object. Raises ObjectExists for that of another write."""
        try:
            blob = self.described(name)
        except ObjectNotFound:
            return None
        if write_id_of(blob.metadata or {}) != write_id:
            raise ObjectExists
        return blob

    @contextmanager
    def undone_if_it_fails(self, name: str, write_id: str) -> Iterator[None]:
        try:
            yield
        except ObjectExists:
            raise
        except BaseException:
            self.remove_own(name, write_id)
            raise

    def remove_own(self, name: str, write_id: str) -> None:
        with suppress(StorageError), retry_policy(TIDYING):
            blob = self.find_own(name, write_id)
            if blob is not None:
                self.delete(name, seen=stat_of(name, blob))

    def blobs(self, prefix: str, **kind: bool) -> Iterator[Blob]:
        token: str | None = None
        while True:
            page, token = call_with_retry(self._page, prefix, token, kind)
            yield from page
            if not token:
                return

    def _page(self, prefix: str, token: str | None, kind: dict[str, bool]) -> tuple[Sequence[Blob], str | None]:
        with vendor_errors("list", prefix, missing=BucketNotFound):
            found = self.client.list_blobs(
                self.bucket_name,
                prefix=self.folder + prefix,
                page_token=token,
                page_size=self.page_names,
                fields=LISTED,
                retry=None,
                **kind,
            )
            return tuple(next(found.pages, ())), found.next_page_token

    def _list(self, prefix: str) -> Iterator[ObjectStat]:
        for blob in self.blobs(prefix):
            name = blob.name.removeprefix(self.folder)
            if is_valid_name(name):
                yield stat_of(name, blob)

    def _insert(self, name: str, write_id: str, content: bytearray, wanted: NewObject) -> None:
        blob = self.new_blob(name, write_id, wanted)
        blob.md5_hash, blob.crc32c = base64_of(md5(content)), (crc32c := base64_of(CRC32C(content)))
        upload = partial(blob.upload_from_file, io.BytesIO(content), rewind=True, size=len(content), checksum=None)
        stored = self.made(name, write_id, blob, "write", upload, missing=BucketNotFound, if_generation_match=0)
        compare(stored, len(content), crc32c)

    def _send_parts(self, name: str, write_id: str, reader: PartReader, first: bytearray, wanted: NewObject) -> Blob:
        session = UploadSession(self.session, name, self.begin_session(name, write_id, wanted))
        try:
            size, crc32c = session.send_all(reader, first)
            stored = self.own(name, write_id)
        except BaseException:
            session.cancel_if_possible()
            raise
        compare(stored, size, crc32c)
        return stored

    def _reached(self) -> tuple[Client, Session]:
        with self._lock:
            if self._made is None:
                credentials, project = self._credentials, None
                if credentials is None:
                    with vendor_errors("find credentials"):
                        credentials, project = find_credentials(self._credentials_file, bool(self.endpoint_url))
                session, universe = Session(credentials), credentials.universe_domain
                endpoint = self.endpoint_url.rstrip("/") or f"https://storage.{universe}"
                client = Client(
                    project=self._project_id or project,
                    credentials=credentials,
                    _http=session,
                    client_options={"api_endpoint": endpoint, "universe_domain": universe},
                )
                self._made = client, session
            return self._made
