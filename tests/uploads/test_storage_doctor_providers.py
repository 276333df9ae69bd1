"""What storage_doctor says of servers that are not Amazon's, and of buckets that keep what is deleted."""

import io
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import call_command

from tests.object_servers import ObjectServer
from tests.object_servers.fixtures import configure
from tests.object_servers.moto import running_moto
from tests.object_servers.providers import (
    AISTOR,
    GARAGE,
    IGNORING_RANGES,
    OLD_B2,
    OLD_CEPH,
    OLD_MINIO,
    R2,
    SHIFTING_RANGES,
    SWIFT,
    WASABI,
    Provider,
    running_as,
)
from tests.objectstore.test_storage_contract import MIB
from tests.uploads.test_storage_doctor import doctor_says, objects, outcomes
from uploads.upkeep.doctor import Outcome, examine_storage

pytestmark = pytest.mark.django_db

LIMITED = "does not work, not needed"
UNSAFE = {"never overwrites in parts": LIMITED}
UNENCRYPTED = {"encryption": LIMITED}


@pytest.fixture(autouse=True)
def small_parts(settings: Any) -> None:
    settings.STORAGE_PART_BYTES = 5 * MIB


@pytest.fixture(scope="module")
def moto_server() -> Iterator[ObjectServer]:
    with running_moto() as server:
        yield server


@pytest.mark.parametrize(
    ("provider", "options", "expected"),
    [
        pytest.param(GARAGE, {"encryption": "none"}, UNENCRYPTED, id="garage"),
        pytest.param(R2, {"encryption": "none"}, UNENCRYPTED, id="r2"),
        pytest.param(
            OLD_B2,
            {"encryption": "none", "request_checksum": "when_required", "conditional_writes": False},
            UNENCRYPTED | UNSAFE,
            id="old b2",
        ),
        pytest.param(OLD_CEPH, {"request_checksum": "when_required"}, UNSAFE, id="ceph 16"),
        pytest.param(AISTOR, {}, {"unfinished parts": LIMITED}, id="aistor"),
        pytest.param(OLD_MINIO, {"encryption": "none"}, UNENCRYPTED | {"unfinished parts": LIMITED}, id="old minio"),
        pytest.param(WASABI, {"request_checksum": "when_required", "conditional_writes": False}, UNSAFE, id="wasabi"),
    ],
)
def test_each_provider_passes_with_its_settings_and_hears_what_is_not_protected(
    settings: Any, s3_server: ObjectServer, provider: Provider, options: dict[str, Any], expected: dict[str, str]
) -> None:
    """Promise 12."""
    with running_as(provider, s3_server) as (server, _proxy):
        storage = configure(settings, server, **options)
        said = doctor_says("s3")
        assert outcomes(said) == expected
        assert objects(storage) == []


@pytest.mark.parametrize(
    ("provider", "lines"),
    [
        pytest.param(R2, {"AWS_S3_ENCRYPTION=none"}, id="r2"),
        pytest.param(WASABI, {"AWS_S3_REQUEST_CHECKSUM=when_required"}, id="wasabi"),
        pytest.param(
            OLD_B2,
            {"AWS_S3_REQUEST_CHECKSUM=when_required", "AWS_S3_CONDITIONAL_WRITES=false"},
            id="old b2",
        ),
        pytest.param(SWIFT, {"AWS_S3_ENCRYPTION=none", "AWS_S3_CONDITIONAL_WRITES=false"}, id="swift"),
    ],
)
def test_the_cure_is_found_by_trying_and_named_as_lines_for_the_env_file(
    settings: Any, s3_server: ObjectServer, provider: Provider, lines: set[str]
) -> None:
    with running_as(provider, s3_server) as (server, _proxy):
        storage = configure(settings, server)
        cures = [str(finding.advice) for finding in examine_storage("s3") if ".env" in str(finding.advice)]
        named = {line.strip(" .") for line in cures[0].split(":", 1)[1].split(",")}
        assert lines <= named
        assert objects(storage) == []
        options = {"encryption": "none"} if "AWS_S3_ENCRYPTION=none" in named else {}
        if "AWS_S3_REQUEST_CHECKSUM=when_required" in named:
            options["request_checksum"] = "when_required"
        looks_itself = "AWS_S3_CONDITIONAL_WRITES=false" in named
        configure(settings, server, **options, conditional_writes=not looks_itself)
        doctor_says("s3")


@pytest.mark.parametrize("provider", [IGNORING_RANGES, SHIFTING_RANGES], ids=["ignored", "shifted"])
def test_a_server_without_ranges_is_told(settings: Any, s3_server: ObjectServer, provider: Provider) -> None:
    with running_as(provider, s3_server) as (server, _proxy):
        storage = configure(settings, server)
        said = doctor_says("s3", code=1)
        assert "failed" in outcomes(said).values()
        assert objects(storage) == []


class TestEncryption:
    def test_a_bucket_with_a_key_of_its_own_is_told_that_we_override_it(
        self, settings: Any, moto_server: ObjectServer
    ) -> None:
        storage: Any = configure(settings, moto_server)
        encrypt_with(storage, "arn:aws:kms:eu-central-1:111122223333:key/theirs")
        finding = found_by("encryption")
        assert finding.outcome is Outcome.LIMITED
        assert "key/theirs" in str(finding.detail)
        assert "AWS_S3_ENCRYPTION=bucket" in str(finding.advice)

    def test_who_does_not_say_that_it_encrypts_is_not_called_well(self, settings: Any, s3_server: ObjectServer) -> None:
        for encryption in ("none", "bucket"):
            configure(settings, s3_server, encryption=encryption)
            finding = found_by("encryption")
            assert finding.outcome is Outcome.LIMITED
            assert "does not say" in str(finding.detail)

    def test_what_the_storage_says_is_told(self, settings: Any, s3_server: ObjectServer) -> None:
        configure(settings, s3_server)
        finding = found_by("encryption")
        assert (finding.outcome, "AES256" in str(finding.detail)) == (Outcome.OK, True)


class TestPurges:
    @pytest.mark.parametrize("server_name", ["s3_server", "moto_server"])
    def test_versions_are_told_and_removed_where_that_is_set(
        self, request: pytest.FixtureRequest, settings: Any, server_name: str
    ) -> None:
        """Promise 7."""
        server: ObjectServer = request.getfixturevalue(server_name)
        storage: Any = configure(settings, server)
        switch_versioning_on(storage)
        finding = found_by("purged for good")
        assert finding.outcome is Outcome.LIMITED
        assert "older version" in str(finding.detail)
        assert "STORAGE_PURGE_VERSIONS=true" in str(finding.advice)
        # The doctor's own objects leave none.
        assert versions_in(storage) == []
        entry = {**settings.STORAGES["s3"], "OPTIONS": {**settings.STORAGES["s3"]["OPTIONS"], "purge_versions": True}}
        settings.STORAGES = {**settings.STORAGES, "s3": entry}
        finding = found_by("purged for good")
        assert finding.outcome is Outcome.OK
        assert versions_in(storage) == []

    def test_a_bucket_without_versions_keeps_nothing(self, settings: Any, s3_server: ObjectServer) -> None:
        configure(settings, s3_server)
        assert found_by("purged for good").outcome is Outcome.OK

    def test_a_server_that_does_not_tell_is_not_called_well(self, settings: Any, s3_server: ObjectServer) -> None:
        silent = Provider(refuses_operations=(r"GET (versioning|versions|object-lock)",))
        with running_as(silent, s3_server) as (server, _proxy):
            configure(settings, server)
            finding = found_by("purged for good")
            assert finding.outcome is Outcome.LIMITED
            assert "cannot be seen" in str(finding.detail)


def found_by(step: str) -> Any:
    return next(finding for finding in examine_storage("s3") if str(finding.step) == step)


def switch_versioning_on(storage: Any) -> None:
    client = storage.requests.client
    client.put_bucket_versioning(Bucket=storage.bucket_name, VersioningConfiguration={"Status": "Enabled"})


def versions_in(storage: Any) -> list[Any]:
    page = storage.requests.client.list_object_versions(Bucket=storage.bucket_name)
    return [*page.get("Versions", []), *page.get("DeleteMarkers", [])]


def encrypt_with(storage: Any, key: str) -> None:
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}}
    storage.requests.client.put_bucket_encryption(
        Bucket=storage.bucket_name, ServerSideEncryptionConfiguration={"Rules": [rule]}
    )


def test_the_region_of_a_bucket_is_told_where_it_is_another_one(
    settings: Any, moto_server: ObjectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Amazon itself: no endpoint is set (here boto3 takes it out of the environment). Signed URLs need the region."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", moto_server.options["endpoint_url"])
    configure(settings, moto_server, endpoint_url=None, region_name="us-west-2")
    finding = found_by("bucket")
    assert finding.outcome is Outcome.FAILED
    assert "AWS_S3_REGION_NAME=eu-central-1" in str(finding.advice)


def test_check_storage_says_that_a_storage_keeps_what_is_purged(settings: Any, s3_server: ObjectServer) -> None:
    storage: Any = configure(settings, s3_server)
    out = io.StringIO()
    call_command("check_storage", storage="s3", stdout=out)
    assert "keeps what is purged" not in out.getvalue()
    switch_versioning_on(storage)
    call_command("check_storage", storage="s3", stdout=out)
    assert "s3 keeps what is purged" in out.getvalue()
