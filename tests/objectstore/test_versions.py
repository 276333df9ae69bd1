"""What is removed for good in a place that keeps what is deleted."""

import json
from typing import Any

import pytest
from django.core.files.base import ContentFile
from requests import Response

from objectstore.capabilities import Keeping
from objectstore.errors import ObjectNotFound
from objectstore.gcs import GCSStorage
from tests.object_servers import ObjectServer
from tests.object_servers.fixtures import configure
from tests.objectstore.gcs_between import Between, Seen, Send
from tests.objectstore.test_storage_contract import CONTENT, MIB, NAME, OTHER, noise

LONGER = f"{NAME}.more"


class TestS3:
    def versioned(self, server: ObjectServer, settings: Any, **options: Any) -> Any:
        settings.STORAGE_PART_BYTES = 5 * MIB
        storage: Any = configure(settings, server, **options)
        storage.requests.client.put_bucket_versioning(
            Bucket=storage.bucket_name, VersioningConfiguration={"Status": "Enabled"}
        )
        return storage

    def test_a_deletion_leaves_the_bytes_unless_versions_go_too(self, s3_server: ObjectServer, settings: Any) -> None:
        """Promise 7."""
        storage = self.versioned(s3_server, settings)
        storage.save(NAME, ContentFile(CONTENT))
        storage.delete(NAME)
        with pytest.raises(ObjectNotFound):
            storage.stat(NAME)
        assert storage.bucket.versions_of(NAME) == 1
        assert storage.bucket.keeping() == Keeping(versions=True, soft_days=0, lock="")

    @pytest.mark.parametrize("content", [CONTENT, noise(6 * MIB)], ids=["whole", "parts"])
    def test_all_versions_of_exactly_this_name_go(self, s3_server: ObjectServer, settings: Any, content: bytes) -> None:
        """Promise 7."""
        storage = self.versioned(s3_server, settings, purge_versions=True)
        for name in (NAME, OTHER, LONGER):
            storage.save(name, ContentFile(content))
        storage.requests.client.put_object(Bucket=storage.bucket_name, Key=NAME, Body=b"by somebody else")
        storage.delete(NAME)
        assert [storage.bucket.versions_of(name) for name in (NAME, OTHER, LONGER)] == [0, 1, 1]
        marks = storage.requests.client.list_object_versions(Bucket=storage.bucket_name).get("DeleteMarkers", [])
        assert marks == []
        storage.delete(NAME)
        assert storage.bucket.versions_of(NAME) == 0

    def test_older_versions_go_and_a_newer_object_of_the_name_stays(
        self, s3_server: ObjectServer, settings: Any
    ) -> None:
        """Promise 56."""
        storage = self.versioned(s3_server, settings, purge_versions=True)
        storage.save(NAME, ContentFile(CONTENT))
        seen = storage.stat(NAME)
        storage.with_options(purge_versions=False).delete(NAME)
        storage.save(NAME, ContentFile(CONTENT))
        storage.delete(NAME, seen=seen)
        assert storage.exists(NAME)
        assert storage.bucket.versions_of(NAME) == 1

    def test_what_a_lock_holds_stays_and_the_object_is_gone_all_the_same(
        self, s3_server: ObjectServer, settings: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Promise 7."""
        storage: Any = configure(settings, s3_server, purge_versions=True)
        client = storage.requests.client
        bucket = f"{storage.bucket_name}-locked"
        client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
        rule = {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}
        client.put_object_lock_configuration(
            Bucket=bucket, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
        )
        locked: Any = storage.with_options(bucket_name=bucket)
        locked.save(NAME, ContentFile(CONTENT))
        locked.delete(NAME)
        assert not locked.exists(NAME)
        assert locked.bucket.versions_of(NAME) == 1
        assert "object_versions_left" in caplog.text
        assert "GOVERNANCE, 1 days" in str(locked.bucket.keeping().lock)


class TestGoogle:
    BUCKET = {
        "kind": "storage#bucket",
        "name": "bucket",
        "versioning": {"enabled": True},
        "softDeletePolicy": {"retentionDurationSeconds": "604800"},
        "retentionPolicy": {"retentionPeriod": "86400"},
        "encryption": {"defaultKmsKeyName": "projects/p/locations/l/keyRings/r/cryptoKeys/k"},
    }

    def test_the_week_of_soft_delete_versions_and_locks_are_read_from_the_bucket(
        self, gcs: GCSStorage, between: Between
    ) -> None:
        between.meddle = answering_json(lambda seen: seen.path.endswith(gcs.bucket_name), self.BUCKET)
        keeping = gcs.bucket.keeping()
        assert (keeping.versions, keeping.soft_days, str(keeping.lock)) == (True, 7, "a retention policy, 1 days")
        gcs.save(NAME, ContentFile(CONTENT))
        assert gcs.bucket.encryption_of(NAME).default_key.endswith("/k")

    def test_what_the_bucket_does_not_say_is_not_known(self, gcs: GCSStorage, between: Between) -> None:
        between.meddle = answering_json(
            lambda seen: seen.path.endswith(gcs.bucket_name), {"kind": "storage#bucket", "name": "bucket"}
        )
        assert gcs.bucket.keeping() == Keeping(versions=False, soft_days=None, lock="")

    def test_every_older_generation_of_exactly_this_name_is_removed(self, gcs: GCSStorage, between: Between) -> None:
        gcs.purge_versions = True
        items = [
            {
                **{"name": name, "generation": str(number), "size": "1", "crc32c": ""},
                **dict.fromkeys(("timeCreated", "timeDeleted")[: 1 + is_older], "2026-01-01T00:00:00Z"),
            }
            for name, number, is_older in ((NAME, 1, True), (NAME, 2, True), (NAME, 4, False), (LONGER, 3, True))
        ]
        listed = answering_json(lambda seen: "versions" in seen.query, {"kind": "storage#objects", "items": items})
        between.meddle = listed
        gcs.delete(NAME)
        deleted = [seen.query.get("generation") for seen in between.requests("DELETE")]
        assert deleted == ["1", "2"]


def answering_json(of: Any, answer: Any) -> Any:
    def meddle(seen: Seen, send: Send) -> Response:
        if not of(seen):
            return send()
        response = Response()
        response.status_code = 200
        response.request = seen.request
        response._content = json.dumps(answer).encode()
        response._content_consumed = True
        return response

    return meddle


class TestAzure:
    def test_snapshots_go_with_the_blob_and_nothing_is_kept(self, azure_server: ObjectServer, settings: Any) -> None:
        storage: Any = configure(settings, azure_server, purge_versions=True)
        storage.save(NAME, ContentFile(CONTENT))
        storage.blob_client(NAME).create_snapshot()
        assert storage.bucket.versions_of(NAME) == 2
        storage.delete(NAME)
        assert storage.bucket.versions_of(NAME) == 0
        assert storage.bucket.keeping() == Keeping(versions=False, soft_days=0, lock="")
