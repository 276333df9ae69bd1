"""Settings of storages that cannot work, or less well than one may think, are told before anything runs."""

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import Warning, run_checks

from tests.running.programs import ROOT, environment

KEY = base64.b64encode(bytes(64)).decode()
CONNECTION = f"DefaultEndpointsProtocol=https;AccountName=vault;AccountKey={KEY};EndpointSuffix=core.windows.net"
#: Settings of each storage with which all is well.
WELL = {
    "s3": {
        "AWS_STORAGE_BUCKET_NAME": "recordings",
        "AWS_ACCESS_KEY_ID": "AKIA",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_S3_ENDPOINT_URL": "",
        "AWS_S3_PUBLIC_ENDPOINT_URL": "",
        "AWS_S3_ENCRYPTION": "AES256",
        "AWS_S3_KMS_KEY_ID": "",
        "AWS_S3_STORAGE_CLASS": "",
    },
    "gcs": {
        "GCS_BUCKET_NAME": "recordings",
        "GOOGLE_APPLICATION_CREDENTIALS": "",
        "GCS_ENDPOINT_URL": "",
        "GCS_KMS_KEY_NAME": "projects/p/locations/eu/keyRings/r/cryptoKeys/k",
    },
    "azure": {
        "AZURE_CONTAINER": "recordings",
        "AZURE_ACCOUNT_NAME": "vault",
        "AZURE_ACCOUNT_KEY": KEY,
        "AZURE_ENDPOINT_URL": "",
        "AZURE_PUBLIC_ENDPOINT_URL": "",
        "AZURE_ACCESS_TIER": "Cool",
        "AZURE_SUBSCRIPTION_ID": "",
        "AZURE_RESOURCE_GROUP": "",
    },
}


def found(settings: Any, alias: str, **changes: Any) -> list[str]:
    """The ids of what all checks together say, with the variables of this storage set."""
    settings.STORAGES = {**settings.STORAGES, alias: {"BACKEND": f"objectstore.{alias}"}}
    for name, value in {**WELL[alias], **changes}.items():
        setattr(settings, name, value)
    messages = [message for message in run_checks() if message.id.startswith(("uploads.", "audiotricks.E004"))]
    assert all(message.hint for message in messages)
    assert all(isinstance(message, Warning) == (message.id.split(".")[1][0] == "W") for message in messages)
    return [message.id for message in messages]


@pytest.mark.parametrize("alias", WELL)
def test_settings_that_are_right_are_left_alone(settings: Any, alias: str) -> None:
    assert found(settings, alias, AUDIO_STORAGE=alias) == []


@pytest.mark.parametrize(
    ("alias", "changes", "expected"),
    [
        ("s3", {"AWS_STORAGE_BUCKET_NAME": "s3://recordings"}, ["uploads.E001"]),
        ("s3", {"AWS_STORAGE_BUCKET_NAME": "recordings/audio"}, ["uploads.E001"]),
        ("gcs", {"GCS_BUCKET_NAME": "Recordings"}, ["uploads.E001"]),
        ("azure", {"AZURE_CONTAINER": "my--recordings"}, ["uploads.E001"]),
        ("azure", {"AZURE_CONTAINER": "ab"}, ["uploads.E001"]),
        ("s3", {"AWS_S3_STORAGE_CLASS": "DEEP_ARCHIVE"}, ["uploads.E002"]),
        ("s3", {"AWS_S3_STORAGE_CLASS": "GLACIER_IR"}, []),
        ("azure", {"AZURE_ACCESS_TIER": "archive"}, ["uploads.E002"]),
        ("s3", {"AWS_S3_ENDPOINT_URL": "storage.example.com"}, ["uploads.E003"]),
        ("s3", {"AWS_S3_ENDPOINT_URL": "localhost:8333"}, ["uploads.E003"]),
        ("s3", {"AWS_S3_ENDPOINT_URL": "https://[oops"}, ["uploads.E003"]),
        ("gcs", {"GCS_ENDPOINT_URL": "ftp://storage.example.com"}, ["uploads.E003"]),
        ("azure", {"AZURE_PUBLIC_ENDPOINT_URL": "//storage.example.com"}, ["uploads.E003"]),
        ("s3", {"AWS_SECRET_ACCESS_KEY": ""}, ["uploads.E004"]),
        ("s3", {"AWS_ACCESS_KEY_ID": ""}, ["uploads.E004"]),
        ("s3", {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, []),
        ("s3", {"AWS_S3_ENCRYPTION": "aws:kms"}, ["uploads.W005"]),
        ("s3", {"AWS_S3_ENCRYPTION": "aws:kms", "AWS_S3_KMS_KEY_ID": "arn:aws:kms:eu-central-1:1:key/2"}, []),
        ("s3", {"AWS_S3_KMS_KEY_ID": "arn:aws:kms:eu-central-1:1:key/2"}, ["uploads.E005"]),
        ("gcs", {"GOOGLE_APPLICATION_CREDENTIALS": "/nowhere/key.json"}, ["uploads.E006"]),
        ("gcs", {"GCS_KMS_KEY_NAME": "my-key"}, ["uploads.E007"]),
        ("azure", {"AZURE_ACCOUNT_NAME": ""}, ["uploads.E008"]),
        ("azure", {"AZURE_ACCOUNT_KEY": "DefaultEndpointsProtocol=https;AccountName=vault"}, ["uploads.E009"]),
        ("azure", {"AZURE_ACCOUNT_KEY": ""}, []),
        ("azure", {"AZURE_ACCOUNT_NAME": "", "AZURE_ACCOUNT_KEY": "", "AZURE_CONNECTION_STRING": CONNECTION}, []),
        ("azure", {"AZURE_CONNECTION_STRING": CONNECTION}, ["uploads.E012"]),
        ("azure", {"AZURE_ACCOUNT_KEY": "", "AZURE_CONNECTION_STRING": KEY}, ["uploads.E011"]),
        ("azure", {"AZURE_ACCOUNT_KEY": "", "AZURE_CONNECTION_STRING": "AccountName=vault"}, ["uploads.E011"]),
        ("azure", {"AZURE_ACCOUNT_KEY": "", "AZURE_CONNECTION_STRING": "UseDevelopmentStorage=true"}, ["uploads.E011"]),
        ("azure", {"AZURE_ACCOUNT_KEY": "", "AZURE_SAS_TOKEN": "sv=1&sig=x"}, []),
        ("azure", {"AZURE_SUBSCRIPTION_ID": "1"}, ["uploads.W003"]),
        ("s3", {"SIGNED_URL_SECONDS": 86_400}, ["uploads.W004"]),
        ("s3", {"SIGNED_URL_SECONDS": 86_401}, ["uploads.E010"]),
    ],
)
def test_what_cannot_work_is_named(settings: Any, alias: str, changes: dict[str, Any], expected: list[str]) -> None:
    assert found(settings, alias, **changes) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"AWS_S3_ENDPOINT_URL": "http://storage.example.com"}, []),
        ({"AWS_S3_ENDPOINT_URL": "http://storage.example.com", "HTTPS_ONLY": True}, ["uploads.W001"]),
        ({"AWS_S3_ENDPOINT_URL": "http://seaweedfs:8333"}, ["uploads.W002"]),
        ({"AWS_S3_ENDPOINT_URL": "http://127.0.0.1:8333"}, ["uploads.W002"]),
        ({"AWS_S3_ENDPOINT_URL": "http://[2001:db8::1]:8333"}, []),
        ({"AWS_S3_ENDPOINT_URL": "http://seaweedfs:8333", "ALLOWED_HOSTS": ["localhost"]}, []),
        ({"AWS_S3_ENDPOINT_URL": "http://seaweedfs:8333", "DOWNLOAD_REDIRECTS": False}, []),
        (
            {"AWS_S3_ENDPOINT_URL": "http://seaweedfs:8333", "AWS_S3_PUBLIC_ENDPOINT_URL": "https://s3.example.com"},
            [],
        ),
    ],
)
def test_listeners_who_are_sent_where_they_cannot_go_are_told(
    settings: Any, changes: dict[str, Any], expected: list[str]
) -> None:
    settings.ALLOWED_HOSTS, settings.BEHIND_PROXY = ["audio.example.com"], True
    assert found(settings, "s3", **changes) == expected


def test_a_file_of_credentials_is_looked_into(settings: Any, tmp_path: Path) -> None:
    file = tmp_path / "key.json"
    named = {"GOOGLE_APPLICATION_CREDENTIALS": str(file)}
    for content in ("", "not JSON", "[]", "{}"):
        file.write_text(content)
        assert found(settings, "gcs", **named) == ["uploads.E006"]
    file.write_text(json.dumps({"type": "service_account"}))
    assert found(settings, "gcs", **named) == []


@pytest.mark.parametrize("alias", WELL)
def test_settings_of_a_storage_that_is_not_used_are_nobodys_business(settings: Any, alias: str) -> None:
    for name in WELL[alias]:
        setattr(settings, name, "?")
    assert [message.id for message in run_checks() if message.id.startswith("uploads.")] == []


@pytest.mark.parametrize(
    ("alias", "variable"), [("s3", "AWS_STORAGE_BUCKET_NAME"), ("gcs", "GCS_BUCKET_NAME"), ("azure", "AZURE_CONTAINER")]
)
def test_a_storage_that_is_chosen_and_not_set_up_says_what_it_needs(tmp_path: Path, alias: str, variable: str) -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", "check"],
        cwd=ROOT,
        env=environment(VAR_DIR=str(tmp_path), AUDIO_STORAGE=alias),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "audiotricks.E004" in done.stderr
    assert variable in done.stderr
