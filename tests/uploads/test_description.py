"""What is read out of a file: length, codec, rates and tags, of every format."""

from collections.abc import Callable
from decimal import Decimal

import pytest

from quotas.models import Workspace
from tests.audio import audio_bytes, make_mp3
from tests.plugging import steps_of
from tests.uploads.life import arrive, complete
from uploads.processing.description import describe

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize(
    ("extension", "rate", "channels", "codec"),
    [
        ("mp3", 44_100, 1, "mp3"),
        ("wav", 8000, 1, "pcm_s16le"),
        ("flac", 44_100, 1, "flac"),
        ("ogg", 44_100, 2, "vorbis"),
        ("oga", 44_100, 2, "vorbis"),
        ("opus", 48_000, 1, "opus"),
        ("m4a", 44_100, 1, "aac"),
        ("aac", 44_100, 1, "aac"),
        ("aiff", 8000, 1, "pcm_s16be"),
        ("aif", 8000, 1, "pcm_s16be"),
        ("wma", 44_100, 2, "wmav2"),
        ("webm", 48_000, 1, "opus"),
    ],
)
def test_every_format_is_described_in_every_column(
    workspace: Workspace, declare: Callable[..., None], extension: str, rate: int, channels: int, codec: str
) -> None:
    declare(processing_steps=steps_of("uploads.processing.description.describe"))
    data = audio_bytes(extension, seconds=2)
    upload = complete(workspace, data, filename=f"x.{extension}")
    assert (upload.sample_rate, upload.channels, upload.codec) == (rate, channels, codec)
    assert upload.duration is not None and abs(upload.duration - 2) < Decimal("0.15")
    assert upload.bitrate is not None
    assert 0.4 < upload.bitrate / (len(data) * 8 / 2 / 1000) < 1.6
    assert "tags" in upload.metadata


def test_metadata_of_the_uploader_stays_beside_the_tags(workspace: Workspace) -> None:
    upload = arrive(workspace, make_mp3(tags=(("title", "Ours"),)), filename="x.mp3")
    upload.metadata = {"source": "field recorder"}
    assert describe(upload).columns["metadata"] == {"source": "field recorder", "tags": {"title": "Ours"}}
