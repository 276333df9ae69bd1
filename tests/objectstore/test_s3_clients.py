"""One S3 client for each set of settings in a process."""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from objectstore.s3 import S3Storage


def storage(**options: Any) -> S3Storage:
    keys = {"bucket_name": "one", "endpoint_url": "http://127.0.0.1:9", "region_name": "r"}
    return S3Storage(**{**keys, "access_key": "a", "secret_key": "b", **options})


def test_storages_with_the_same_settings_share_a_client_and_so_do_threads() -> None:
    with ThreadPoolExecutor(8) as pool:
        clients = set(pool.map(lambda number: storage(bucket_name=f"bucket-{number}").requests.client, range(16)))
    assert len(clients) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"endpoint_url": "http://127.0.0.1:10"},
        {"access_key": "other"},
        {"secret_key": "other"},
        {"region_name": "other"},
        {"request_checksum": "when_required"},
        {"addressing_style": "path"},
    ],
    ids=str,
)
def test_storages_with_other_settings_do_not(options: dict[str, Any]) -> None:
    assert storage(**options).requests.client is not storage().requests.client


def test_other_time_outs_and_other_credentials_of_the_environment_make_another_client(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = storage(access_key=None, secret_key=None).requests.client
    monkeypatch.setenv("AWS_SESSION_TOKEN", "another")
    assert storage(access_key=None, secret_key=None).requests.client is not first
    client = storage().requests.client
    settings.STORAGE_TIMEOUT_SECONDS += 1
    assert storage().requests.client is not client


def test_a_forked_process_makes_a_client_of_its_own() -> None:
    """Two processes that write to one connection would mix up their answers."""
    parent = storage()
    client = parent.requests.client
    child = os.fork()
    if child == 0:
        os._exit(0 if parent.requests.client is not client else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert parent.requests.client is client
