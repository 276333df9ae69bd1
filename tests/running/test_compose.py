"""docker-compose.yml, started without Docker: its commands and environment, against real PostgreSQL and Redis."""

import io
import re
import signal
import socket
import sys
import wave
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
import requests
import yaml
from django.apps import apps

from tests.prepared import TEMPLATE, new_postgres_database
from tests.running.programs import BIN, ROOT, Program, environment, ran, started, token_of_new_user
from tests.servers import free_port, unique_name, wait_until

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
OURS = ("web", "worker", "beat")
#: What .env must have.
PASSWORDS = {"POSTGRES_PASSWORD": "one", "REDIS_PASSWORD": "two"}


def interpolate(value: str, variables: dict[str, str]) -> str:
    """As compose does it: ``${NAME:-default}``, ``${NAME:?message}``, and ``$$`` for a dollar."""

    def one(match: re.Match[str]) -> str:
        if match["name"] is None:
            return "$"
        given = variables.get(match["name"], "")
        if not given and match["how"] == "?":
            raise LookupError(match["rest"])
        return given or (match["rest"] or "")

    return re.sub(r"\$\$|\$\{(?P<name>\w+)(?::(?P<how>[-?])(?P<rest>[^}]*))?\}", one, value)


def environment_in(service: str, variables: dict[str, str]) -> dict[str, str]:
    """What the container gets: a key without a value is passed on only when it is set."""
    given = COMPOSE["services"][service]["environment"]
    variables = PASSWORDS | variables
    passed = {
        name: variables.get(name) if value is None else interpolate(value, variables) for name, value in given.items()
    }
    return {name: value for name, value in passed.items() if value is not None}


@dataclass
class Stack:
    url: str
    token: str
    env: dict[str, str]
    programs: dict[str, Program]

    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


@pytest.fixture(scope="module")
def database_url() -> str:
    return new_postgres_database(unique_name("compose"))


@pytest.fixture(scope="module")
def stack(database_url: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    variables = {"SWEEP_SECONDS": "5", "UPLOAD_STALL_SECONDS": "2"}
    local = {"DATABASE_URL": database_url, "REDIS_URL": redis_url}
    with running_stack(tmp_path_factory.mktemp("compose"), variables, **local) as running:
        yield running


@contextmanager
def running_stack(directory: Path, variables: dict[str, str], **local: str) -> Iterator[Stack]:
    """What compose starts with these variables; ``local`` is what has another address here than in the containers."""
    port = free_port()
    # Nothing but host names, the port and paths differs from the containers.
    local |= {
        "WEB_HOST": "127.0.0.1",
        "PORT": str(port),
        "AUDIO_STORAGE_PATH": str(directory / "audio_storage"),
        "VAR_DIR": str(directory / "var"),
    }
    env = {name: environment(**{**environment_in(name, variables), **local}) for name in (*OURS, "migrate")}
    migrate = [word if word != "python" else sys.executable for word in COMPOSE["services"]["migrate"]["command"]]
    migrated = ran(migrate, env["migrate"])
    assert migrated.returncode == 0, migrated.stderr
    token = token_of_new_user(env["migrate"])
    with ExitStack() as running:
        programs = {}
        for name in OURS:
            command = COMPOSE["services"][name]["command"]
            programs[name] = running.enter_context(
                started([str(BIN / command[0]), *command[1:]], env[name], directory / f"{name}.log")
            )
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: healthy(url, programs), seconds=60, what="/health to be well")
        yield Stack(url, token, env["worker"], programs)


def healthy(url: str, programs: dict[str, Program]) -> bool:
    for name, program in programs.items():
        assert program.process.poll() is None, f"{name} ended:\n{program.output()}"
    try:
        return requests.get(f"{url}/health", timeout=5).json()["status"] == "ok"
    except requests.RequestException:
        return False


def test_a_file_goes_in_is_processed_by_the_worker_and_comes_out_again(stack: Stack, wav_bytes: bytes) -> None:
    row = goes_through(stack, wav_bytes)
    assert row["storage_provider"] == "local"


def goes_through(stack: Stack, wav_bytes: bytes) -> dict[str, Any]:
    """The row of a file that was sent, completed, and read whole and in part, without being sent elsewhere for it."""
    made = requests.post(
        f"{stack.url}/api/v1/uploads/", headers=stack.headers(), files={"file": ("tone.wav", wav_bytes)}, timeout=30
    )
    assert made.status_code == 201, made.text
    address = f"{stack.url}/api/v1/uploads/{made.json()['id']}/"

    def upload() -> dict[str, Any]:
        return dict(requests.get(address, headers=stack.headers(), timeout=10).json())

    wait_until(lambda: upload()["status"] == "completed", what="the file to be completed")
    ranged = requests.get(f"{address}content/", headers={**stack.headers(), "Range": "bytes=0-3"}, timeout=10)
    assert (ranged.status_code, ranged.content, ranged.history) == (206, b"RIFF", [])
    assert requests.get(f"{address}content/", headers=stack.headers(), timeout=10).content == wav_bytes
    return upload()


def test_beat_ticks_and_its_tasks_are_taken(stack: Stack) -> None:
    # The worker's line, since beat writes into the database only every few minutes.
    def swept() -> bool:
        lines = stack.programs["worker"].output().splitlines()
        return any("task_done" in line and "sweep_stale_work" in line for line in lines)

    wait_until(swept, seconds=60, what="a sweep")


def test_the_health_checks_of_the_containers_pass(stack: Stack) -> None:
    web = COMPOSE["services"]["web"]["healthcheck"]["test"]
    assert web[:2] == ["CMD", "python"]
    probed = ran([sys.executable, *web[2:]], stack.programs["web"].env)
    assert probed.returncode == 0, probed.stderr
    kind, command = COMPOSE["services"]["worker"]["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    pinged = ran(["sh", "-c", interpolate(command, {})], {**stack.env, "HOSTNAME": socket.gethostname()})
    assert pinged.returncode == 0, pinged.stdout + pinged.stderr


def test_a_client_that_stalls_in_its_body_is_cut_off(stack: Stack) -> None:
    host, port = urlsplit(stack.url).netloc.split(":")
    with socket.create_connection((host, int(port)), timeout=30) as client:
        client.sendall(
            f"POST /api/v1/uploads/ HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {stack.token}\r\n"
            'Content-Disposition: attachment; filename="a.wav"\r\nContent-Type: audio/wav\r\n'
            "Content-Length: 1000000\r\n\r\nRIFF".encode()
        )
        received = b""
        while piece := client.recv(4096):
            received += piece
    assert not received.startswith(b"HTTP/1.1 2")
    listed = requests.get(f"{stack.url}/api/v1/uploads/", headers=stack.headers(), timeout=10).json()["results"]
    assert all(row["file_size"] != 1_000_000 for row in listed)


def test_a_client_that_stalls_while_it_is_served_is_cut_off(stack: Stack) -> None:
    recording = io.BytesIO()
    with wave.open(recording, "wb") as file:
        file.setparams((1, 2, 48_000, 0, "NONE", ""))
        file.writeframes(bytes(40_000_000))
    made = requests.post(
        f"{stack.url}/api/v1/uploads/",
        headers=stack.headers(),
        files={"file": ("long.wav", recording.getvalue())},
        timeout=60,
    )
    assert made.status_code == 201, made.text
    host, port = urlsplit(stack.url).netloc.split(":")
    with socket.create_connection((host, int(port)), timeout=30) as client:
        client.sendall(
            f"GET /api/v1/uploads/{made.json()['id']}/content/ HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Authorization: Bearer {stack.token}\r\n\r\n".encode()
        )
        # Nothing is read before the server has given up.
        wait_until(lambda: "took its answer too slowly" in stack.programs["web"].output(), what="the server to give up")
        received = 0
        while piece := client.recv(1024 * 1024):
            received += len(piece)
    assert 0 < received < 40_000_000


def test_each_program_ends_by_itself_when_it_is_told_to(stack: Stack) -> None:
    """Last of all: it stops what the tests above use."""
    for name in ("beat", "worker", "web"):
        program = stack.programs[name]
        assert program.process.poll() is None, f"{name} had ended:\n{program.output()}"
        assert program.signal_and_wait(signal.SIGTERM, seconds=30) == 0, program.output()
        assert program.family() == []


@pytest.fixture
def own_bucket(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The service seaweedfs as the file has it; yields what the file says that .env needs for it."""
    text = (ROOT / "docker-compose.yml").read_text()
    variables = {**dict(re.findall(r"^  #   ([A-Z0-9_]+)=(.*)$", text, re.MULTILINE))}
    variables |= {"AWS_ACCESS_KEY_ID": "vault", "AWS_SECRET_ACCESS_KEY": "only-for-tests"}
    service = COMPOSE["services"]["seaweedfs"]
    port = free_port()
    script = interpolate(service["command"][0], variables)
    data, run = tmp_path / "data", tmp_path / "run"
    for folder in (data, run):
        folder.mkdir()
    for inside, here in (
        ("=seaweedfs", "=127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("8333", str(port)), ("/data", str(data)),
        ("/run/", f"{run}/"),
    ):  # fmt: skip
        assert inside in script
        script = script.replace(inside, here)
    # A container has all ports to itself.
    parts = [f"{part}.port{kind}" for part in ("master", "volume", "filer") for kind in ("", ".grpc")]
    ports = {name: free_port() for name in (*parts, "s3.port.grpc")}
    others = "".join(f" -{name}={number}" for name, number in ports.items())
    script += f"{others} -s3.port.iceberg=0 -s3.port.lance=0 -filer.localSocket={run}/f -s3.localSocket={run}/s"
    env = environment(**{name: interpolate(value, variables) for name, value in service["environment"].items()})
    with started([*service["entrypoint"], script], env, tmp_path / "seaweedfs.log") as program:
        probe = f"http://127.0.0.1:{ports['master.port']}/cluster/healthz"
        assert f"{urlsplit(probe).path}" in service["healthcheck"]["test"][1]
        wait_until(lambda: answers(probe, program), seconds=60, what="seaweedfs")
        host = urlsplit(variables["AWS_S3_ENDPOINT_URL"])
        assert (host.hostname, host.port) == ("seaweedfs", 8333)
        yield {**variables, "AWS_S3_ENDPOINT_URL": f"http://127.0.0.1:{port}"}


def answers(url: str, program: Program) -> bool:
    assert program.process.poll() is None, program.output()
    try:
        return requests.get(url, timeout=5).ok
    except requests.RequestException:
        return False


@pytest.mark.django_db
def test_with_a_bucket_of_ones_own_everything_lies_there(
    own_bucket: dict[str, str], redis_url: str, tmp_path: Path, wav_bytes: bytes
) -> None:
    """The profile s3: PostgreSQL, Redis and SeaweedFS, whose bucket is made by the doctor, and encrypted."""
    database_url = new_postgres_database(unique_name("compose"), template=TEMPLATE)
    local = {"DATABASE_URL": database_url, "REDIS_URL": redis_url.replace("/0", "/1")}
    env = environment(**{**environment_in("web", own_bucket), **local, "VAR_DIR": str(tmp_path / "var")})
    doctor = [sys.executable, "manage.py", "storage_doctor", "--storage", "s3", "--create"]
    wait_until(lambda: ran(doctor, env).returncode == 0, seconds=60, what="a bucket with which all is well")
    with running_stack(tmp_path, own_bucket, **local) as stack:
        row = goes_through(stack, wav_bytes)
        assert row["storage_url"] == f"s3://audiotricks/{row['storage_path']}"
        assert not list((tmp_path / "audio_storage").rglob("*.wav"))
        health = requests.get(f"{stack.url}/health", timeout=10).json()["checks"]
        assert health["storage"] == {"ok": True, "storage": "s3"}
        assert health["disk"]["holds"] == "working_copies"


def test_it_asks_for_two_passwords_and_keeps_its_key_where_all_share_it() -> None:
    env = environment_in("web", {})
    assert env["SECRET_KEY"] == ""
    shared = f"var:{env['VAR_DIR']}"
    assert all(shared in COMPOSE["services"][name]["volumes"] for name in (*OURS, "migrate"))
    services = COMPOSE["services"]
    for name, url, variable, place in (
        ("postgres", "DATABASE_URL", "POSTGRES_PASSWORD", "POSTGRES_PASSWORD"),
        ("redis", "REDIS_URL", "REDIS_PASSWORD", "REDISCLI_AUTH"),
    ):
        assert urlsplit(env[url]).password == PASSWORDS[variable]
        assert interpolate(services[name]["environment"][place], PASSWORDS) == PASSWORDS[variable]
        with pytest.raises(LookupError, match=f"write {variable} into .env"):
            interpolate(services[name]["environment"][place], {})
        assert "ports" not in services[name]


def test_redis_takes_only_those_who_know_its_password(tmp_path: Path) -> None:
    """Its own command, on a port and in a folder of this test."""
    service, port = COMPOSE["services"]["redis"], free_port()
    script = interpolate(service["command"][0], {}).replace(
        "redis-server -", f"redis-server - --port {port} --bind 127.0.0.1 --dir {tmp_path}"
    )
    with started([*service["entrypoint"], script], environment(REDISCLI_AUTH="two"), tmp_path / "log") as program:
        program.wait_for("Ready to accept connections")
        with pytest.raises(redis.AuthenticationError):
            redis.Redis(port=port).ping()
        known = redis.Redis(port=port, password="two")
        assert known.ping()
        for setting, value in {"appendonly": "yes", "maxmemory-policy": "noeviction"}.items():
            assert known.config_get(setting) == {setting: value}


def test_no_container_has_more_rights_than_it_needs() -> None:
    for name, service in COMPOSE["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["read_only"] is True, name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["mem_limit"] and service["pids_limit"], name
        assert name == "nginx" or "cap_add" not in service


def test_web_worker_and_beat_share_their_settings_and_their_audio() -> None:
    services = [COMPOSE["services"][name] for name in OURS]
    assert all(service["environment"] == services[0]["environment"] for service in services)
    assert all("audio_storage:/app/audio_storage" in service["volumes"] for service in services)
    assert environment_in("web", {})["AUDIO_STORAGE_PATH"] == "/app/audio_storage"


def test_the_addresses_in_the_environment_are_those_of_services() -> None:
    env = environment_in("web", {})
    assert urlsplit(env["DATABASE_URL"]).hostname == "postgres"
    assert urlsplit(env["REDIS_URL"]).hostname == "redis"
    assert {"postgres", "redis"} <= set(COMPOSE["services"])
    nginx = (ROOT / "deploy" / "nginx.conf").read_text()
    assert f"server web:{env['PORT']} " in nginx


def test_every_image_is_pinned_and_every_lasting_service_has_a_health_check() -> None:
    for name, service in COMPOSE["services"].items():
        assert re.search(r":\d+\.\d+", service["image"]), name
        assert name == "migrate" or "test" in service["healthcheck"], name


def test_every_volume_that_is_named_is_used() -> None:
    mounted = {
        volume.split(":")[0] for service in COMPOSE["services"].values() for volume in service.get("volumes", [])
    }
    assert set(COMPOSE["volumes"]) == {name for name in mounted if not name.startswith(".")}


def test_the_image_holds_what_the_commands_need() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[0] == "*"
    packages = {config.path for config in apps.get_app_configs() if Path(config.path).parent == ROOT}
    compiled = re.search(r"compileall -q ([a-z ]+)", (ROOT / "Dockerfile").read_text())
    assert compiled and {ROOT / name for name in compiled.group(1).split()} == {Path(path) for path in packages}
    for needed in (
        *sorted(Path(path).name for path in packages),
        "templates",
        "locale",
        "frontend",
        "manage.py",
        "gunicorn.conf.py",
    ):
        assert f"!{needed}" in ignored
        assert Path(ROOT / needed).exists()
