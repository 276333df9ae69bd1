"""Bad days of networks and providers, in front of real servers: the same bytes, or an error of ours and no remains.

What each operation asks of its server is learnt by watching it once. Then each of these requests is spoilt in turn.
"""

import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from django.core.files.base import ContentFile

from objectstore.base import AudioStorage
from objectstore.errors import BucketNotFound, CredentialsRefused, StorageError, TransientStorageError
from objectstore.retry import RetryPolicy, retry_policy
from tests.object_servers import ObjectServer
from tests.object_servers.faults import Exchange, Fault, FaultyProxy
from tests.object_servers.fixtures import ALIASES, configure
from tests.object_servers.gcs_signatures import write_account
from tests.objectstore.test_storage_contract import get
from tests.servers import free_port

from .bad_days import (
    BOUND,
    LOST,
    QUICK,
    SMALL,
    SMALL_NAME,
    UNAVAILABLE,
    Case,
    Vault,
    assert_clean,
    configure_behind,
    quickly,
    vault_of,
)

ALL: tuple[str, ...] = ()
WRITING = ("save", "save_parts")
MAKING = ("save", "save_parts", "copy", "compose", "begin_direct")
CHANGING = ("complete_direct", "delete", "abort_direct")
READING = ("stat", "read", "working_copy", "list")
SOME = ("save", "read", "list", "copy", "complete_direct")
#: What passes, and the operations that meet it: all of them where each has an answer of its own to it.
PASSING: dict[str, tuple[Fault, tuple[str, ...]]] = {
    "503": (UNAVAILABLE, ALL),
    "500": (Fault(status=500), ("save", "read")),
    "429": (Fault(status=429, headers={"Retry-After": "0"}), ("save", "read")),
    "refused": (Fault(request="refused"), SOME),
    "reset_in_the_request": (Fault(request="reset"), WRITING),
    "request_cut": (Fault(request="cut"), WRITING),
    "request_corrupted": (Fault(request="corrupt"), WRITING),
    "reset_in_the_answer": (Fault(answer="reset"), SOME),
    "answer_cut": (Fault(answer="cut"), SOME),
    "answer_lost": (LOST, ALL),
}


@pytest.fixture(params=ALIASES)
def server(request: pytest.FixtureRequest) -> ObjectServer:
    found: ObjectServer = request.getfixturevalue(f"{request.param}_server")
    return found


@pytest.fixture
def vault(server: ObjectServer, settings: Any) -> Iterator[Vault]:
    settings.STORAGE_TIMEOUT_SECONDS = 10
    with vault_of(server, settings) as vault:
        yield vault


def concerns(fault: Fault, seen: Exchange) -> bool:
    """Whether the server can notice: what describes an object, other than its content, is compared by nobody."""
    return fault.request not in ("cut", "corrupt") or seen.sent_bytes > 10_000


@pytest.mark.parametrize("fault", PASSING)
def test_what_passes_is_not_noticed(vault: Vault, fault: str) -> None:
    """Promise 13, Promise 14. Whichever request it hits: the result is that of a good day, and so is what is stored."""
    what, concerned = PASSING[fault]
    hits = 0
    for name in concerned or vault.operations:
        operation = vault.operations[name]
        for at, seen in enumerate(vault.requests_of(name)):
            if not concerns(what, seen):
                continue
            case = vault.prepared(operation)
            story = (name, at, seen)
            with quickly(), vault.proxy.doing(what, after=at, times=1) as rule:
                try:
                    assert operation.act(case) == operation.result, story
                except StorageError as error:
                    # What the storage compares only at the end cannot be sent again by then.
                    assert isinstance(error, TransientStorageError), story
                    assert (fault, name, vault.storage.provider) == ("request_corrupted", "save_parts", "gcs"), story
                    assert vault.left(case) is None, story
                else:
                    assert vault.left(case) == operation.left, story
            assert rule.fired == 1, story
            hits += 1
    assert hits


@pytest.mark.parametrize("content", [SMALL, b"other bytes"], ids=["same_bytes", "other_bytes"])
@pytest.mark.parametrize("looks", [False, True], ids=["at_once", "after_a_look"])
def test_a_deletion_that_is_sent_again_spares_a_newer_object(
    server: ObjectServer, settings: Any, content: bytes, looks: bool
) -> None:
    """Promise 56. The answer is lost, and the name has a new object before the request is sent again."""
    with FaultyProxy(server.options["endpoint_url"]) as proxy:
        storage = configure_behind(settings, server, proxy)
        options = {**settings.STORAGES[server.alias]["OPTIONS"], "endpoint_url": server.options["endpoint_url"]}
        direct = type(storage)(**options)
        storage.save(SMALL_NAME, ContentFile(SMALL))
        seen = storage.stat(SMALL_NAME) if looks else None
        newer = Fault(answer="lost", meanwhile=lambda: direct.save(SMALL_NAME, ContentFile(content)))
        with quickly(), proxy.doing(newer, method="DELETE", times=1) as rule:
            storage.delete(SMALL_NAME, seen=seen)
        assert rule.fired == 1
        assert get(storage, SMALL_NAME) == content


@pytest.mark.parametrize("fault", [UNAVAILABLE, LOST], ids=["503", "answer_lost"])
def test_what_fails_leaves_nothing_and_can_be_done_again(vault: Vault, fault: Fault) -> None:
    """Promise 12, Promise 13, Promise 14. One request fails as often as it is tried: whatever was begun is undone."""
    failures = 0
    for name in (*MAKING, *CHANGING):
        operation = vault.operations[name]
        for at, seen in enumerate(vault.requests_of(name)):
            case, story = vault.prepared(operation), (name, at, seen)
            with quickly(), vault.proxy.doing(fault, after=at, times=QUICK.max_attempts):
                try:
                    result = operation.act(case)
                except StorageError as error:
                    assert_clean(error, vault)
                    failures += 1
                    assert name in CHANGING or vault.left(case) is None, story
                    result = operation.act(case)
            assert (result, vault.left(case)) == (operation.result, operation.left), story
    assert failures
    assert_no_partials(vault.storage)


def test_a_storage_that_stays_away_gives_a_clean_error_and_nothing_half(vault: Vault) -> None:
    """Promise 14, Promise 16. From the first or the last request on: tidying up fails as well, and is done later."""
    for name in (*MAKING, *CHANGING, *READING):
        operation = vault.operations[name]
        requests = vault.requests_of(name)
        for at in {0, len(requests) - 1}:
            case, story = vault.prepared(operation), (name, at, requests[at])
            succeeded = False
            with quickly(), vault.proxy.doing(Fault(request="refused"), after=at):
                try:
                    succeeded = operation.act(case) == operation.result
                except TransientStorageError as error:
                    assert_clean(error, vault)
            assert not (succeeded and at == 0), story
            left = vault.left(case)
            assert left in (None, operation.left or SMALL), story
            if left and name in MAKING:
                case.storage.delete(case.name)
            assert operation.act(case) == operation.result, story
            assert vault.left(case) == operation.left, story
    assert_no_partials(vault.storage)


def assert_no_partials(storage: AudioStorage) -> None:
    """What killed writes left, which may be something, is gone when it was reclaimed."""
    later = datetime.now(UTC) + timedelta(hours=1)
    storage.remove_partials(later)
    assert storage.remove_partials(later) == 0


@pytest.mark.parametrize("name", ["save", "save_parts", "read", "complete_direct"])
def test_a_stall_ends_with_the_time_out_and_is_not_noticed(server: ObjectServer, settings: Any, name: str) -> None:
    """Promise 14. Of a request, and in the middle of an answer."""
    settings.STORAGE_TIMEOUT_SECONDS = 0.5
    with vault_of(server, settings) as vault:
        operation = vault.operations[name]
        last = len(vault.requests_of(name)) - 1
        for fault, at in ((Fault(request="stall"), 0), (Fault(answer="stall"), last)):
            case = vault.prepared(operation)
            with quickly(), vault.proxy.doing(fault, after=at, times=1) as rule:
                assert operation.act(case) == operation.result
            assert rule.fired == 1
            assert vault.left(case) == operation.left


def test_bytes_that_were_corrupted_on_the_way_are_not_taken_for_the_object(vault: Vault) -> None:
    """Promise 14. Who reads the whole hears of it, and reads again."""
    for name in ("read", "working_copy"):
        operation = vault.operations[name]
        case = vault.prepared(operation)
        at = next(at for at, seen in enumerate(vault.requests_of(name)) if seen.method == "GET" and sends(SMALL, seen))
        with quickly(), vault.proxy.doing(Fault(answer="corrupt"), after=at, times=1):
            with pytest.raises(TransientStorageError) as caught:
                operation.act(case)
            assert_clean(caught.value, vault)
            assert operation.act(case) == operation.result


def sends(content: bytes, seen: Exchange) -> bool:
    return seen.answered_bytes == len(content)


def test_a_storage_that_asks_to_wait_is_given_the_time_as_far_as_the_policy_goes(vault: Vault) -> None:
    """Promise 14. Retry-After, of which there may be hours."""
    patient = RetryPolicy(max_attempts=2, initial_delay=0.001, max_delay=0.4)
    busy = Fault(status=429, headers={"Retry-After": "3600"})
    case = vault.prepared(vault.operations["save"])
    begun = time.monotonic()
    with retry_policy(patient), vault.proxy.doing(busy, times=1):
        case.save(SMALL)
    assert 0.4 <= time.monotonic() - begun < BOUND
    assert vault.left(case) == SMALL


def test_answers_of_something_else_are_errors_of_ours(vault: Vault) -> None:
    """Promise 14. Of a login page of a network, or of a server with another protocol."""
    page = b"<html><body>Welcome! Please log in.</body></html>"
    for status in (200, 302, 400, 418):
        fault = Fault(status=status, headers={"Content-Type": "text/html"}, body=page)
        for name, operation in vault.operations.items():
            case = vault.prepared(operation)
            with quickly(), vault.proxy.watched() as seen, vault.proxy.doing(fault):
                try:
                    operation.act(case)
                except StorageError as error:
                    assert_clean(error, vault)
                else:
                    assert name in CHANGING or name == "list", (status, name)
            assert len(seen) < 20, (status, name)


LONE = (*MAKING, "stat", "read", "working_copy", "list", "delete")


class TestWhatAPersonHasToRepair:
    """Promise 14. It is told at once: no request is repeated."""

    def test_a_right_that_we_do_not_have(self, vault: Vault) -> None:
        for name in vault.operations:
            case = vault.prepared(vault.operations[name])
            with vault.proxy.doing(Fault(status=403)):
                assert_told_at_once(vault, name, case, CredentialsRefused)

    def test_wrong_keys(self, server: ObjectServer, settings: Any, tmp_path: Path) -> None:
        write_account(tmp_path / "stranger.json")
        wrong: dict[str, dict[str, Any]] = {
            "s3": {"secret_key": "wrong"},
            "gcs": {"credentials_file": str(tmp_path / "stranger.json")},
            "azure": {"account_key": "d3Jvbmc="},
        }
        with FaultyProxy(server.options["endpoint_url"]) as proxy:
            storage = configure_behind(settings, server, proxy, **wrong[server.alias])
            # Google's library asks for a new token twice: the old one may just have ended.
            attempts = 3 if server.alias == "gcs" else 1
            for name in LONE:
                assert_told_at_once(Vault(storage, proxy), name, Case(storage, 0), CredentialsRefused, attempts)

    def test_a_bucket_that_is_not_there(self, server: ObjectServer, settings: Any) -> None:
        with FaultyProxy(server.options["endpoint_url"]) as proxy:
            option = {server.bucket_option: "test-that-is-not-there"}
            storage = configure_behind(settings, server, proxy, **option)
            for name in LONE:
                assert_told_at_once(Vault(storage, proxy), name, Case(storage, 0), BucketNotFound)

    def test_a_clock_that_is_wrong(self, s3_server: ObjectServer, settings: Any) -> None:
        """Amazon allows for 15 minutes; the others do not look at the clock in what they sign for each request."""
        with FaultyProxy(s3_server.options["endpoint_url"]) as proxy:
            storage = configure_behind(settings, s3_server, proxy)
            for name in LONE:
                with time_machine.travel(datetime.now(UTC) + timedelta(hours=1)):
                    assert_told_at_once(Vault(storage, proxy), name, Case(storage, 0), CredentialsRefused)
            storage.save(SMALL_NAME, ContentFile(SMALL))


def assert_told_at_once(vault: Vault, name: str, case: Case, kind: type[StorageError], attempts: int = 1) -> None:
    with quickly(), vault.proxy.watched() as seen, pytest.raises(StorageError) as caught:
        vault.operations[name].act(case)
    assert type(caught.value) is kind, (name, caught.value)
    assert_clean(caught.value, vault)
    asked = Counter((exchange.method, exchange.target) for exchange in seen)
    assert asked, name
    assert max(asked.values()) <= attempts, (name, asked)


def test_a_storage_that_is_not_there_is_a_clean_error(server: ObjectServer, settings: Any) -> None:
    """Promise 14. Nobody listens at its address."""
    with FaultyProxy(server.options["endpoint_url"]) as proxy:
        endpoint = proxy.url.replace(proxy.netloc, f"127.0.0.1:{free_port()}")
        storage = configure(settings, server, endpoint_url=endpoint)
        vault = Vault(storage, proxy)
        for name in LONE:
            with quickly(), pytest.raises(TransientStorageError) as caught:
                vault.operations[name].act(Case(storage, 0))
            assert_clean(caught.value, vault)
