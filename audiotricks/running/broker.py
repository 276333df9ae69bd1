"""The embedded broker: kombu's filesystem transport with atomic messages.

kombu's reader may get half a message, or raise for an unreadable one. Here a message is written in ``writing/`` and
renamed into the queue, and renamed into ``taken/`` by one reader. Nothing is synced: the sweep resends lost messages.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from queue import Empty
from typing import Any
from uuid import uuid4

import structlog
from kombu.exceptions import ChannelError
from kombu.transport import TRANSPORT_ALIASES, filesystem
from kombu.transport.filesystem import exchange_queue_t
from kombu.transport.virtual import QoS as VirtualQoS
from kombu.utils.json import dumps, loads
from kombu.utils.scheduling import FairCycle

from audiotricks.files import locked, replace_file

#: Writing and taking last milliseconds: an older file was left by a killed process. Transport option:
#: ``left_after_seconds``.
LEFT_AFTER_SECONDS = 60
#: Unreadable messages that are kept for inspection; the oldest go first.
MOST_UNREADABLE = 100

log = structlog.get_logger(__name__)


def register() -> None:
    """For ``filesystem:`` addresses."""
    TRANSPORT_ALIASES["filesystem"] = f"{__name__}:Transport"


class QoS(VirtualQoS):
    """Wakes the consumer after each acknowledgement."""

    def __init__(self, channel: Any, prefetch_count: int = 0) -> None:
        super().__init__(channel, prefetch_count)
        self.wake: threading.Event = channel.connection.wake

    def ack(self, delivery_tag: str) -> None:
        super().ack(delivery_tag)
        self.wake.set()

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        super().reject(delivery_tag, requeue=requeue)
        self.wake.set()


class Channel(filesystem.Channel):
    QoS = QoS

    def __init__(self, connection: Any, **kwargs: Any) -> None:
        super().__init__(connection, **kwargs)
        self.folder = Path(self.data_folder_out)
        self.writing = self.folder / "writing"
        self.taken = self.folder / "taken"
        self.unreadable = self.folder / "unreadable"
        self.left_after = float(self.transport_options.get("left_after_seconds", LEFT_AFTER_SECONDS))
        self.listed: dict[str, deque[str]] = {}
        self.tidied_at = float("-inf")
        self._make_folders()

    def _make_folders(self) -> None:
        for folder in (self.folder, self.writing, self.taken, self.unreadable, Path(self.control_folder)):
            with suppress(OSError):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    # Messages

    def _put(self, queue: str, payload: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """Raises ChannelError."""
        # Names sort by the time of sending.
        name = f"{time.time_ns():020d}_{uuid4()}.{queue}.msg"
        draft = self.writing / name
        try:
            self._write(draft, dumps(payload))
            draft.rename(self.folder / name)
        except OSError as error:
            with suppress(OSError):
                draft.unlink(missing_ok=True)
            raise ChannelError(f"The message cannot be written: {error}") from error

    def _write(self, draft: Path, text: str) -> None:
        try:
            draft.write_text(text)
        except FileNotFoundError:
            # The folders were removed while we run.
            self._make_folders()
            draft.write_text(text)

    def _get(self, queue: str, timeout: float | None = None) -> Any:
        """The oldest message. Raises nothing but Empty."""
        self._tidy()
        waiting = self.listed.get(queue)
        if not waiting:
            waiting = self.listed[queue] = deque(self._names(queue))
        while waiting:
            payload = self._take(waiting.popleft())
            if payload is not None:
                return payload
        raise Empty

    def _take(self, name: str) -> Any:
        """None when another reader has it or it is unreadable."""
        mine = self.taken / name
        try:
            (self.folder / name).rename(mine)
        except FileNotFoundError:
            return None
        except OSError as error:
            log.error("message_not_taken", message_file=name, error=str(error))
            return None
        try:
            payload = loads(mine.read_bytes())
            # Raises for an incomplete message here, not in the worker's loop.
            self.Message(payload, channel=self)
        except FileNotFoundError:
            return None
        except Exception as error:  # noqa: BLE001 - whatever is in the file, the worker goes on with the next one
            self._set_aside(mine, error)
            return None
        with suppress(OSError):
            mine.unlink()
        return payload

    def _set_aside(self, path: Path, error: Exception) -> None:
        log.error("message_unreadable", message_file=path.name, error=f"{type(error).__name__}: {error}")
        with suppress(OSError):
            path.rename(self.unreadable / path.name)
            kept = sorted(self.unreadable.iterdir(), key=lambda each: each.lstat().st_ctime)
            for each in kept[:-MOST_UNREADABLE]:
                each.unlink()

    def _names(self, queue: str) -> list[str]:
        ending = f"{queue}.msg"
        try:
            return sorted(entry.name for entry in os.scandir(self.folder) if entry.name.partition(".")[2] == ending)
        except FileNotFoundError:
            self._make_folders()
        except OSError as error:
            log.error("messages_not_listed", error=str(error))
        return []

    def _size(self, queue: str) -> int:
        return len(self._names(queue))

    def _purge(self, queue: str) -> int:
        purged = 0
        for name in self._names(queue):
            with suppress(OSError):
                (self.folder / name).unlink()
                purged += 1
        return purged

    def _tidy(self) -> None:
        """Remove unfinished messages and return those of dead readers."""
        if time.monotonic() - self.tidied_at < self.left_after:
            return
        self.tidied_at = time.monotonic()
        for path in left_in(self.writing, self.left_after):
            with suppress(OSError):
                path.unlink()
        for path in left_in(self.taken, self.left_after):
            with suppress(OSError):
                path.rename(self.folder / path.name)

    # Bindings of exchanges and queues

    def get_table(self, exchange: str) -> list[exchange_queue_t]:
        """Includes the bindings of this process, in case the file was lost."""
        rows = self._rows(self._exchange_file(exchange))
        for binding in list(self.state.bindings):
            if binding.exchange == exchange:
                arguments = self.state.bindings[binding]
                meta = self.typeof(exchange).prepare_bind(binding.queue, exchange, binding.routing_key, arguments)
                rows.append(row_of(*meta))
        return list(dict.fromkeys(rows))

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        row = row_of(routing_key, pattern, queue)
        self._change_table(exchange, lambda rows: rows if row in rows else [row, *rows])

    def _delete(self, queue: str, exchange: str, routing_key: str, pattern: str, *args: Any, **kwargs: Any) -> None:
        self._purge(queue)
        row = row_of(routing_key, pattern, queue)
        self._change_table(exchange, lambda rows: [each for each in rows if each != row])

    def _change_table(self, exchange: str, change: Callable[[list[exchange_queue_t]], list[exchange_queue_t]]) -> None:
        path = self._exchange_file(exchange)
        self._make_folders()
        try:
            with locked(Path(self.control_folder) / "lock"):
                before = self._rows(path)
                after = change(before)
                if after != before:
                    replace_file(path, dumps(after), durable=False)
        except OSError as error:
            raise ChannelError(f"The broker's table cannot be written: {error}") from error

    def _rows(self, path: Path) -> list[exchange_queue_t]:
        try:
            return [exchange_queue_t(*row) for row in loads(path.read_bytes())]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, TypeError) as error:
            log.error("broker_table_unreadable", table=path.name, error=str(error))
            return []


class Transport(filesystem.Transport):
    Channel = Channel
    cycle: FairCycle

    def __init__(self, client: Any, **kwargs: Any) -> None:
        super().__init__(client, **kwargs)
        #: Set after each acknowledged message, when another one may be fetched.
        self.wake = threading.Event()

    def drain_events(self, connection: Any, timeout: float | None = None, **kwargs: Any) -> None:
        """Deliver one message, or raise TimeoutError."""
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            self.wake.clear()
            try:
                self.cycle.get(self._deliver, timeout=timeout)
                return
            except Empty:
                left = self.polling_interval if until is None else until - time.monotonic()
                if left <= 0:
                    raise TimeoutError from None
                self.wake.wait(min(left, self.polling_interval))


def row_of(routing_key: str | None, pattern: str | None, queue: str | None) -> exchange_queue_t:
    return exchange_queue_t(routing_key or "", pattern or "", queue or "")


def left_in(folder: Path, seconds: float) -> Iterable[Path]:
    """Files last renamed this long ago."""
    before = time.time() - seconds
    with suppress(OSError):
        for entry in os.scandir(folder):
            with suppress(OSError):
                if entry.stat(follow_symlinks=False).st_ctime < before:
                    yield Path(entry.path)
