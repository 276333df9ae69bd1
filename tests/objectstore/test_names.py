"""Names are made by us and say whose object it is."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from objectstore.errors import InvalidObjectName
from objectstore.names import (
    PREFIXES,
    Layout,
    ParsedName,
    audio_name,
    is_valid_name,
    parse_name,
    slug_of,
    thumbnail_name,
)

ID = UUID("0b7f8f3e-5c5e-4f0e-9a51-2f1f6f0c9d11")
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
LAYOUTS: list[Layout] = ["by-id", "by-user-date"]
BY_ID = f"audio/{ID}/audio.mp3"
BY_USER_DATE = f"uploads/7/2026/01/02/{ID}-my-song.mp3"


def name_of(layout: Layout | None, **changes: Any) -> str:
    fields: dict[str, Any] = {"extension": "mp3", "owner_id": 7, "filename": "My Song.mp3", "created_at": NOON}
    return audio_name(ID, **{**fields, **changes}, layout=layout)


def test_each_layout_has_its_names_and_the_setting_chooses(settings: Any) -> None:
    assert name_of("by-id") == BY_ID
    assert name_of("by-user-date") == BY_USER_DATE
    for layout, name in zip(LAYOUTS, (BY_ID, BY_USER_DATE), strict=True):
        settings.AUDIO_STORAGE_LAYOUT = layout
        assert name_of(None) == name


def test_the_day_is_that_of_utc() -> None:
    late = datetime(2026, 1, 1, 23, 30, tzinfo=timezone(timedelta(hours=-5)))
    assert name_of("by-user-date", created_at=late) == BY_USER_DATE


@pytest.mark.parametrize("layout", LAYOUTS)
@given(
    upload_id=st.uuids(version=4),
    extension=st.from_regex(r"[a-z0-9]{1,8}", fullmatch=True),
    owner_id=st.one_of(st.integers(min_value=1, max_value=2**63), st.uuids()),
    filename=st.text(),
    created_at=st.datetimes(min_value=datetime(1000, 1, 2), max_value=datetime(9999, 12, 30), timezones=st.just(UTC)),
)
def test_any_file_name_gives_a_safe_name_that_is_read_back(layout: Layout, upload_id: UUID, **fields: Any) -> None:
    """Promise 39. Whatever the user called the file, its object's name is ours and leads back to the upload."""
    audio = audio_name(upload_id, **fields, layout=layout)
    thumbnail = thumbnail_name(audio, "webp")
    assert parse_name(audio) == ParsedName(upload_id, "audio", fields["extension"], layout)
    assert parse_name(thumbnail) == ParsedName(upload_id, "thumbnail", "webp", layout)
    for name in (audio, thumbnail):
        assert is_valid_name(name)
        assert name.startswith(PREFIXES)
    assert thumbnail.rpartition("/")[0] == audio.rpartition("/")[0]


@pytest.mark.parametrize(
    ("filename", "slug"),
    [
        ("My Song.mp3", "my-song"),
        ("Ünïcödé & Größe.final.mp3", "unicode-groe-final"),
        ("../../etc/passwd", "passwd"),
        ("C:\\music\\Track 01.wav", "track-01"),
        ("a\r\nb\0c.mp3", "a-b-c"),
        ("日本語.mp3", "audio"),
        (".mp3", "mp3"),
        ("...", "audio"),
        ("", "audio"),
        ("x" * 500 + ".mp3", "x" * 40),
        ("x" * 39 + " y.mp3", "x" * 39),
        ("song.thumbnail.jpg", "song-thumbnail"),
    ],
)
def test_a_slug_recalls_the_file_in_a_few_plain_letters(filename: str, slug: str) -> None:
    assert slug_of(filename) == slug


def test_a_thumbnail_lies_beside_its_audio() -> None:
    assert thumbnail_name(BY_ID, "jpg") == f"audio/{ID}/thumbnail.jpg"
    assert thumbnail_name(BY_USER_DATE, "jpg") == f"uploads/7/2026/01/02/{ID}-my-song.thumbnail.jpg"
    for name, extension in [
        (thumbnail_name(BY_ID, "jpg"), "jpg"),
        (thumbnail_name(BY_USER_DATE, "jpg"), "jpg"),
        ("audio/other.mp3", "jpg"),
        (BY_ID, "../x"),
        (BY_ID, ""),
    ]:
        with pytest.raises(InvalidObjectName):
            thumbnail_name(name, extension)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "audio/",
        f"audio/{ID}/audio",
        f"audio/{ID}/audio.MP3",
        f"audio/{ID}/audio.mp3/x",
        f"audio/{ID}/audio.mp3\n",
        f"audio/{ID}/other.mp3",
        f"audio/{str(ID).upper()}/audio.mp3",
        f"x/audio/{ID}/audio.mp3",
        f"archive/{ID}/1.mp3",
        f"audio/{ID}/.audio.mp3.0123456789abcdef.part",
        f"uploads/7/2026/13/02/{ID}-a.mp3",
        f"uploads/7/2026/01/00/{ID}-a.mp3",
        f"uploads/7/2026/01/02/{ID}.mp3",
        f"uploads/7/2026/01/02/{ID}-a.thumbnail.thumbnail.jpg",
        f"uploads/../2026/01/02/{ID}-a.mp3",
    ],
)
def test_what_is_not_ours_is_nobodys(name: str) -> None:
    """Promise 9. A sweep that cannot read a name does not touch the object."""
    assert parse_name(name) is None


@pytest.mark.parametrize(
    ("layout", "changes"),
    [
        ("by-id", {"extension": ".mp3"}),
        ("by-id", {"extension": "m/p"}),
        ("by-id", {"extension": ""}),
        ("by-user-date", {"owner_id": "../1"}),
        ("by-user-date", {"owner_id": None}),
    ],
)
def test_a_part_that_does_not_fit_is_refused(layout: Layout, changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidObjectName):
        name_of(layout, **changes)


def test_two_uploads_never_share_a_name() -> None:
    for layout in LAYOUTS:
        fields: dict[str, Any] = {"extension": "mp3", "owner_id": 7, "filename": "a.mp3", "created_at": NOON}
        names = [audio_name(uuid4(), **fields, layout=layout) for _ in range(100)]
        assert len({*names, *(thumbnail_name(name, "jpg") for name in names)}) == 200
