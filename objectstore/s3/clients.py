"""Shared S3 clients, one for each set of options: making one takes about 0.1 s."""

import os
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any

from botocore.config import Config
from django.conf import settings
from storages.backends.s3 import S3Storage as DjangoS3Storage

from ..checksums import base64_of, md5

#: Idle connections of each client.
KEPT_CONNECTIONS = 100
#: Prefixes of headers that some servers do not know.
NEWER_CHECKSUMS = ("x-amz-checksum-", "x-amz-sdk-checksum-")


class _Shared:
    def __init__(self) -> None:
        # boto3's clients can be shared by threads, but not created in parallel.
        self.lock = Lock()
        self.made: dict[Hashable, Any] = {}


_shared = _Shared()


def _forget() -> None:
    """After a fork: two processes must not share connections."""
    global _shared
    _shared = _Shared()


os.register_at_fork(after_in_child=_forget)


def shared(key: Hashable, make: Callable[[], Any]) -> Any:
    here = _shared
    if key not in here.made:
        with here.lock:
            if key not in here.made:
                here.made[key] = make()
    return here.made[key]


class ClientOptions:
    """The ``options`` of django-storages."""

    def __init__(self, options: DjangoS3Storage, wanted: Config | None, *, request_checksum: str) -> None:
        self.is_amazon = not options.endpoint_url
        self._options = options
        self._request_checksum = request_checksum
        style = options.addressing_style or "auto"
        ours = Config(
            signature_version=options.signature_version or "s3v4",
            s3={
                # Else botocore signs URLs for the old global host, which newer regions refuse.
                "addressing_style": "virtual" if self.is_amazon and style == "auto" else style,
                "us_east_1_regional_endpoint": "regional",
            },
            proxies=options.proxies,
            # Retries are ours.
            retries={"total_max_attempts": 1, "mode": "standard"},
            connect_timeout=settings.STORAGE_TIMEOUT_SECONDS,
            read_timeout=settings.STORAGE_TIMEOUT_SECONDS,
            max_pool_connections=KEPT_CONNECTIONS,
            tcp_keepalive=True,
            request_checksum_calculation=request_checksum,
            # Most reads are of ranges, which have no checksum; the reader compares the whole.
            response_checksum_validation="when_required",
        )
        self._config = ours.merge(wanted or Config())

    def client_at(self, endpoint_url: str | None) -> Any:
        options = self._options
        return shared(
            (
                options.access_key,
                options.secret_key,
                options.security_token,
                options.session_profile,
                # boto3 may take keys from the environment.
                tuple(sorted(item for item in os.environ.items() if item[0].startswith("AWS_"))),
                options.region_name,
                options.use_ssl,
                options.verify,
                endpoint_url,
                repr(sorted(self._config._user_provided_options.items())),
            ),
            lambda: self._new_client(endpoint_url),
        )

    def _new_client(self, endpoint_url: str | None) -> Any:
        client = self._options._create_session().client(
            "s3",
            region_name=self._options.region_name,
            use_ssl=self._options.use_ssl,
            verify=self._options.verify,
            endpoint_url=endpoint_url,
            config=self._config,
        )
        if self._request_checksum == "when_required":
            send_md5_alone(client)
        follow_no_strange_redirects(client)
        return client


def send_md5_alone(client: Any) -> None:
    """Bucket rules and tags require a checksum, and boto3 has no setting for its kind."""

    def replace(request: Any, **_event: Any) -> None:
        newer = [name for name in request.headers if name.lower().startswith(NEWER_CHECKSUMS)]
        for name in newer:
            del request.headers[name]
        if newer and isinstance(request.data, bytes | bytearray) and "Content-MD5" not in request.headers:
            request.headers["Content-MD5"] = base64_of(md5(request.data))

    client.meta.events.register_first("before-sign.s3", replace)


def follow_no_strange_redirects(client: Any) -> None:
    """Keep boto3 from an endless search for the bucket's region behind a proxy that redirects."""

    def look(request_dict: dict[str, Any], response: Any, **_event: Any) -> None:
        headers = response[1].get("ResponseMetadata", {}).get("HTTPHeaders", {}) if response else {}
        if "x-amz-bucket-region" not in headers:
            request_dict.get("context", {}).setdefault("s3_redirect", {})["redirected"] = True

    client.meta.events.register_first("needs-retry.s3.HeadBucket", look)
