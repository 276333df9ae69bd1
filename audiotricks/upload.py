"""``python -m audiotricks.upload URL FILE...``: send recordings from a terminal, several in parallel, and resume them.

It needs nothing but Python's standard library: this file alone may be copied to another machine. It speaks tus 1.0.0.
What was begun is noted in ``$XDG_STATE_HOME/audiotricks/uploads.json``, so that the same command, run again, sends only
what has not arrived.
"""

import argparse
import base64
import getpass
import hashlib
import http.client
import json
import os
import queue
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from urllib.parse import urljoin, urlsplit

try:
    import fcntl
except ImportError:  # Windows: two runs at the same time may forget each other's notes, and then send more than needed.
    fcntl = None  # type: ignore[assignment]

Result = TypeVar("Result")
API = "api/v1/"
BLOCK_BYTES = 1024 * 1024
#: Of one request: a proxy may bound them, such as Cloudflare to 100 MB.
PIECE_BYTES = 64 * 1024 * 1024
#: Between two pieces of news from the server. After the last byte it may have to read a large file once more.
SILENT_SECONDS = 60
COMPLETING_SECONDS = 600
FIRST_WAIT_SECONDS = 0.5
MOST_WAIT_SECONDS = 60
NOTES_KEPT_SECONDS = 8 * 24 * 3600
#: These say "later"; every other 4xx that a session gets has ended it, except where only the token is at fault.
RETRYABLE = {408, 409, 423, 425, 429}
TOKEN_AT_FAULT = {401, 403}
DISK_FULL = 507
EXIT_CODES = """
exit codes:
  0    everything is stored, or was there already
  1    something was refused, or could not be sent
  2    the command line is wrong
  3    the server could not be reached for too long
  130  interrupted; run the same command again to resume
"""


class Exit(IntEnum):
    STORED = 0
    REFUSED = 1
    USAGE = 2
    UNREACHABLE = 3
    INTERRUPTED = 130


class Refused(Exception):
    """The server said no; ``str()`` is why, in its words."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class Unreachable(Exception):
    """No answer, or none that is of use now; it may be asked again."""


class Interrupted(Exception):
    pass


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    def check(self) -> "Answer":
        """Raise ``Unreachable`` where the same request may succeed later, ``Refused`` for every other error."""
        if self.status < 300:
            return self
        problem = self.json()
        detail = problem.get("detail") if isinstance(problem, dict) else None
        if self.status < 400:
            raise Refused(self.status, f"The server sends us to {self.headers.get('Location')}: give that address.")
        if self.status == 401:
            raise Refused(self.status, "The server does not accept this token.")
        detail = str(detail or f"The server answered {self.status}.")
        if self.status in RETRYABLE or (self.status >= 500 and self.status != DISK_FULL):
            raise Unreachable(detail)
        raise Refused(self.status, detail)


class Server:
    """Requests to one AudioTricks. Each is a connection of its own."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url if url.endswith("/") else f"{url}/"
        self.headers = {"Authorization": f"Bearer {token}"}

    def ask(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        body: Iterator[bytes] | bytes | None = None,
        *,
        patience: float = SILENT_SECONDS,
    ) -> Answer:
        """The answer, of whatever status. Raises ``Unreachable`` without one."""
        target = urlsplit(urljoin(self.url, url))
        # A token goes only to the server that it is for, whatever an answer says.
        if (target.scheme, target.netloc) != urlsplit(self.url)[:2]:
            raise Refused(0, f"The server sends us to {target.scheme}://{target.netloc}: give that address.")
        path = target.path + (f"?{target.query}" if target.query else "")
        connection = connect(target.scheme, target.netloc)
        try:
            try:
                connection.request(method, path, body, {**self.headers, **headers})
            except ConnectionError:
                # A server that refuses answers before it has read everything, and hangs up.
                if connection.sock is None:
                    raise
            if connection.sock is not None:
                connection.sock.settimeout(patience)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(str(error) or type(error).__name__) from error
        finally:
            connection.close()

    def preflight(self, name: str, size: int, sha256: str, workspace: str) -> dict[str, Any]:
        body: dict[str, Any] = {"files": [{"filename": name, "size": size, "sha256": sha256}]}
        if workspace:
            body["workspace"] = workspace
        headers = {"Content-Type": "application/json"}
        answer = self.ask("POST", f"{API}uploads/preflight/", headers, json.dumps(body).encode()).check()
        match answer.json():
            case [{"verdict": str()} as verdict]:
                return dict(verdict)
        raise Refused(answer.status, "This is not the address of an AudioTricks server.")


def connect(scheme: str, host: str) -> http.client.HTTPConnection:
    if scheme == "https":
        return http.client.HTTPSConnection(host, timeout=SILENT_SECONDS, context=ssl.create_default_context())
    return http.client.HTTPConnection(host, timeout=SILENT_SECONDS)


class Notes:
    """What was begun, over several runs: for each file its SHA-256 and the address of its session."""

    def __init__(self) -> None:
        folder = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        self.path = Path(folder) / "audiotricks" / "uploads.json"
        self.lock = threading.Lock()

    def get(self, key: str) -> dict[str, Any]:
        with self.opened() as notes:
            return dict(notes.get(key, {}))

    def put(self, key: str, **values: Any) -> None:
        with self.opened() as notes:
            notes[key] = {**notes.get(key, {}), **values, "noted": time.time()}

    def drop(self, key: str) -> None:
        with self.opened() as notes:
            notes.pop(key, None)

    @contextmanager
    def opened(self) -> Iterator[dict[str, Any]]:
        """The notes, written back where they were changed. Where the disk does not take them, nothing is resumed."""
        with self.lock, suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self.lock, self.held():
            before = self.read()
            notes = {key: note for key, note in before.items() if note["noted"] > time.time() - NOTES_KEPT_SECONDS}
            yield notes
            if notes != before:
                with suppress(OSError):
                    draft = self.path.with_suffix(f".{os.getpid()}")
                    draft.write_text(json.dumps(notes, indent=1))
                    draft.replace(self.path)

    @contextmanager
    def held(self) -> Iterator[None]:
        try:
            lock: Any = self.path.with_suffix(".lock").open("a")
        except OSError:
            yield
            return
        with lock:
            if fcntl:
                with suppress(OSError):
                    fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def read(self) -> dict[str, Any]:
        try:
            notes = json.loads(self.path.read_text())
            return {key: note for key, note in notes.items() if isinstance(note["noted"], float)}
        except (OSError, ValueError, AttributeError, KeyError, TypeError):
            return {}


@dataclass
class Sending:
    """One file on its way."""

    path: Path
    server: Server
    notes: Notes
    workspace: str
    is_forced: bool
    patience: float
    stop: threading.Event
    size: int = 0
    modified: int = 0
    sha256: str = ""
    sent: int = 0
    hashed: int = 0
    waits: str = ""
    failing_since: float | None = None

    @property
    def name(self) -> str:
        return self.path.name.encode("utf-8", "replace").decode()

    @property
    def key(self) -> str:
        place = f"{self.server.url} {self.workspace}"
        return f"{place} {os.fsencode(self.path.resolve()).hex()} {self.size} {self.modified}"

    def run(self) -> str:
        """Send it, and return a line about it for people. Raises ``Refused``, ``Unreachable`` or ``OSError``."""
        with self.path.open("rb") as file:
            status = os.fstat(file.fileno())
            self.size, self.modified = status.st_size, status.st_mtime_ns
            note = self.notes.get(self.key)
            self.sha256 = note.get("sha256") or self.hash(file)
            self.notes.put(self.key, sha256=self.sha256)
            url = note.get("url", "")
            if there := self.patiently(lambda: self.look(is_begun=bool(url))):
                self.sent = self.size
                self.notes.drop(self.key)
                return there
            try:
                upload = self.send(file, url)
            except Refused as refusal:
                if refusal.status not in TOKEN_AT_FAULT | {DISK_FULL}:
                    self.notes.drop(self.key)
                raise
            self.notes.drop(self.key)
            return f"stored         {self.name}  {self.page_of(upload)}"

    def hash(self, file: BinaryIO) -> str:
        digest = hashlib.sha256()
        while block := file.read(BLOCK_BYTES):
            self.check_stop()
            digest.update(block)
            self.hashed += len(block)
        return digest.hexdigest()

    def look(self, *, is_begun: bool) -> str:
        """Where the recording is already, or "". Raises ``Refused`` where the file cannot go."""
        # What was begun has its bytes reserved: with them once more, the quota might have no room.
        size = min(self.size, 1) if is_begun else self.size
        answer = self.server.preflight(self.name, size, self.sha256, self.workspace)
        if answer["verdict"] == "refused" and not is_begun:
            raise Refused(0, answer["detail"])
        if self.is_forced or answer["verdict"] not in ("duplicate", "in_trash"):
            return ""
        page = self.page_of(answer["upload"])
        if answer["verdict"] == "in_trash":
            raise Refused(0, f"This recording is in the trash: take it out at {page}, or send it with --force.")
        return f"already there  {self.name}  {page}"

    def send(self, file: BinaryIO, url: str) -> str:
        """Send what has not arrived. Return the id of the upload."""
        answer = self.patiently(lambda: self.find(url)) if url else None
        if answer is None:
            url, answer = self.patiently(self.begin)
        while True:
            self.sent = offset = int(answer.headers["Upload-Offset"] or 0)
            location = answer.headers["Content-Location"]
            if offset == self.size and location:
                return str(location).rstrip("/").rpartition("/")[2]
            try:
                answer = self.send_piece(file, url, offset).check()
                self.go_on()
            except Unreachable as error:
                self.wait(error)
                found = self.patiently(lambda: self.find(url))
                if found is None:
                    raise Refused(410, "The server dropped the part that was sent. Send the file again.") from None
                if int(found.headers["Upload-Offset"] or 0) > offset:
                    self.go_on()
                answer = found

    def begin(self) -> tuple[str, Answer]:
        values = {"filename": self.name, "sha256": self.sha256, "lastmodified": str(self.modified // 1_000_000)}
        if self.workspace:
            values["workspace"] = self.workspace
        metadata = ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in values.items())
        headers = {"Tus-Resumable": "1.0.0", "Upload-Length": str(self.size), "Upload-Metadata": metadata}
        answer = self.server.ask("POST", f"{API}tus/", headers).check()
        url = urljoin(urljoin(self.server.url, f"{API}tus/"), answer.headers["Location"])
        self.notes.put(self.key, url=url)
        return url, answer

    def find(self, url: str) -> Answer | None:
        """How far the session is; None where there is none any more."""
        answer = self.server.ask("HEAD", url, {"Tus-Resumable": "1.0.0"}, patience=COMPLETING_SECONDS)
        if answer.status in (404, 410):
            return None
        return answer.check()

    def send_piece(self, file: BinaryIO, url: str, offset: int) -> Answer:
        length = min(PIECE_BYTES, self.size - offset)
        headers = {
            "Tus-Resumable": "1.0.0",
            "Upload-Offset": str(offset),
            "Content-Type": "application/offset+octet-stream",
            "Content-Length": str(length),
        }
        is_last = offset + length == self.size
        patience = COMPLETING_SECONDS if is_last else SILENT_SECONDS
        file.seek(offset)
        return self.server.ask("PATCH", url, headers, self.blocks(file, length), patience=patience)

    def blocks(self, file: BinaryIO, length: int) -> Iterator[bytes]:
        while length:
            self.check_stop()
            try:
                block = file.read(min(BLOCK_BYTES, length))
            except OSError as error:
                raise Refused(0, f"The file cannot be read: {error.strerror}.") from error
            if not block:
                raise Refused(0, "The file has become shorter while it was sent. Send it again.")
            length -= len(block)
            yield block
            self.sent += len(block)

    def patiently(self, ask: Callable[[], Result]) -> Result:
        """What ``ask`` returns, asked again until it answers. Raises ``Unreachable`` when patience ends."""
        while True:
            self.check_stop()
            try:
                return ask()
            except Unreachable as error:
                self.wait(error)

    def wait(self, error: Unreachable) -> None:
        """Sleep before the next try: as long as nothing has arrived, and not longer than a minute."""
        if self.failing_since is None:
            self.failing_since = time.monotonic()
        failing = time.monotonic() - self.failing_since
        if failing > self.patience:
            raise error
        self.waits = str(error)
        self.stop.wait(min(max(failing, FIRST_WAIT_SECONDS), MOST_WAIT_SECONDS))

    def go_on(self) -> None:
        self.failing_since, self.waits = None, ""

    def check_stop(self) -> None:
        if self.stop.is_set():
            raise Interrupted

    def page_of(self, upload: str) -> str:
        return urljoin(self.server.url, f"files/{upload}/")


class Progress:
    """One line at the foot of a terminal, over the lines that stay. Elsewhere only the lines."""

    def __init__(self, sendings: list[Sending]) -> None:
        self.sendings = sendings
        self.is_shown = sys.stderr.isatty()
        self.lock = threading.Lock()
        self.marks: list[tuple[float, int]] = []

    def say(self, line: str, *, is_bad: bool = False) -> None:
        with self.lock:
            self.clear()
            stream = sys.stderr if is_bad else sys.stdout
            coding = stream.encoding or "utf-8"
            print(printable(line).encode(coding, "replace").decode(coding), file=stream, flush=True)

    def clear(self) -> None:
        if self.is_shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def draw(self) -> None:
        if not self.is_shown:
            return
        size = sum(each.size for each in self.sendings)
        sent = sum(each.sent for each in self.sendings)
        now = time.monotonic()
        self.marks = [mark for mark in self.marks if mark[0] > now - 10 and mark[1] <= sent] + [(now, sent)]
        seconds, moved = now - self.marks[0][0], sent - self.marks[0][1]
        share = sent / size if size else 0
        words = f"{share:4.0%} {human(sent)} of {human(size)}"
        if seconds > 1 and moved:
            words += f"  {human(moved / seconds)}/s  {clock((size - sent) * seconds / moved)} left"
        hashing = sum(each.hashed for each in self.sendings if each.hashed < each.size)
        if not sent and hashing:
            words = f"reading: {human(hashing)} of {human(size)}"
        if trouble := next((each.waits for each in self.sendings if each.waits), ""):
            words += f"  waiting: {trouble}"
        width = os.get_terminal_size(sys.stderr.fileno()).columns
        bar = "#" * round(share * 20)
        with self.lock:
            self.clear()
            sys.stderr.write(printable(f"[{bar:<20}] {words}")[: width - 1])
            sys.stderr.flush()


def printable(text: str) -> str:
    """Without what would move the cursor or change colours: names and answers come from elsewhere."""
    return "".join(sign if sign.isprintable() else "?" for sign in text.encode("utf-8", "replace").decode())


def human(size: float) -> str:
    for unit in ("bytes", "KB", "MB", "GB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TB"


def clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def send_all(sendings: list[Sending], progress: Progress, jobs: int, stop: threading.Event) -> Exit:
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in range(len(sendings)):
        waiting.put(number)
    # A file counts as stored only once its own outcome says so, however a thread may end.
    outcomes = [Exit.REFUSED] * len(sendings)

    def work() -> None:
        with suppress(queue.Empty, Interrupted):
            while not stop.is_set():
                number = waiting.get_nowait()
                outcomes[number] = outcome_of(sendings[number], progress)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(jobs)]
    try:
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            progress.draw()
            next((thread for thread in threads if thread.is_alive()), threads[0]).join(0.2)
    except KeyboardInterrupt:
        stop.set()
        progress.say("Interrupted. Run the same command again to resume.", is_bad=True)
        return Exit.INTERRUPTED
    progress.clear()
    return max(outcomes)


def outcome_of(sending: Sending, progress: Progress) -> Exit:
    """Send one file and say how that ended. Raises ``Interrupted`` alone: no error of one file stops the others."""
    try:
        progress.say(sending.run())
        return Exit.STORED
    except Refused as refusal:
        progress.say(f"refused        {sending.name}  {refusal}", is_bad=True)
        return Exit.REFUSED
    except Unreachable as error:
        progress.say(f"not stored     {sending.name}  {error} Run the same command again to resume.", is_bad=True)
        return Exit.UNREACHABLE
    except OSError as error:
        progress.say(f"not readable   {sending.name}  {error.strerror or error}", is_bad=True)
        return Exit.REFUSED
    except Interrupted:
        raise
    except Exception as error:  # noqa: BLE001 - told as the failure of this file
        words = f"Unexpected error: {type(error).__name__} {error}".rstrip()
        progress.say(f"not stored     {sending.name}  {words}", is_bad=True)
        return Exit.REFUSED
    finally:
        sending.waits = ""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m audiotricks.upload",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    # Like the commands of manage.py, this program speaks English: without Django it has no catalogues.
    parser.description = "Send recordings to an AudioTricks server, and resume what was interrupted."
    parser.add_argument("url", metavar="URL", help="the server, such as https://vault.example.org")
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path)
    parser.add_argument("--token", help="an API token; better in AUDIOTRICKS_TOKEN, where other users do not see it")
    parser.add_argument("--workspace", default="", help="slug or id; the personal one by default")
    parser.add_argument("--jobs", type=int, default=3, help="files sent in parallel (3)")
    parser.add_argument("--force", action="store_true", help="send recordings too that are there already")
    parser.add_argument("--patience", type=float, default=600, help="seconds without progress before it gives up (600)")
    options = parser.parse_args(arguments)
    if not is_address(options.url):
        parser.error("URL must be an address such as https://vault.example.org or http://127.0.0.1:8000")
    if options.jobs < 1:
        parser.error("--jobs must be at least 1")
    for path in options.files:
        if not path.is_file():
            parser.error(f"{path} is {'a folder: give the files in it' if path.is_dir() else 'not there'}")
    token = (options.token or os.environ.get("AUDIOTRICKS_TOKEN") or ask_for_token(parser)).strip()
    if not (token and token.isascii() and token.isprintable()):
        # Nothing else fits into the header of a request.
        parser.error("The token must be one line of ASCII characters: copy it once more")
    server, notes, stop = Server(options.url, token), Notes(), threading.Event()
    paths = {path.resolve(): path for path in options.files}.values()
    sendings = [
        Sending(path, server, notes, options.workspace, options.force, options.patience, stop, path.stat().st_size)
        for path in paths
    ]
    return send_all(sendings, Progress(sendings), options.jobs, stop)


def is_address(url: str) -> bool:
    """Whether requests can be sent there. Names of hosts may have any letters, paths must be encoded."""
    try:
        parts = urlsplit(url)
        has_port = parts.port != 0  # Raises ``ValueError`` for what is not a port.
    except ValueError:
        return False
    is_path_encoded = parts.path.isascii() and parts.path.isprintable() and " " not in parts.path
    is_host_alone = bool(parts.hostname) and "@" not in parts.netloc
    return parts.scheme in ("http", "https") and has_port and is_host_alone and is_path_encoded


def ask_for_token(parser: argparse.ArgumentParser) -> str:
    if not sys.stdin.isatty():
        parser.error("give a token: --token, or the environment variable AUDIOTRICKS_TOKEN")
    return getpass.getpass("Token: ")


if __name__ == "__main__":
    sys.exit(main())
