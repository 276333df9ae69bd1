"""Google Cloud Storage as an emulator has it; ``gcs_emulator`` says what of it."""

import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from google.cloud.storage import Client
from google.oauth2 import service_account

from tests.object_servers import ObjectServer
from tests.object_servers.gcs_signatures import UNIVERSE, write_account
from tests.servers import accepts_connections, free_port, wait_until

ROOT = Path(__file__).parents[2]


@contextmanager
def running_gcs() -> Iterator[ObjectServer]:
    """One process, with a service account of its own, that keeps everything in its memory."""
    with tempfile.TemporaryDirectory(prefix="atgcs-") as directory:
        port = free_port()
        endpoint = f"http://127.0.0.1:{port}"
        file = Path(directory) / "account.json"
        write_account(file)
        with (Path(directory) / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.object_servers.gcs_emulator", str(port), str(file)],
                cwd=ROOT,
                stdout=log,
                stderr=log,
            )
            try:
                wait_until(lambda: process.poll() is not None or accepts_connections(port), what="the emulator")
                credentials = service_account.Credentials.from_service_account_file(str(file))
                options = {"api_endpoint": endpoint, "universe_domain": UNIVERSE}
                with Client("tests", credentials, client_options=options) as client:
                    yield object_server(endpoint, file, client)
            finally:
                process.kill()
                process.wait(timeout=10)


def object_server(endpoint: str, file: Path, client: Client) -> ObjectServer:
    def empty_bucket() -> str:
        bucket = f"test-{secrets.token_hex(6)}"
        client.create_bucket(bucket)
        return bucket

    return ObjectServer(
        alias="gcs",
        backend="objectstore.gcs.GCSStorage",
        options={"endpoint_url": endpoint, "credentials_file": str(file), "project_id": "tests"},
        variables={
            "GCS_ENDPOINT_URL": endpoint,
            "GOOGLE_APPLICATION_CREDENTIALS": str(file),
            "GCS_PROJECT_ID": "tests",
        },
        bucket_option="bucket_name",
        bucket_variable="GCS_BUCKET_NAME",
        empty_bucket=empty_bucket,
    )
