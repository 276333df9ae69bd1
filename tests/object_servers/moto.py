"""moto, a server that answers as Amazon S3 does where SeaweedFS does not: archives, rules, keys of one's own.

It keeps everything in memory, checks no signature, and lets the tests say when time has passed.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import boto3
from botocore.config import Config
from moto.server import ThreadedMotoServer

from tests.object_servers import ObjectServer

REGION = "eu-central-1"


@contextmanager
def running_moto() -> Iterator[ObjectServer]:
    """The server runs on a thread of this process."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    client = boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id="vault",
        aws_secret_access_key="only-for-tests",
        config=Config(s3={"addressing_style": "path"}),
    )

    def empty_bucket() -> str:
        bucket = f"test-{secrets.token_hex(6)}"
        client.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
        return bucket

    options = {
        "endpoint_url": endpoint,
        "region_name": REGION,
        "access_key": "vault",
        "secret_key": "only-for-tests",
        "addressing_style": "path",
    }
    try:
        yield ObjectServer(
            alias="s3",
            backend="objectstore.s3.S3Storage",
            options=options,
            variables={
                "AWS_S3_ENDPOINT_URL": endpoint,
                "AWS_S3_REGION_NAME": REGION,
                "AWS_ACCESS_KEY_ID": "vault",
                "AWS_SECRET_ACCESS_KEY": "only-for-tests",
                "AWS_S3_ADDRESSING_STYLE": "path",
            },
            bucket_option="bucket_name",
            bucket_variable="AWS_STORAGE_BUCKET_NAME",
            empty_bucket=empty_bucket,
        )
    finally:
        client.close()
        server.stop()
