"""What providers' libraries would tell of the requests that they send, to a log that wants to know everything."""

import json
import logging
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.core.files.base import ContentFile

from tests.object_servers.fixtures import ALIASES, configure

NAME = "audio/0b7f/audio.mp3"


@pytest.mark.parametrize("alias", ALIASES)
def test_no_address_that_lets_its_holder_read_or_write_is_logged(
    alias: str, request: pytest.FixtureRequest, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Promise 49. At LOG_LEVEL=DEBUG too."""
    storage = configure(settings, request.getfixturevalue(f"{alias}_server"))
    caplog.set_level(logging.DEBUG)
    storage.save(NAME, ContentFile(b"sound"))
    url = storage.signer.sign(NAME, seconds=60)
    direct = storage.direct.begin(
        "audio/0b7f/b.mp3", size_bytes=5, content_type="audio/mpeg", metadata=dict, seconds=60
    )
    requests = storage.direct.requests("audio/0b7f/b.mp3", direct, size_bytes=5, seconds=60)
    storage.direct.abort("audio/0b7f/b.mp3", direct)
    signed = [address for address in (url, *(asked.url for asked in requests)) if address]
    told = [urlsplit(address).query for address in signed]
    assert told
    for secret in (*told, *(part.partition("=")[2] for query in told for part in query.split("&")[-1:])):
        assert secret not in caplog.text
    for secret in json.loads(direct.handle).values():
        assert secret not in caplog.text
    assert not [record.name for record in caplog.records if record.name.startswith(("botocore", "urllib3", "azure"))]
