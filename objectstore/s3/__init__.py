"""Objects in a bucket of Amazon S3 or of a compatible server: https://docs.aws.amazon.com/AmazonS3/latest/API/.

Options and sessions are those of django-storages, whose reads and writes are not used, since they overwrite objects.
"""

import secrets
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import partial
from typing import Any

import structlog
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.files.base import File
from storages.backends.s3 import S3Storage as DjangoS3Storage

from ..base import Availability, EncryptionReference, ObjectStat
from ..content import NewObject, expected_bytes_of
from ..errors import ObjectArchived, ObjectExists, PermanentStorageError, StorageError
from ..names import OUR_FOLDERS, is_valid_name
from ..parts import PartReader, send_parts
from ..remote import Body, RemoteStorage, checked_body
from .bucket import S3BucketControl
from .classes import S3Classes
from .clients import ClientOptions
from .direct_uploads import S3DirectUploads
from .errors import s3_errors
from .facts import headers_of, stat_of, storage_class_of, tags_of
from .multipart import MAX_PARTS, MOST_PART_BYTES, MultipartUpload, checksum_of, part_size, ranges_of
from .parts import S3Parts, make_of
from .requests import OBJECTS, UPLOADS, Bucket
from .rules import S3Rules
from .signing import S3Signer

log = structlog.get_logger(__name__)

ENCRYPTIONS = ("AES256", "aws:kms", "bucket", "none")


class S3Storage(RemoteStorage):
    """One bucket. Options are those of django-storages, and these:

    ``public_endpoint_url`` is the endpoint for clients. ``encryption`` is ``AES256``, ``aws:kms`` (with ``kms_key_id``,
    or the account's key), ``bucket`` (its default) or ``none``. ``storage_class`` is that of new objects.
    ``request_checksum`` is ``when_supported``, or ``when_required`` for servers that know only MD5.
    ``conditional_writes``: the server refuses a taken name; without it, we look first, and two parallel writers can
    collide.
    """

    provider = "s3"

    #: The limit of one copy request; a larger object is copied in pieces of this size.
    most_copied_bytes = MOST_PART_BYTES
    copied_part_bytes = 512 * 1024**2

    def __init__(
        self,
        *,
        public_endpoint_url: str | None = None,
        encryption: str = "AES256",
        kms_key_id: str = "",
        storage_class: str = "",
        request_checksum: str = "when_supported",
        conditional_writes: bool = True,
        purge_versions: bool = False,
        **options: Any,
    ) -> None:
        if encryption not in ENCRYPTIONS:
            raise ImproperlyConfigured(f"The encryption of an S3 storage is one of {', '.join(ENCRYPTIONS)}.")
        self.encryption = encryption
        self.storage_class = storage_class
        self.request_checksum = request_checksum
        self.conditional_writes = conditional_writes
        self.purge_versions = purge_versions
        self._given = {
            **options,
            "public_endpoint_url": public_endpoint_url,
            "encryption": encryption,
            "kms_key_id": kms_key_id,
            "storage_class": storage_class,
            "request_checksum": request_checksum,
            "conditional_writes": conditional_writes,
            "purge_versions": purge_versions,
        }
        theirs = self._theirs = DjangoS3Storage(**options)
        wanted = options.get("client_config") or theirs.get_default_settings()["client_config"]
        self._clients = ClientOptions(theirs, wanted, request_checksum=request_checksum)
        self.bucket_name = theirs.bucket_name
        self.region = theirs.region_name or theirs._create_session().region_name or ""
        if encryption == "aws:kms" and kms_key_id:
            self.encryption_key = EncryptionReference("aws-kms", kms_key_id)
        self._keeps_tags = True
        self.requests = self._bucket_at(theirs.endpoint_url)
        signing = self._bucket_at(public_endpoint_url) if public_endpoint_url else self.requests
        self.parts = S3Parts(self)
        self.direct = S3DirectUploads(self.requests, signing, self.new_object)
        self.signer = S3Signer(signing)
        self.classes = S3Classes(self)
        self.rules = S3Rules(self.requests)
        self.bucket = S3BucketControl(self)

    def with_options(self, **changes: Any) -> "S3Storage":
        return type(self)(**{**self._given, **changes})

    @property
    def is_amazon(self) -> bool:
        return self._clients.is_amazon

    # Writing

    def _write(self, name: str, content: "File[Any]", wanted: NewObject) -> None:
        """See AudioStorage. Late metadata of an object in parts becomes tags."""
        expected = expected_bytes_of(content)
        size = part_size(expected, least=settings.STORAGE_PART_BYTES)
        write_id = secrets.token_hex(16)
        # The part size doubles after each tenth of the parts: from 8 MiB on, enough for the largest object of 5 TiB.
        grows_after = 0 if expected else MAX_PARTS // 10
        with PartReader(content, size, settings.STORAGE_PARALLEL_PARTS, grows_after=grows_after) as reader:
            first = reader.next_part()
            known = dict(wanted.metadata())
            parameters = self.new_object(wanted.content_type, wanted.storage_class, headers_of(known, write_id))
            if reader.ended:
                checksum = checksum_of(first, self.request_checksum)
                self.requests.make("put_object", name, write_id, Body=first, **checksum, **parameters)
                return
            upload = MultipartUpload.begin(self.requests, name, checksum=self.request_checksum, **parameters)
            try:
                parts = send_parts(reader, first, upload.send, parallel=settings.STORAGE_PARALLEL_PARTS)
            except BaseException:
                upload.try_to_abort()
                raise
            upload.complete(parts, write_id)
        self.tag(name, known, wanted.metadata())

    def copy(self, source: str, target: str, *, storage_class: str = "") -> ObjectStat:
        self.check_name(target)
        stat = self.stat(source)
        if stat.availability is not Availability.READABLE:
            raise ObjectArchived
        if self.exists(target):
            raise ObjectExists
        write_id = secrets.token_hex(16)
        parameters = self.new_object(stat.content_type, storage_class, headers_of(stat.metadata, write_id))
        if stat.size <= self.most_copied_bytes:
            self.requests.make(
                "copy_object",
                target,
                write_id,
                CopySource={"Bucket": self.bucket_name, "Key": self.requests.key(source)},
                CopySourceIfMatch=stat.version,
                MetadataDirective="REPLACE",
                **parameters,
            )
        else:
            most_bytes = part_size(stat.size, least=self.copied_part_bytes)
            make_of(self.requests, target, list(ranges_of(stat, most_bytes)), write_id, parameters)
        return self._stat_of_new(target, size_bytes=stat.size)

    def delete(self, name: str, *, seen: ObjectStat | None = None) -> None:
        self.check_name(name)
        self.requests.remove(name, seen=seen)
        self._purge(name)

    # Reading

    def stat(self, name: str) -> ObjectStat:
        self.check_name(name)
        return stat_of(name, self.requests.head(name))

    def fetch(self, stat: ObjectStat, start: int, length: int) -> Body:
        asked = f"bytes={start}-{start + length - 1}"
        answer = self.requests.ask_once("get_object", stat.name, IfMatch=stat.version, Range=asked)
        stream = answer["Body"]
        return checked_body(
            Body(stream.read, stream.close, partial(s3_errors, "get_object", stat.name)),
            stat,
            start,
            length,
            # Some servers ignore If-Match.
            version=answer["ETag"],
            status=answer["ResponseMetadata"]["HTTPStatusCode"],
            content_range=answer.get("ContentRange", ""),
        )

    def _list(self, prefix: str) -> Iterator[ObjectStat]:
        for entry in self.requests.entries(OBJECTS, Prefix=self.requests.key(prefix)):
            name = self.requests.name_of(entry["Key"])
            if is_valid_name(name):
                yield ObjectStat(
                    name,
                    entry["Size"],
                    entry["LastModified"],
                    storage_class=storage_class_of(entry),
                    version=entry["ETag"],
                )

    def location_of(self, name: str) -> str:
        self.check_name(name)
        return f"s3://{self.bucket_name}/{self.requests.key(name)}"

    def remove_partials(self, older_than: datetime, *, sessions_older_than: datetime | None = None) -> int:
        """See AudioStorage. Uploads of other people to other places in the bucket are not touched."""
        removed = 0
        for entry in self.requests.entries(UPLOADS, Prefix=self.requests.key("")):
            upload = MultipartUpload(self.requests, self.requests.name_of(entry["Key"]), entry["UploadId"])
            is_ours = is_valid_name(upload.name) and upload.name.startswith(OUR_FOLDERS)
            # Which of them are of one request alone, nobody can tell.
            before = sessions_older_than or older_than
            if is_ours and entry["Initiated"] < before and upload.rests_since(before):
                upload.abort()
                removed += 1
        return removed + self._remove_session_objects(sessions_older_than or older_than)

    # For this package

    def new_object(self, content_type: str, storage_class: str, metadata: Mapping[str, str]) -> dict[str, Any]:
        parameters: dict[str, Any] = {**self._theirs.object_parameters, "Metadata": metadata}
        if content_type:
            parameters["ContentType"] = content_type
        if self._theirs.default_acl:
            parameters["ACL"] = self._theirs.default_acl
        if self.encryption not in ("none", "bucket"):
            parameters["ServerSideEncryption"] = self.encryption
        if self.encryption_key is not None:
            parameters["SSEKMSKeyId"] = self.encryption_key.key_reference
        if storage_class or self.storage_class:
            parameters["StorageClass"] = storage_class or self.storage_class
        return parameters

    def tag(self, name: str, known: Mapping[str, str], facts: Mapping[str, str]) -> None:
        """Keep facts that came too late for metadata, where server and key allow tags."""
        tags = tags_of({key: value for key, value in facts.items() if known.get(key) != value})
        if not tags or not self._keeps_tags:
            return
        try:
            self.requests.ask("put_object_tagging", name, Tagging={"TagSet": tags})
        except PermanentStorageError:
            self._keeps_tags = False
            log.warning("s3_keeps_no_tags", bucket=self.bucket_name)
        except StorageError:
            log.warning("s3_object_not_tagged", name=name)

    def _bucket_at(self, endpoint_url: str | None) -> Bucket:
        return Bucket(
            self.bucket_name,
            self._theirs.location,
            lambda: self._clients.client_at(endpoint_url or None),
            is_conditional=self.conditional_writes,
            asks_for_checksums=self.request_checksum == "when_supported",
        )
