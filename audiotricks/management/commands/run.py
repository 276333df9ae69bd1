import fcntl
import http.client
import json
import os
import shlex
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, TextIO

from django.conf import settings
from django.contrib.auth.models import User
from django.core import checks
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import Error, connection

from audiotricks.running.supervisor import Supervisor

# Shorter than the supervisor's patience, so that programs end by themselves.
GRACE_SECONDS = 5
READY_WITHIN_SECONDS = 60
WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - not bound here


class Command(BaseCommand):
    help = "Run web server, worker and scheduler on this machine until ctrl-C."
    # They run below, where a failure is one line.
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        with only_run_in(settings.VAR_DIR):
            self.run_alone()

    def run_alone(self) -> None:
        check_settings()
        check_port()
        check_database()
        # WhiteNoise warns of a missing folder; without collectstatic the finders serve.
        with suppress(OSError):
            settings.STATIC_ROOT.mkdir(exist_ok=True)
        call_command("migrate", verbosity=0, interactive=False)
        welcome = self.welcome()
        connection.close()

        health = Health()

        def announce_once() -> None:
            if health.answers_now():
                self.announce(welcome, health.problem)

        supervisor = Supervisor(commands(), environment=environment(), report=self.report)
        if ended := supervisor.run(announce_once):
            raise CommandError(
                f"{ended} ended again and again, soon after each start, so everything was stopped; "
                "its last lines say why."
            )
        self.stdout.write("Stopped.")

    def report(self, line: str) -> None:
        self.stderr.write(line)
        self.stderr.flush()

    def welcome(self) -> list[str]:
        """The password and token are shown by the first start only."""
        # Named, not imported: workspaces are above this package.
        demo = import_module("quotas.demo")
        login = demo.prepare_demo(settings.VAR_DIR) if settings.DEMO_ACCOUNTS else None
        administer = f"  administer at     {address()}/admin/"
        if login is None:
            return [f"  {line}" for line in self.who_signs_in(demo.login_file(settings.VAR_DIR))] + [administer]
        recording = demo.demo_recording(settings.VAR_DIR)
        return [
            f"  sign in as        {login.user}  {login.user_password}",
            f"  administer as     {login.admin}  {login.admin_password}   {address()}/admin/",
            f"  kept in           {demo.login_file(settings.VAR_DIR)}; this is not shown again",
            "Upload a recording:",
            f"  curl -H {shlex.quote(f'Authorization: Bearer {login.token}')} -F workspace={login.workspace}"
            f" -F {shlex.quote(f'file=@{recording}')} {address()}/api/v1/uploads/",
        ]

    def who_signs_in(self, login_file: Path) -> list[str]:
        if not User.objects.filter(is_active=True).exists():
            return ["nobody has an account yet: make the first one with `manage.py createsuperuser`"]
        if login_file.exists():
            return [f"sign in           with your account; the first start kept its login in {login_file}"]
        return ["sign in           with your account"]

    def announce(self, welcome: list[str], problem: str) -> None:
        lines = [
            f"AudioTricks is ready at {address()}/",
            *([f"  but not healthy:  {problem}"] if problem else []),
            *welcome,
            f"  API               {address()}/api/docs/",
            "ctrl-C stops it.",
        ]
        self.stdout.write("\n" + "\n".join(lines) + "\n")
        self.stdout.flush()


@contextmanager
def only_run_in(folder: Path) -> Iterator[None]:
    """Raises CommandError that names the process with the lock of this folder."""
    check_var_dir()
    with (folder / "run.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CommandError(f"AudioTricks runs in {folder} already{who_holds(file)}. Stop it first.") from None
        file.truncate(0)
        file.write(json.dumps({"pid": os.getpid(), "address": address()}))
        file.flush()
        yield


def who_holds(file: TextIO) -> str:
    """Process and address; empty while unknown."""
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        with suppress(ValueError, KeyError, TypeError, OSError):
            file.seek(0)
            holder = json.loads(file.read())
            # Fails for the process of an earlier run.
            os.kill(holder["pid"], 0)
            return f": process {holder['pid']}, at {holder['address']}/"
        time.sleep(0.05)
    return ""


class Health:
    """Polls /health for up to READY_WITHIN_SECONDS."""

    def __init__(self) -> None:
        self.known = False
        self.problem = ""
        self.deadline = time.monotonic() + READY_WITHIN_SECONDS

    def answers_now(self) -> bool:
        """True once: when all is well, or at the end; see ``problem``."""
        if self.known or (checks := ask_health()) is None:
            return False
        self.problem = " ".join(f"{name}: {check['detail']}" for name, check in checks.items() if not check["ok"])
        self.known = not self.problem or time.monotonic() > self.deadline
        return self.known


def ask_health() -> dict[str, Any] | None:
    """None without a response."""
    client = http.client.HTTPConnection(*local_address(), timeout=5)
    try:
        client.request("GET", "/health", headers={"Host": allowed_host()})
        return dict(json.loads(client.getresponse().read())["checks"])
    except (OSError, http.client.HTTPException, ValueError, KeyError):
        return None
    finally:
        client.close()


def local_address() -> tuple[str, int]:
    return WILDCARDS.get(settings.WEB_HOST, settings.WEB_HOST), settings.PORT


def allowed_host() -> str:
    """``.example.com`` and ``*`` stand for any."""
    return next((host.lstrip("*.") for host in settings.ALLOWED_HOSTS if host.lstrip("*.")), "localhost")


def address() -> str:
    host, port = local_address()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def commands() -> dict[str, list[str]]:
    celery = [sys.executable, "-m", "celery", "-A", "audiotricks", "--quiet"]
    level = ["--loglevel", settings.LOG_LEVEL]
    return {
        "web": [
            *(sys.executable, "-m", "gunicorn"),
            *("-c", str(settings.BASE_DIR / "gunicorn.conf.py"), "audiotricks.wsgi"),
        ],
        "worker": [
            *(*celery, "worker", *level, "--pool", "prefork", "--concurrency", "2"),
            *("--without-gossip", "--without-mingle"),
        ],
        "beat": [*celery, "beat", *level],
    }


def environment() -> dict[str, str]:
    """With an absolute import path and a bounded end of requests."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(settings.BASE_DIR), os.environ.get("PYTHONPATH")])),
        "WEB_GRACEFUL_SECONDS": str(min(GRACE_SECONDS, settings.WEB_GRACEFUL_SECONDS)),
    }


def check_settings() -> None:
    if problems := [message for message in checks.run_checks() if message.is_serious()]:
        raise CommandError(" ".join(f"{problem.msg} {problem.hint or ''}".strip() for problem in problems))


def check_port() -> None:
    host = settings.WEB_HOST
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, settings.PORT))
        except OSError as error:
            raise CommandError(
                f"Port {settings.PORT} on {host} cannot be used: {error.strerror}. Set PORT to a free one."
            ) from None


def check_var_dir() -> None:
    """System checks look at the other folders."""
    try:
        with tempfile.TemporaryFile(dir=settings.VAR_DIR) as file:
            file.write(b"works")
    except OSError as error:
        raise CommandError(f"VAR_DIR ({settings.VAR_DIR}) cannot be written: {error.strerror}.") from None


def check_database() -> None:
    if connection.vendor == "postgresql":
        # A pool would wait half a minute for a missing server.
        connection.settings_dict["OPTIONS"].pop("pool", None)
        connection.settings_dict["OPTIONS"].setdefault("connect_timeout", 5)
    try:
        connection.ensure_connection()
    except Error as error:
        reason = " ".join(str(error).split())
        raise CommandError(f"The database cannot be used: {reason}") from None
