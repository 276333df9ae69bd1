"""SeaweedFS, which speaks as Amazon S3 does: everything but storage classes that must be restored, rules and KMS."""

import json
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import requests
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.object_servers import ObjectServer
from tests.servers import accepts_connections, free_port, wait_until

ACCESS_KEY = "vault"
SECRET_KEY = "only-for-tests"
#: Each bucket has volumes of its own, which take no room until there is something in them.
MOST_VOLUMES = 4000
VOLUME_MB = 256


@contextmanager
def running_seaweedfs(region: str = "us-east-1") -> Iterator[ObjectServer]:
    """One process with all that SeaweedFS is made of, in a temporary directory."""
    with tempfile.TemporaryDirectory(prefix="atweed-") as directory:
        write_configuration(Path(directory))
        port, master = free_port(), free_port()
        with (Path(directory) / "log").open("wb") as log:
            process = subprocess.Popen(command(Path(directory), port, master), cwd=directory, stdout=log, stderr=log)
            client = None
            try:
                wait_until(lambda: process.poll() is not None or accepts_connections(port), what="weed")
                client = new_client(f"http://127.0.0.1:{port}", region)
                wait_until(lambda: stores(client), seconds=60, what="an object in SeaweedFS")
                yield object_server(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{master}", region, client)
            finally:
                if client is not None:
                    client.close()
                process.kill()
                process.wait(timeout=10)


def new_client(endpoint: str, region: str) -> Any:
    return boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint,
        region_name=region,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, connect_timeout=5),
    )


def object_server(endpoint: str, master: str, region: str, client: Any) -> ObjectServer:
    def empty_bucket() -> str:
        bucket = f"test-{secrets.token_hex(6)}"
        client.create_bucket(Bucket=bucket)
        # Else the first object waits a fifth of a second for a volume.
        answer = requests.get(f"{master}/vol/grow", params={"collection": bucket, "count": "1"}, timeout=30)
        answer.raise_for_status()
        return bucket

    return ObjectServer(
        alias="s3",
        backend="objectstore.s3.S3Storage",
        options={
            "endpoint_url": endpoint,
            "region_name": region,
            "access_key": ACCESS_KEY,
            "secret_key": SECRET_KEY,
            "addressing_style": "path",
        },
        variables={
            "AWS_S3_ENDPOINT_URL": endpoint,
            "AWS_S3_REGION_NAME": region,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_S3_ADDRESSING_STYLE": "path",
        },
        bucket_option="bucket_name",
        bucket_variable="AWS_STORAGE_BUCKET_NAME",
        empty_bucket=empty_bucket,
    )


def stores(client: Any) -> bool:
    """Whether it takes an object already: its ports are open some time before that."""
    try:
        client.create_bucket(Bucket="is-it-there")
        client.put_object(Bucket="is-it-there", Key="object", Body=b"x", ServerSideEncryption="AES256")
    except ClientError as error:
        if error.response["Error"]["Code"] in ("BucketAlreadyExists", "BucketAlreadyOwnedByYou"):
            client.delete_bucket(Bucket="is-it-there")
        return False
    except BotoCoreError:
        return False
    client.delete_object(Bucket="is-it-there", Key="object")
    client.delete_bucket(Bucket="is-it-there")
    return True


def write_configuration(directory: Path) -> None:
    (directory / "data").mkdir()
    identity = {
        "name": "admin",
        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    (directory / "s3.json").write_text(json.dumps({"identities": [identity]}))
    # Without a key of its own it cannot encrypt; seven volumes at once, as by default, are for many disks.
    (directory / "security.toml").write_text(f'[s3.sse]\nkek = "{secrets.token_hex(32)}"\n')
    (directory / "master.toml").write_text("[master.volume_growth]\ncopy_1 = 1\n")


def command(directory: Path, port: int, master: int) -> list[str]:
    ports = {
        f"{part}.port{kind}": free_port()
        for part in ("master", "volume", "filer", "s3")
        for kind in ("", ".grpc")
        if (part, kind) not in (("s3", ""), ("master", ""))
    }
    options = {
        "dir": directory / "data",
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "filer": "true",
        "filer.localSocket": directory / "filer.sock",
        "s3": "true",
        "s3.port": port,
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "s3.localSocket": directory / "s3.sock",
        "s3.config": directory / "s3.json",
        "s3.autoCreateBucket": "false",
        "master.port": master,
        "master.telemetry": "false",
        "master.volumeSizeLimitMB": VOLUME_MB,
        "volume.max": MOST_VOLUMES,
        "volume.minFreeSpace": "1",
        "volume.preStopSeconds": 0,
        **ports,
    }
    program = Path(sys.executable).parent / "weed"
    return [str(program), "server", *(f"-{name}={value}" for name, value in options.items())]
