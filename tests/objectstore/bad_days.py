"""Operations on a storage behind a proxy that has faults on command, and what is to be seen when they are over."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import requests
from django.core.files.base import ContentFile

from objectstore.base import AudioStorage
from objectstore.capabilities import DirectUpload
from objectstore.errors import StorageError
from objectstore.retry import RetryPolicy, retry_policy
from tests.object_servers import ObjectServer
from tests.object_servers.faults import Exchange, Fault, FaultyProxy
from tests.object_servers.fixtures import configure
from tests.objectstore.test_storage_contract import MIB, get, names_in, noise

SMALL = noise(300_000)
#: Of what consists of two parts. S3 takes no smaller ones.
PART_BYTES = {"s3": 5 * MIB, "gcs": MIB // 2, "azure": MIB // 2}
LARGE = {alias: noise(part_bytes + 100_000, seed=1) for alias, part_bytes in PART_BYTES.items()}
SOURCES = "audio/sources/"
SMALL_NAME = f"{SOURCES}small.mp3"
LARGE_NAME = f"{SOURCES}large.mp3"
QUICK = RetryPolicy(max_attempts=3, initial_delay=0.001, max_delay=0.01)
#: An operation that meets a fault takes no longer than this, in seconds.
BOUND = 20

UNAVAILABLE = Fault(status=503)
LOST = Fault(answer="lost")


@dataclass
class Case:
    """One operation, in a folder of its own."""

    storage: AudioStorage
    number: int
    direct: DirectUpload = field(init=False)

    @property
    def folder(self) -> str:
        return f"audio/{self.number:04}/"

    @property
    def name(self) -> str:
        return f"{self.folder}audio.mp3"

    def save(self, content: bytes) -> None:
        self.storage.save(self.name, ContentFile(content), metadata=lambda: {"audio_id": "0b7f"})

    def begin(self) -> None:
        self.direct = self.storage.direct.begin(
            self.name, size_bytes=len(SMALL), content_type="audio/mpeg", metadata=dict, seconds=300
        )

    def begin_and_send(self) -> None:
        self.begin()
        for wanted in self.storage.direct.requests(self.name, self.direct, size_bytes=len(SMALL), seconds=300):
            part = SMALL[wanted.start : wanted.start + wanted.size]
            headers = {**wanted.headers, "Connection": "close"}
            answer = requests.request(wanted.method, wanted.url, headers=headers, data=part, timeout=30)
            assert answer.ok, answer.text

    def complete(self) -> int:
        return self.storage.direct.complete(self.name, self.direct, size_bytes=len(SMALL), metadata=dict).size


def nothing(case: Case) -> None:
    pass


@dataclass(frozen=True)
class Operation:
    """``result`` is what ``act`` returns, ``left`` the one object that is then in the case's folder."""

    act: Callable[[Case], object]
    result: object = None
    left: bytes | None = None
    prepare: Callable[[Case], object] = nothing


def read_middle(case: Case) -> bytes:
    with case.storage.open_range(SMALL_NAME, 1000, 200_000) as file:
        return file.read()


def read_working_copy(case: Case) -> bytes:
    with case.storage.working_copy(SMALL_NAME) as path:
        return path.read_bytes()


def operations_with(large: bytes) -> dict[str, Operation]:
    return {
        "save": Operation(lambda case: case.save(SMALL), None, SMALL),
        "save_parts": Operation(lambda case: case.save(large), None, large),
        "stat": Operation(lambda case: case.storage.stat(SMALL_NAME).size, len(SMALL)),
        "read": Operation(lambda case: get(case.storage, SMALL_NAME), SMALL),
        "read_middle": Operation(read_middle, SMALL[1000:201_000]),
        "working_copy": Operation(read_working_copy, SMALL),
        "copy": Operation(lambda case: case.storage.copy(SMALL_NAME, case.name).size, len(SMALL), SMALL),
        "compose": Operation(
            lambda case: case.storage.compose([LARGE_NAME, SMALL_NAME], case.name).size,
            len(large + SMALL),
            large + SMALL,
        ),
        "delete": Operation(lambda case: case.storage.delete(case.name), prepare=lambda case: case.save(SMALL)),
        "list": Operation(
            lambda case: {stat.name: stat.size for stat in case.storage.list(SOURCES)},
            {SMALL_NAME: len(SMALL), LARGE_NAME: len(large)},
        ),
        "begin_direct": Operation(Case.begin),
        "complete_direct": Operation(Case.complete, len(SMALL), SMALL, Case.begin_and_send),
        "abort_direct": Operation(
            lambda case: case.storage.direct.abort(case.name, case.direct), prepare=Case.begin_and_send
        ),
    }


OPERATIONS = {alias: operations_with(large) for alias, large in LARGE.items()}


@dataclass
class Vault:
    """A storage behind a proxy."""

    storage: AudioStorage
    proxy: FaultyProxy
    cases: int = 0

    @property
    def operations(self) -> dict[str, Operation]:
        return OPERATIONS[self.storage.provider]

    def prepared(self, operation: Operation) -> Case:
        self.cases += 1
        case = Case(self.storage, self.cases)
        operation.prepare(case)
        return case

    def left(self, case: Case) -> bytes | None:
        """The one object in the folder."""
        found = names_in(self.storage, case.folder)
        assert found <= {case.name}
        return get(self.storage, case.name) if found else None

    def requests_of(self, name: str) -> list[Exchange]:
        """What the operation asks for on a good day."""
        key = (self.storage.provider, name)
        if key not in GOOD_DAYS:
            operation = self.operations[name]
            case = self.prepared(operation)
            with self.proxy.watched() as seen:
                assert operation.act(case) == operation.result
            assert self.left(case) == operation.left
            GOOD_DAYS[key] = seen
        return GOOD_DAYS[key]


GOOD_DAYS: dict[tuple[str, str], list[Exchange]] = {}


@contextmanager
def quickly() -> Iterator[None]:
    begun = time.monotonic()
    with retry_policy(QUICK):
        yield
    assert time.monotonic() - begun < BOUND


def configure_behind(settings: Any, server: ObjectServer, proxy: FaultyProxy, **options: Any) -> AudioStorage:
    settings.STORAGE_PART_BYTES = PART_BYTES[server.alias]
    settings.STORAGE_PARALLEL_PARTS = 2
    return configure(settings, server, endpoint_url=proxy.url, **options)


@contextmanager
def vault_of(server: ObjectServer, settings: Any) -> Iterator[Vault]:
    """One with the two sources in it."""
    with FaultyProxy(server.options["endpoint_url"]) as proxy:
        storage = configure_behind(settings, server, proxy)
        storage.save(SMALL_NAME, ContentFile(SMALL))
        storage.save(LARGE_NAME, ContentFile(LARGE[server.alias]))
        yield Vault(storage, proxy)


def assert_clean(error: StorageError, vault: Vault) -> None:
    """Nothing that clients should not read."""
    told = f"{error} {error.detail}"
    for secret in ("audio/", vault.proxy.netloc, "http", "test-", "Signature", "sig=", "127.0.0.1"):
        assert secret not in told
