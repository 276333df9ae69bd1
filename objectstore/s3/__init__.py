"""Objects in a bucket of Amazon S3, or of any server that speaks as it does.

https://docs.aws.amazon.com/AmazonS3/latest/API/. What django-storages offers besides (ways to sign in, proxies, CA
files, object parameters) keeps working; its own ways to read and write are not used: they overwrite.
"""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import combinations
from typing import Any, Literal

import structlog
from botocore.config import Config
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.files.base import File
from storages.backends.s3 import S3Storage as DjangoS3Storage

from ..base import (
    Availability,
    DirectUpload,
    Encryption,
    EncryptionReference,
    Keeping,
    Metadata,
    ObjectStat,
    OnParts,
    SignedRequest,
    StreamedContent,
)
from ..errors import ObjectArchived, ObjectExists, ObjectNotFound, PermanentStorageError, StorageError
from ..names import OUR_FOLDERS, is_valid_name
from ..parts import PartReader, send_parts
from ..remote import Body, RemoteStorage, check_range
from ..rules import LifecyclePlan
from . import bucket_facts, direct_uploads, rules
from .errors import code_of, s3_errors
from .facts import headers_of, stat_of, storage_class_of, tags_of
from .multipart import (
    LEAST_PART_BYTES,
    MAX_PARTS,
    MOST_PART_BYTES,
    MultipartUpload,
    Range,
    checksum_of,
    part_size,
    ranges_of,
)
from .requests import OBJECTS, UPLOADS, Bucket, follow_no_strange_redirects, send_md5_alone

log = structlog.get_logger(__name__)

ENCRYPTIONS = ("AES256", "aws:kms", "bucket", "none")


@dataclass(frozen=True, slots=True)
class Change:
    """A setting by its name in the environment, the option that it becomes, and what a simpler server may need."""

    setting: str
    option: str
    value: str | bool


CHANGES = (
    Change("AWS_S3_ENCRYPTION", "encryption", "none"),
    Change("AWS_S3_REQUEST_CHECKSUM", "request_checksum", "when_required"),
    Change("AWS_S3_CONDITIONAL_WRITES", "conditional_writes", False),
)
# All threads of a process share the connections; one that is not kept has to be made anew.
KEPT_CONNECTIONS = 100


class S3Storage(RemoteStorage, DjangoS3Storage):
    """One bucket. Options are those of django-storages, and these:

    ``public_endpoint_url`` is the endpoint as clients reach it, for signed URLs. ``encryption`` is ``AES256``,
    ``aws:kms`` (with ``kms_key_id``, or the account's own key), ``bucket`` (what the bucket says) or ``none``; the last
    two ask for nothing. ``storage_class`` is that of new objects. ``request_checksum`` is ``when_supported``, or
    ``when_required`` for a server that knows nothing newer than MD5. ``conditional_writes`` is whether a name that is
    taken is refused by the server (``If-None-Match``); without, we look before we write, and two at once can collide.
    """

    provider = "s3"

    #: A single request copies no more; what is larger is copied in pieces of so many bytes.
    most_copied_bytes = MOST_PART_BYTES
    copied_part_bytes = 512 * 1024**2

    def __init__(self, **options: Any) -> None:
        wanted = options.get("client_config") or self.get_default_settings()["client_config"]
        super().__init__(**options)
        self._given = options
        self.client_config = self._our_config().merge(wanted or Config())
        if self.encryption not in ENCRYPTIONS:
            raise ImproperlyConfigured(f"The encryption of an S3 storage is one of {', '.join(ENCRYPTIONS)}.")
        self.region = self.region_name or self._create_session().region_name or ""
        if self.encryption == "aws:kms" and self.kms_key_id:
            self.encryption_key = EncryptionReference("aws-kms", self.kms_key_id)
        self._requests = self._bucket_at(self.endpoint_url)
        self._signing = self._bucket_at(self.public_endpoint_url) if self.public_endpoint_url else self._requests
        self._keeps_tags = True

    def get_default_settings(self) -> dict[str, Any]:
        return {
            **super().get_default_settings(),
            "public_endpoint_url": None,
            "encryption": "AES256",
            "kms_key_id": "",
            "storage_class": "",
            "request_checksum": "when_supported",
            "conditional_writes": True,
            "purge_versions": False,
        }

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
        """See AudioStorage. What is known only at the end of many parts becomes tags of the object, not metadata."""
        self.check_name(name, max_length)
        tell = metadata or dict
        expected = content.expected_bytes if isinstance(content, StreamedContent) else content.size
        size = part_size(expected, least=settings.STORAGE_PART_BYTES)
        write_id = secrets.token_hex(16)
        # A tenth of all parts for each size: beginning with 8 MiB, that is more than the 5 TiB of the largest object.
        grows_after = 0 if expected else MAX_PARTS // 10
        with PartReader(content, size, settings.STORAGE_PARALLEL_PARTS, grows_after=grows_after) as reader:
            first = reader.next_part()
            told = dict(tell())
            parameters = self._new_object(content_type, storage_class, headers_of(told, write_id))
            if reader.ended:
                checksum = checksum_of(first, self.request_checksum)
                self._requests.make("put_object", name, write_id, Body=first, **checksum, **parameters)
                return name
            upload = MultipartUpload.begin(self._requests, name, checksum=self.request_checksum, **parameters)
            try:
                parts = send_parts(reader, first, upload.send, parallel=settings.STORAGE_PARALLEL_PARTS)
            except BaseException:
                upload.try_to_abort()
                raise
            upload.complete(parts, write_id)
        self._tag(name, told, tell())
        return name

    def copy(self, source: str, target: str, *, storage_class: str = "") -> ObjectStat:
        self.check_name(target)
        stat = self.stat(source)
        if stat.availability is not Availability.READABLE:
            raise ObjectArchived
        if self.exists(target):
            raise ObjectExists
        write_id = secrets.token_hex(16)
        parameters = self._new_object(stat.content_type, storage_class, headers_of(stat.metadata, write_id))
        if stat.size <= self.most_copied_bytes:
            self._requests.make(
                "copy_object",
                target,
                write_id,
                CopySource={"Bucket": self.bucket_name, "Key": self._requests.key(source)},
                CopySourceIfMatch=stat.version,
                MetadataDirective="REPLACE",
                **parameters,
            )
        else:
            most_bytes = part_size(stat.size, least=self.copied_part_bytes)
            self._make_of(target, list(ranges_of(stat, most_bytes)), write_id, parameters)
        return self._stat_of_new(target, size_bytes=stat.size)

    def compose(
        self,
        sources: Sequence[str],
        target: str,
        *,
        content_type: str = "",
        metadata: Metadata | None = None,
        storage_class: str = "",
    ) -> ObjectStat:
        """See AudioStorage. The bytes pass here if one of the sources, but the last, is too small to be a part."""
        self.check_name(target)
        tell = metadata or dict
        stats = [stat for stat in map(self.stat, sources) if stat.size]
        ranges = [piece for stat in stats for piece in ranges_of(stat, self.most_copied_bytes)]
        if not ranges or len(ranges) > MAX_PARTS or any(piece.length < LEAST_PART_BYTES for piece in ranges[:-1]):
            return super().compose(
                sources, target, content_type=content_type, metadata=metadata, storage_class=storage_class
            )
        if self.exists(target):
            raise ObjectExists
        told = dict(tell())
        write_id = secrets.token_hex(16)
        self._make_of(
            target, ranges, write_id, self._new_object(content_type, storage_class, headers_of(told, write_id))
        )
        self._tag(target, told, tell())
        return self._stat_of_new(target, size_bytes=sum(stat.size for stat in stats))

    def delete(self, name: str, *, seen: ObjectStat | None = None) -> None:
        self.check_name(name)
        self._requests.remove(name, seen=seen)
        self._purge(name)

    # Reading

    def stat(self, name: str) -> ObjectStat:
        self.check_name(name)
        return stat_of(name, self._requests.head(name))

    def fetch(self, stat: ObjectStat, start: int, length: int) -> Body:
        asked = f"bytes={start}-{start + length - 1}"
        answer = self._requests.ask_once("get_object", stat.name, IfMatch=stat.version, Range=asked)
        stream = answer["Body"]
        try:
            if answer["ETag"] != stat.version:
                # Not every server looks at If-Match.
                raise ObjectNotFound
            check_range(
                stat,
                start,
                length,
                status=answer["ResponseMetadata"]["HTTPStatusCode"],
                content_range=answer.get("ContentRange", ""),
            )
        except StorageError:
            stream.close()
            raise
        return Body(stream.read, stream.close, partial(s3_errors, "get_object", stat.name))

    def list(self, prefix: str = "") -> Iterator[ObjectStat]:
        for entry in self._requests.entries(OBJECTS, Prefix=self._requests.key(prefix)):
            name = self._requests.name_of(entry["Key"])
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
        return f"s3://{self.bucket_name}/{self._requests.key(name)}"

    def signed_url(
        self,
        name: str,
        *,
        seconds: int,
        method: Literal["GET", "PUT"] = "GET",
        content_type: str = "",
        disposition: str = "",
    ) -> str:
        self.check_name(name)
        parameters = {"Bucket": self.bucket_name, "Key": self._signing.key(name)}
        if method == "PUT":
            operation, headers = "put_object", {"ContentType": content_type}
        else:
            operation = "get_object"
            headers = {"ResponseContentType": content_type, "ResponseContentDisposition": disposition}
        parameters.update({key: value for key, value in headers.items() if value})
        with s3_errors(operation, name):
            return str(self._signing.client.generate_presigned_url(operation, Params=parameters, ExpiresIn=seconds))

    def restore(self, name: str, *, days: int) -> None:
        """See AudioStorage. Of intelligent tiering an object comes back for good."""
        stat = self.stat(name)
        if stat.availability is not Availability.ARCHIVED:
            return
        request: dict[str, Any] = {"GlacierJobParameters": {"Tier": "Standard"}}
        if stat.storage_class != "INTELLIGENT_TIERING":
            request["Days"] = days
        try:
            self._requests.ask("restore_object", name, RestoreRequest=request)
        except PermanentStorageError as error:
            if code_of(error.__cause__) != "RestoreAlreadyInProgress":
                raise

    # Sent by clients themselves

    def begin_direct(
        self, name: str, *, size_bytes: int, content_type: str, metadata: Metadata, seconds: int, origin: str = ""
    ) -> DirectUpload:
        self.check_name(name)
        write_id = secrets.token_hex(16)
        return direct_uploads.begin(
            self._requests,
            name,
            size_bytes=size_bytes,
            write_id=write_id,
            parameters=self._new_object(content_type, "", headers_of(metadata(), write_id)),
        )

    def direct_requests(
        self, name: str, direct: DirectUpload, *, size_bytes: int, seconds: int
    ) -> Sequence[SignedRequest]:
        self.check_name(name)
        return direct_uploads.missing_parts(
            self._requests, self._signing, name, direct, size_bytes=size_bytes, seconds=seconds
        )

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
        direct_uploads.complete(
            self._requests, name, direct, size_bytes=size_bytes, etags=etags or {}, on_parts=on_parts
        )
        return self.stat(name)

    def abort_direct(self, name: str, direct: DirectUpload) -> None:
        self.check_name(name)
        direct_uploads.abort(self._requests, name, direct)

    # The bucket

    def remove_partials(self, older_than: datetime) -> int:
        """See AudioStorage. Of what others send to other places in the bucket nothing is touched."""
        removed = 0
        for entry in self._requests.entries(UPLOADS, Prefix=self._requests.key("")):
            upload = MultipartUpload(self._requests, self._requests.name_of(entry["Key"]), entry["UploadId"])
            is_ours = is_valid_name(upload.name) and upload.name.startswith(OUR_FOLDERS)
            if is_ours and entry["Initiated"] < older_than and upload.rests_since(older_than):
                upload.abort()
                removed += 1
        return removed

    def versions_of(self, name: str) -> int:
        self.check_name(name)
        return sum(1 for version in bucket_facts.versions(self._requests, name) if version.has_content)

    def remove_versions(self, name: str) -> None:
        self.check_name(name)
        for version in list(bucket_facts.versions(self._requests, name)):
            if not version.is_present:
                self._requests.ask("delete_object", name, VersionId=version.id)

    def keeping(self) -> Keeping:
        return bucket_facts.keeping(self._requests)

    def encryption_of(self, name: str) -> Encryption:
        self.check_name(name)
        return bucket_facts.encryption_of(self._requests, name)

    def region_of_bucket(self) -> str:
        return bucket_facts.region(self._requests) if self._is_amazon else ""

    def overwrites_in_parts(self, name: str) -> bool:
        """See AudioStorage. Unlike everything else here it does not look first: it is about the server."""
        upload = MultipartUpload.begin(
            self._requests, name, checksum=self.request_checksum, **self._new_object("", "", {})
        )
        try:
            part = upload.send(1, bytearray(b"another"))
            self._requests.ask(
                "complete_multipart_upload",
                name,
                UploadId=upload.upload_id,
                MultipartUpload={"Parts": [part]},
                **({"IfNoneMatch": "*"} if self.conditional_writes else {}),
            )
        except ObjectExists:
            upload.try_to_abort()
            return False
        except StorageError:
            upload.try_to_abort()
            raise
        return True

    def lists_unfinished(self, name: str) -> bool:
        self.check_name(name)
        upload = MultipartUpload.begin(self._requests, name, **self._new_object("", "", {}))
        folder = self._requests.key(name.rpartition("/")[0] + "/")
        try:
            return any(
                entry["UploadId"] == upload.upload_id for entry in self._requests.entries(UPLOADS, Prefix=folder)
            )
        finally:
            upload.try_to_abort()

    def remove_unfinished(self, name: str) -> None:
        self.check_name(name)
        key = self._requests.key(name)
        for entry in self._requests.entries(UPLOADS, Prefix=key):
            if entry["Key"] == key:
                MultipartUpload(self._requests, name, entry["UploadId"]).abort()

    def alternatives(self) -> Iterator[tuple[Mapping[str, str], "S3Storage"]]:
        """See AudioStorage. Amazon's defaults are not everybody's: no encryption, MD5 alone, no conditions."""
        changes = [change for change in CHANGES if getattr(self, change.option) != change.value]
        for number in range(1, len(changes) + 1):
            for chosen in combinations(changes, number):
                options = {change.option: change.value for change in chosen}
                if "encryption" in options:
                    options["kms_key_id"] = ""
                lines = {change.setting: str(change.value).lower() for change in chosen}
                yield lines, type(self)(**{**self._given, **options})

    def create_bucket(self) -> bool:
        if self._requests.is_there():
            return False
        place = {}
        if self.region not in ("", "us-east-1"):
            place = {"CreateBucketConfiguration": {"LocationConstraint": self.region}}
        try:
            self._requests.ask("create_bucket", **place)
        except PermanentStorageError as error:
            # Somebody was faster, or an answer was lost.
            if code_of(error.__cause__) != "BucketAlreadyOwnedByYou":
                raise
            return False
        return True

    def plan_lifecycle(self) -> LifecyclePlan:
        with s3_errors("get_bucket_lifecycle_configuration", ""):
            return rules.plan(self._requests.client, self.bucket_name, self._requests.key(""))

    def apply_lifecycle(self, plan: LifecyclePlan) -> None:
        with s3_errors("put_bucket_lifecycle_configuration", ""):
            rules.apply(self._requests.client, self.bucket_name, plan)

    # What these have in common

    def _our_config(self) -> Config:
        return Config(
            signature_version=self.signature_version or "s3v4",
            s3={
                # Else botocore signs URLs for the global host of old, which newer regions refuse.
                "addressing_style": "virtual" if self._is_amazon and self._style == "auto" else self._style,
                "us_east_1_regional_endpoint": "regional",
            },
            proxies=self.proxies,
            # One of our own attempts is one request.
            retries={"total_max_attempts": 1, "mode": "standard"},
            connect_timeout=settings.STORAGE_TIMEOUT_SECONDS,
            read_timeout=settings.STORAGE_TIMEOUT_SECONDS,
            max_pool_connections=KEPT_CONNECTIONS,
            tcp_keepalive=True,
            request_checksum_calculation=self.request_checksum,
            # An object is mostly read by ranges, for which no server has a checksum; the reader compares the whole.
            response_checksum_validation="when_required",
        )

    @property
    def _is_amazon(self) -> bool:
        return not self.endpoint_url

    @property
    def _style(self) -> str:
        return self.addressing_style or "auto"

    def _bucket_at(self, endpoint_url: str | None) -> Bucket:
        return Bucket(
            self.bucket_name,
            self.location,
            lambda: self._new_client(endpoint_url or None),
            is_conditional=self.conditional_writes,
            asks_for_checksums=self.request_checksum == "when_supported",
        )

    def _new_client(self, endpoint_url: str | None) -> Any:
        client = self._create_session().client(
            "s3",
            region_name=self.region_name,
            use_ssl=self.use_ssl,
            verify=self.verify,
            endpoint_url=endpoint_url,
            config=self.client_config,
        )
        if self.request_checksum == "when_required":
            send_md5_alone(client)
        return follow_no_strange_redirects(client)

    def _new_object(self, content_type: str, storage_class: str, metadata: Mapping[str, str]) -> dict[str, Any]:
        """Parameters of every request that makes an object."""
        parameters: dict[str, Any] = {**self.object_parameters, "Metadata": metadata}
        if content_type:
            parameters["ContentType"] = content_type
        if self.default_acl:
            parameters["ACL"] = self.default_acl
        if self.encryption not in ("none", "bucket"):
            parameters["ServerSideEncryption"] = self.encryption
        if self.encryption_key is not None:
            parameters["SSEKMSKeyId"] = self.encryption_key.key_reference
        if storage_class or self.storage_class:
            parameters["StorageClass"] = storage_class or self.storage_class
        return parameters

    def _make_of(self, name: str, ranges: Sequence[Range], write_id: str, parameters: Mapping[str, Any]) -> None:
        upload = MultipartUpload.begin(self._requests, name, **parameters)
        try:
            parts = upload.copy_all(ranges)
        except BaseException:
            upload.try_to_abort()
            raise
        upload.complete(parts, write_id)

    def _tag(self, name: str, told: Mapping[str, str], facts: Mapping[str, str]) -> None:
        """Keep facts that came too late for metadata. Not all servers have tags, nor all keys the right to set them."""
        tags = tags_of({key: value for key, value in facts.items() if told.get(key) != value})
        if not tags or not self._keeps_tags:
            return
        try:
            self._requests.ask("put_object_tagging", name, Tagging={"TagSet": tags})
        except PermanentStorageError:
            self._keeps_tags = False
            log.warning("s3_keeps_no_tags", bucket=self.bucket_name)
        except StorageError:
            log.warning("s3_object_not_tagged", name=name)
