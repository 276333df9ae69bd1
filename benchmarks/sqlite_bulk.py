"""Eight clients that upload to the embedded default (SQLite) while two bulk actions run, against the same when idle."""

import http
import http.client
import json
import signal
import statistics
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from benchmarks.figures import Figure, report
from benchmarks.web import temporary_directory
from tests.audio import make_wav
from tests.running.programs import environment, ran, started
from tests.servers import free_port

CLIENTS = 8
FILES_OF_EACH_ACTION = 2000
IDLE_SECONDS = 15.0
LONGEST_SECONDS = 120.0
MOST_SECONDS_P95 = 3.0

PREPARE = f"""
import sys
from django.db.models.functions import Now
from quotas.models import Workspace
from uploads.actions.holds import HOLD
from uploads.actions.trash import DELETE
from uploads.actions.bulk import start
from tests.factories import give_object
from uploads.models import AudioUpload
workspace = Workspace.objects.get(slug="demo")
made = []
for number in range({2 * FILES_OF_EACH_ACTION}):
    made.append(AudioUpload(
        workspace=workspace, original_filename=f"bulk-{{number}}.wav", file_size=1, file_type="wav",
        mime_type="audio/wav", storage_provider="local", storage_path="audio/none", status="completed",
        uploaded_at=Now(), created_at=Now(),
    ))
    give_object(made[-1])
for begin in range(0, len(made), 500):
    AudioUpload.objects.bulk_create(made[begin:begin + 500])
for action, half in ((DELETE, made[::2]), (HOLD, made[1::2])):
    start(action, AudioUpload.objects.filter(pk__in=[upload.pk for upload in half]), actor=None)
"""
UNFINISHED = "from uploads.models import BulkAction; print('left', BulkAction.objects.filter(finished_at=None).count())"


#: Made before anything is measured; more clients than these send the same again.
CONTENTS = [make_wav(seed=seed) for seed in range(64)]


@dataclass
class Answers:
    seconds: list[float] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)

    @property
    def p95(self) -> float:
        return statistics.quantiles(self.seconds, n=20)[-1]


def main() -> int:
    with temporary_directory() as directory:
        var, port = directory / "var", free_port()
        env = environment(VAR_DIR=str(var), PORT=str(port), LOG_FORMAT="json", THROTTLE_USER="1000000/min")
        with started([sys.executable, "manage.py", "run"], env, directory / "log") as program:
            program.wait_for("ctrl-C stops it")
            token = json.loads((var / "demo-login.json").read_text())["token"]
            upload(port, token, Answers(), seed=1)
            idle, busy, done = Answers(), Answers(), threading.Event()
            with uploading(port, token, idle, done):
                time.sleep(IDLE_SECONDS)
            shell(PREPARE, env)
            began = time.monotonic()
            with uploading(port, token, busy, done):
                while "left 0" not in shell(UNFINISHED, env) and time.monotonic() - began < LONGEST_SECONDS:
                    time.sleep(2)
            took = time.monotonic() - began
            program.signal_and_wait(signal.SIGTERM)
    words = f"p95 {busy.p95:.2f} s of {len(busy.seconds)} uploads; the actions took {took:.0f} s"
    in_limit = busy.p95 / MOST_SECONDS_P95
    return report(
        [
            Figure(
                "8 uploading clients during two bulk actions on SQLite, to 3 s",
                words,
                in_limit,
                at_most=1,
            ),
            Figure("the same to idle", f"{busy.p95:.2f} to {idle.p95:.2f} s", busy.p95 / idle.p95),
            Figure("uploads that were refused meanwhile", str(busy.refused or 0), float(len(busy.refused)), at_most=0),
        ]
    )


def shell(code: str, env: dict[str, str]) -> str:
    run = ran([sys.executable, "manage.py", "shell", "--verbosity", "0", "-c", code], env)
    if run.returncode:
        raise RuntimeError(run.stderr)
    return run.stdout


class uploading:
    """CLIENTS clients upload, one file after another, until the end of the block."""

    def __init__(self, port: int, token: str, answers: Answers, done: threading.Event) -> None:
        self.port, self.token, self.answers, self.done = port, token, answers, done
        self.threads = ThreadPoolExecutor(CLIENTS)

    def __enter__(self) -> None:
        self.done.clear()
        for number in range(CLIENTS):
            self.threads.submit(self.client, number)

    def __exit__(self, *error: object) -> None:
        self.done.set()
        self.threads.shutdown()

    def client(self, number: int) -> None:
        seed = number
        while not self.done.is_set():
            seed += CLIENTS
            upload(self.port, self.token, self.answers, seed=seed)


def upload(port: int, token: str, answers: Answers, *, seed: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    headers = {"Authorization": f"Bearer {token}", "Content-Disposition": 'attachment; filename="a.wav"'}
    began = time.perf_counter()
    try:
        connection.request("POST", "/api/v1/uploads/", CONTENTS[seed % len(CONTENTS)], headers)
        answer = connection.getresponse()
        answer.read()
    finally:
        connection.close()
    answers.seconds.append(time.perf_counter() - began)
    if answer.status != http.HTTPStatus.CREATED:
        answers.refused.append(answer.status)


if __name__ == "__main__":
    sys.exit(main())
