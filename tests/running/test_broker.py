"""The embedded broker under load, with writers and readers that are killed, and with messages that cannot be read."""

import json
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection, Exchange, Queue

from audiotricks.running import broker
from tests.running.programs import environment, started
from tests.servers import wait_until

QUEUE = Queue("work", routing_key="work")
WRITER = """
import sys
from tests.running.test_broker import QUEUE, connected
from pathlib import Path
with connected(Path(sys.argv[1])) as connection:
    producer = connection.Producer()
    print("up", flush=True)
    while True:
        producer.publish({"number": 1, "padding": "x" * 20_000}, routing_key="work", declare=[QUEUE])
"""


@pytest.fixture(autouse=True)
def nothing_declared() -> None:
    """Each test has a broker of its own; what a process declared, it remembers for all of its connections."""
    broker.Transport.global_state.clear()


def connected(folder: Path, **options: Any) -> Connection:
    broker.register()
    queue = str(folder / "queue")
    return Connection(
        "filesystem://localhost",
        transport_options={
            "data_folder_in": queue,
            "data_folder_out": queue,
            "control_folder": str(folder / "control"),
            "polling_interval": 0.01,
            **options,
        },
    )


def send(folder: Path, *numbers: int) -> None:
    with connected(folder) as connection:
        producer = connection.Producer()
        for number in numbers:
            producer.publish({"number": number, "padding": "x" * 20_000}, routing_key="work", declare=[QUEUE])


def receive(folder: Path, *, until: Callable[[], bool] = lambda: True, **options: Any) -> list[int]:
    """The numbers that came, until the condition holds and nothing waits."""
    received: list[int] = []

    def take(body: Any, message: Any) -> None:
        received.append(body["number"])
        message.ack()

    with connected(folder, **options) as connection, connection.Consumer([QUEUE], callbacks=[take], prefetch_count=1):
        while True:
            ended = until()
            try:
                connection.drain_events(timeout=0.05)
            except TimeoutError:
                if ended:
                    return received


def messages(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "queue").iterdir() if path.is_file())


def test_many_writers_and_readers_lose_nothing_and_give_nothing_twice(tmp_path: Path) -> None:
    """Promise 59."""
    numbers = range(400)
    written = threading.Event()
    with ThreadPoolExecutor(8) as pool:
        readers = [pool.submit(receive, tmp_path, until=written.is_set) for _ in range(4)]
        for writer in [pool.submit(send, tmp_path, *numbers[start::4]) for start in range(4)]:
            writer.result()
        written.set()
        received = [number for reader in readers for number in reader.result()]
    assert sorted(received) == list(numbers)
    assert messages(tmp_path) == []


def test_messages_come_in_the_order_of_their_sending(tmp_path: Path) -> None:
    send(tmp_path, *range(30))
    assert receive(tmp_path) == list(range(30))


def test_a_writer_that_is_killed_leaves_only_whole_messages(tmp_path: Path) -> None:
    """Promise 59."""
    counts = []
    for attempt in range(4):
        folder = tmp_path / str(attempt)
        with started([sys.executable, "-c", WRITER, str(folder)], environment(), tmp_path / "log") as writer:
            wait_until(lambda folder=folder: len(messages(folder)) > 20 if folder.exists() else False, what="messages")
            writer.process.send_signal(signal.SIGKILL)
            writer.process.wait(timeout=20)
        sent = messages(folder)
        for message in sent:
            json.loads(message.read_bytes())
        counts.append((len(sent), len(receive(folder))))
    assert all(sent == received for sent, received in counts)


@pytest.mark.parametrize(
    "damaged",
    [b"", b'{"body": "e30', b"[]", b"null", b"{}", b"\xff\xfe", b'{"body": "?", "properties": {}}', "a folder"],
    ids=str,
)
def test_a_message_that_cannot_be_read_is_set_aside_and_the_next_one_comes(
    tmp_path: Path, damaged: bytes | str
) -> None:
    """Promise 59."""
    send(tmp_path, 1)
    first = tmp_path / "queue" / "00000000000000000000_damaged.work.msg"
    if isinstance(damaged, str):
        first.mkdir()
    else:
        first.write_bytes(damaged)
    assert receive(tmp_path) == [1]
    assert [path.name for path in (tmp_path / "queue" / "unreadable").iterdir()] == [first.name]


def test_no_more_than_a_hundred_unreadable_messages_are_kept(tmp_path: Path) -> None:
    send(tmp_path, 1)
    for index in range(130):
        (tmp_path / "queue" / f"{index:020d}_damaged.work.msg").write_bytes(b"{")
    assert receive(tmp_path) == [1]
    assert len(list((tmp_path / "queue" / "unreadable").iterdir())) == 100


def test_messages_that_a_killed_process_left_half_way_are_removed_or_given_back(tmp_path: Path) -> None:
    send(tmp_path, 1, 2)
    half = tmp_path / "queue" / "writing" / "00000000000000000000_half.work.msg"
    half.write_bytes(b'{"body": "e3')
    taken, _ = messages(tmp_path)
    taken.rename(tmp_path / "queue" / "taken" / taken.name)
    assert receive(tmp_path) == [2]
    assert half.exists()
    assert receive(tmp_path, left_after_seconds=0) == [1]
    assert not half.exists()


def test_what_a_consumer_had_not_acknowledged_is_given_back_when_it_ends(tmp_path: Path) -> None:
    send(tmp_path, 7)
    with connected(tmp_path) as connection:
        message = connection.default_channel.basic_get("work")
        assert message is not None
        assert messages(tmp_path) == []
    assert receive(tmp_path) == [7]


@pytest.mark.parametrize("table", ["", '[["work", "", "wo', "{}", None])
def test_a_broker_whose_table_was_damaged_or_lost_delivers_all_the_same(tmp_path: Path, table: str | None) -> None:
    with connected(tmp_path) as connection:
        producer = connection.Producer(exchange=Exchange("tasks"))
        queue = Queue("work", exchange=producer.exchange, routing_key="work")
        producer.publish({"number": 1}, routing_key="work", declare=[queue])
        (path,) = (tmp_path / "control").glob("*.exchange")
        if table is None:
            path.unlink()
        else:
            path.write_text(table)
        producer.publish({"number": 2}, routing_key="work", declare=[queue])
    assert receive(tmp_path) == [1, 2]


def test_folders_that_are_removed_while_it_runs_are_made_again(tmp_path: Path) -> None:
    with connected(tmp_path) as connection:
        producer = connection.Producer()
        producer.publish({"number": 1}, routing_key="work", declare=[QUEUE])
        (tmp_path / "queue").rename(tmp_path / "elsewhere")
        producer.publish({"number": 2}, routing_key="work", declare=[QUEUE])
    assert receive(tmp_path) == [2]


def test_the_next_message_is_taken_as_soon_as_one_was_dealt_with(tmp_path: Path) -> None:
    """Not at the next look into the folder, which may be far away."""
    send(tmp_path, *range(5))
    received: list[int] = []

    def take(body: Any, message: Any) -> None:
        received.append(body["number"])
        threading.Timer(0.05, message.ack).start()

    with connected(tmp_path) as connection:
        connection.transport.polling_interval = 600
        with connection.Consumer([QUEUE], callbacks=[take], prefetch_count=1):
            for _ in range(5):
                connection.drain_events(timeout=30)
    assert received == list(range(5))
