"""Text and pictures in tags of every kind: nothing is lost, nothing binary is shown, and all of it is bounded."""

import base64
import io
import json
import resource
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from media.formats import audio_format
from media.found import MAX_ARTWORK_BYTES, decompress
from media.inspection import AudioFacts, examine
from media.tag_reader import read_tags
from media.tags import CUT_MARK, MAX_BYTES, MAX_KEY_LENGTH, MAX_TAGS, MAX_VALUE_LENGTH, common_tags
from media.text import decode_field
from tests import audio

MANY = 60_000


def tags_of(extension: str, data: bytes) -> dict[str, str | list[str]]:
    return common_tags(read_tags(io.BytesIO(data), audio_format(f"x.{extension}").demuxer).texts).values


def synchsafe(number: int) -> bytes:
    return bytes(number >> shift & 0x7F for shift in (21, 14, 7, 0))


def frame(name: bytes, content: bytes, *, flags: int = 0) -> bytes:
    """An ID3v2.3 frame."""
    return name + struct.pack(">IH", len(content), flags) + content


def id3(*frames: bytes, version: int = 3, flags: int = 0, sound: bytes | None = None) -> bytes:
    body = b"".join(frames)
    head = b"ID3" + bytes([version, 0, flags]) + synchsafe(len(body))
    return head + body + (audio.make_mp3() if sound is None else sound)


def chunk(name: bytes, content: bytes, order: str = "<") -> bytes:
    return name + struct.pack(f"{order}I", len(content)) + content + b"\0" * (len(content) % 2)


def wav(*chunks: bytes) -> bytes:
    plain = audio.make_wav()
    body = plain[12:] + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WAVE" + body


def info(**fields: bytes) -> bytes:
    return chunk(b"LIST", b"INFO" + b"".join(chunk(name.encode(), value) for name, value in fields.items()))


def comment_block(*comments: bytes) -> bytes:
    return struct.pack("<II", 0, len(comments)) + b"".join(struct.pack("<I", len(text)) + text for text in comments)


def flac_blocks(*blocks: tuple[int, bytes]) -> bytes:
    """A FLAC file with these metadata blocks behind the first one."""
    plain = audio.make_flac()
    head, at = plain[4:42], 42
    last = bool(plain[4] & 0x80)
    while not last:
        last = bool(plain[at] & 0x80)
        at += 4 + int.from_bytes(plain[at + 1 : at + 4], "big")
    kinds = [bytes([kind | (0x80 if number == len(blocks) - 1 else 0)]) for number, (kind, _) in enumerate(blocks)]
    made = b"".join(kind + len(data).to_bytes(3, "big") + data for kind, (_, data) in zip(kinds, blocks, strict=True))
    return b"fLaC" + bytes([head[0] & 0x7F]) + head[1:] + made + plain[at:]


def box(name: bytes, *contents: bytes) -> bytes:
    content = b"".join(contents)
    return struct.pack(">I4s", len(content) + 8, name) + content


def m4a(*items: bytes) -> bytes:
    """An MP4 file with these items in its list of tags; the index lies behind the sound, so that nothing moves."""
    plain = audio.make_m4a()
    at = plain.index(b"moov") - 4
    length = int.from_bytes(plain[at : at + 4], "big")
    handler = box(b"hdlr", bytes(8) + b"mdirappl" + bytes(9))
    index = plain[at + 8 : at + length]
    assert at + length == len(plain)
    place = index.find(b"udta") - 4
    index = index[:place] if place >= 0 else index
    return plain[:at] + box(b"moov", index, box(b"udta", box(b"meta", bytes(4), handler, box(b"ilst", *items))))


def value(kind: int, content: bytes) -> bytes:
    return box(b"data", struct.pack(">II", kind, 0), content)


def asf_attribute(name: str, kind: int, content: bytes) -> bytes:
    text = name.encode("utf-16-le") + b"\0\0"
    return struct.pack("<H", len(text)) + text + struct.pack("<HH", kind, len(content)) + content


def wma(*attributes: bytes) -> bytes:
    """A WMA file with one more object of attributes in its header."""
    plain = audio.make_wma()
    body = struct.pack("<H", len(attributes)) + b"".join(attributes)
    made = bytes.fromhex("40a4d0d207e3d21197f000a0c95ea850") + struct.pack("<Q", len(body) + 24) + body
    length, objects = struct.unpack("<QI", plain[16:28])
    head = plain[:16] + struct.pack("<QI", length + len(made), objects + 1) + plain[28:length]
    return head + made + plain[length:]


def ape(*items: tuple[bytes, int, bytes]) -> bytes:
    body = b"".join(
        struct.pack("<II", len(content), kind << 1) + name + b"\0" + content for name, kind, content in items
    )
    return body + b"APETAGEX" + struct.pack("<IIIIQ", 2000, len(body) + 32, len(items), 0, 0)


def aiff(*chunks: bytes) -> bytes:
    body = audio.make_aiff()[12:] + b"".join(chunks)
    return b"FORM" + struct.pack(">I", len(body) + 4) + b"AIFF" + body


def id3v1(title: bytes, artist: bytes = b"") -> bytes:
    return b"TAG" + title.ljust(30, b"\0") + artist.ljust(30, b"\0") + bytes(30 + 4 + 30) + b"\xff"


@pytest.mark.parametrize(
    ("data", "title"),
    [
        (frame(b"TIT2", b"\0" + "Größe".encode("latin-1")), "Größe"),
        (frame(b"TIT2", b"\0" + "サンプル".encode()), "サンプル"),
        (frame(b"TIT2", b"\0" + "\u201eZitat\u201c \u20ac".encode("cp1252")), "„Zitat“ €"),
        (frame(b"TIT2", b"\0" + "Größe".encode("utf-16")), "Größe"),
        (frame(b"TIT2", b"\1" + "Größe".encode("utf-16-le")), "Größe"),
        (frame(b"TIT2", b"\1" + "Größe".encode("utf-16-be")), "Größe"),
        (frame(b"TIT2", b"\1\xfe\xff" + "Größe".encode("utf-16-be")), "Größe"),
        (frame(b"TIT2", b"\2" + "日本語の題名".encode("utf-16-be")), "日本語の題名"),
        (frame(b"TIT2", b"\1" + "Größe".encode("utf-16") + b"\0"), "Größe"),
        (frame(b"TIT2", b"\1Plain"), "Plain"),
        (frame(b"TIT2", b"\3\xef\xbb\xbf" + "Größe".encode()), "Größe"),
        (frame(b"TIT2", b"\3" + "Größe".encode("latin-1")), "Größe"),
        (frame(b"TIT2", b"No encoding"), "No encoding"),
    ],
)
def test_text_of_id3_keeps_its_letters_however_it_is_encoded(data: bytes, title: str) -> None:
    assert tags_of("mp3", id3(data)) == {"title": title}


def test_each_text_of_a_list_may_have_a_byte_order_mark() -> None:
    texts = ["Ella".encode("utf-16"), b"\xfe\xff" + "Löuis".encode("utf-16-be")]
    assert tags_of("mp3", id3(frame(b"TPE1", b"\1" + b"\0\0".join(texts)))) == {"artist": ["Ella", "Löuis"]}


def test_id3_of_every_version_and_packing_is_read() -> None:
    title = b"\3Title"
    packed = struct.pack(">I", len(title)) + zlib.compress(title)
    assert tags_of("mp3", id3(b"TT2\0\0\x06" + title, version=2)) == {"title": "Title"}
    assert tags_of("mp3", id3(frame(b"TIT2", packed, flags=0x80))) == {"title": "Title"}
    assert tags_of("mp3", id3(frame(b"TIT2", packed, flags=0x08), version=4)) == {"title": "Title"}
    assert tags_of("mp3", id3(frame(b"TIT2", b"\0\xff\0\xe0"), flags=0x80)) == {"title": "ÿà"}
    extended = struct.pack(">I", 6) + bytes(6)
    assert tags_of("mp3", id3(extended, frame(b"TIT2", title), flags=0x40)) == {"title": "Title"}
    # iTunes wrote plain sizes into version 4.
    long = b"\3" + b"x" * 200
    tags = tags_of("mp3", id3(frame(b"TIT2", long), frame(b"TPE1", b"\3Artist"), version=4))
    assert tags == {"title": "x" * 200, "artist": "Artist"}
    assert tags_of("mp3", id3(frame(b"TYER", b"\0" + b"1999"), frame(b"TDAT", b"\0" + b"3112"))) == {
        "date": "1999-12-31"
    }


def test_id3v1_in_utf8_keeps_its_letters_even_where_it_is_cut() -> None:
    cut = ("x" + "サンプルの題名です。" * 2).encode()[:30]
    assert tags_of("mp3", audio.make_mp3() + id3v1(cut, "Größe".encode("latin-1"))) == {
        "title": "xサンプルの題名です",
        "artist": "Größe",
    }
    assert decode_field(("x" * 29 + "é").encode("latin-1")) == "x" * 29 + "é"


def test_what_id3v2_says_comes_before_ape_and_id3v1() -> None:
    data = id3(frame(b"TIT2", b"\0Two")) + ape((b"Title", 0, b"Ape"), (b"Artist", 0, "Größe".encode()))
    data += id3v1(b"One", b"Other")
    assert tags_of("mp3", data) == {"title": "Two", "artist": "Größe"}


@pytest.mark.parametrize(
    ("chunks", "title"),
    [
        ([info(INAM="Müllers Größe".encode("latin-1"))], "Müllers Größe"),
        ([info(INAM="Müllers Größe".encode())], "Müllers Größe"),
        ([info(INAM="Песня".encode("cp1251")), chunk(b"CSET", struct.pack("<4H", 1251, 0, 0, 0))], "Песня"),
        ([chunk(b"CSET", struct.pack("<4H", 932, 0, 0, 0)), info(INAM="曲名".encode("cp932"))], "曲名"),
        ([chunk(b"CSET", struct.pack("<4H", 9999, 0, 0, 0)), info(INAM="ö".encode("latin-1"))], "ö"),
        ([chunk(b"id3 ", id3(frame(b"TIT2", b"\0Tag"), sound=b"")), info(INAM=b"Info")], "Tag"),
    ],
)
def test_text_of_a_wave_file_keeps_its_letters(chunks: list[bytes], title: str) -> None:
    assert tags_of("wav", wav(*chunks)) == {"title": title}


def test_a_broadcast_extension_is_read_in_utf8_and_latin1() -> None:
    for encoding in ("utf-8", "latin-1"):
        fields = "Straße".encode(encoding).ljust(256, b"\0") + "Zürich".encode(encoding).ljust(32, b"\0") + bytes(32)
        data = wav(chunk(b"bext", fields + b"2024-01-0212:34:56" + bytes(602 - 338)))
        assert tags_of("wav", data) == {
            "description": "Straße", "originator": "Zürich", "origination_date": "2024-01-02",
            "origination_time": "12:34:56",
        }  # fmt: skip


def test_text_of_an_aiff_file_is_mac_roman_unless_it_is_utf8() -> None:
    chunks = (chunk(b"NAME", "Größe".encode("mac_roman"), ">"), chunk(b"AUTH", "Zürich".encode(), ">"))
    assert tags_of("aiff", aiff(*chunks)) == {"title": "Größe", "artist": "Zürich"}


def test_text_of_mp4_is_read_whatever_its_type_says_and_binary_is_left_out() -> None:
    items = (
        box(b"\xa9nam", value(2, "Größe".encode("utf-16-be"))),
        box(b"\xa9ART", value(0, "Zürich".encode("latin-1"))),
        box(b"trkn", value(0, struct.pack(">4H", 0, 3, 9, 0))),
        box(b"----", box(b"mean", bytes(4), b"x"), box(b"name", bytes(4), b"MOOD"), value(1, b"calm")),
        box(b"----", box(b"mean", bytes(4), b"x"), box(b"name", bytes(4), b"BLOB"), value(0, b"\0\1\2")),
        box(b"cpil", value(21, b"\1")),
    )
    expected = {"title": "Größe", "artist": "Zürich", "track": "3/9", "mood": "calm", "compilation": "1"}
    assert tags_of("m4a", m4a(*items)) == expected


def test_wma_gives_texts_and_numbers_and_neither_bytes_nor_guids() -> None:
    data = wma(
        asf_attribute("WM/AlbumTitle", 0, "Größe".encode("utf-16-le") + b"\0\0"),
        asf_attribute("WM/MediaClassPrimaryID", 6, bytes(range(16))),
        asf_attribute("WM/Blob", 1, b"\0\1"),
        asf_attribute("WM/TrackNumber", 3, struct.pack("<I", 7)),
        asf_attribute("IsVBR", 2, struct.pack("<I", 1)),
    )
    tags = tags_of("wma", data)
    assert str(tags.pop("encoder")).startswith("Lavf")
    assert tags == {"album": "Größe", "track": "7", "isvbr": "1"}


PNG = audio.make_png(20, 10)
ENCODED = base64.b64encode(bytes(11) + PNG)


def flac_picture(kind: int, data: bytes, mime: bytes = b"image/png") -> bytes:
    head = struct.pack(">I", kind) + struct.pack(">I", len(mime)) + mime + bytes(4 + 16)
    return head + struct.pack(">I", len(data)) + data


WITH_PICTURES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "the second of two, the first being broken": (
        "mp3",
        lambda: id3(frame(b"APIC", b"\0image/png\0\3\0broken"), frame(b"APIC", b"\0image/jpg\0\0\0" + PNG)),
    ),
    "no padding in base64": (
        "flac",
        lambda: flac_blocks(
            (4, comment_block(b"METADATA_BLOCK_PICTURE=" + base64.b64encode(flac_picture(3, PNG)).rstrip(b"=")))
        ),
    ),
    "COVERART": ("flac", lambda: flac_blocks((4, comment_block(b"COVERART=" + base64.b64encode(PNG))))),
    "a broken block before a good one": (
        "flac", lambda: flac_blocks((6, flac_picture(3, b"broken")), (6, flac_picture(0, PNG))),
    ),
    "MP4, of a wrong type": ("m4a", lambda: m4a(box(b"covr", value(13, b"broken"), value(0, PNG)))),
    "an APE item": ("mp3", lambda: audio.make_mp3() + ape((b"Cover Art (Front)", 1, b"cover.png\0" + PNG))),
    "ID3v2.2": (
        "mp3", lambda: id3(b"PIC" + (6 + len(PNG)).to_bytes(3, "big") + b"\0PNG\3\0" + PNG, version=2),
    ),
    "a link before a picture": (
        "mp3",
        lambda: id3(
            frame(b"APIC", b"\0-->\0\3\0http://127.0.0.1:9/cover.png"), frame(b"APIC", b"\0image/png\0\0\0" + PNG)
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", WITH_PICTURES)
def test_the_first_picture_that_can_be_used_is_found(what: str, tmp_path: Path) -> None:
    extension, make = WITH_PICTURES[what]
    path = tmp_path / f"audio.{extension}"
    path.write_bytes(make())
    image = examine(path, audio_format(path.name)).artwork
    assert image is not None and (image.width, image.height) == (20, 10)


def read_file(tmp_path: Path, extension: str, data: bytes) -> AudioFacts:
    path = tmp_path / f"audio.{extension}"
    path.write_bytes(data)
    return examine(path, audio_format(path.name)).facts


def test_a_compressed_frame_gives_a_bounded_part(tmp_path: Path) -> None:
    """Promise 62. 50 KB that would be 12 MB of comments."""
    frames = []
    for number in range(100):
        text = b"\0eng" + b"c%d\0" % number + b"x" * 500_000
        frames.append(frame(b"COMM", struct.pack(">I", len(text)) + zlib.compress(text, 9), flags=0x80))
    facts = read_file(tmp_path, "mp3", id3(frame(b"TIT2", b"\0Title"), *frames))
    assert facts.tags["title"] == "Title"
    assert facts.tags_cut
    assert len(json.dumps(facts.tags)) <= MAX_BYTES
    assert len(decompress(zlib.compress(bytes(30 * 1024**2)), MAX_ARTWORK_BYTES)) == MAX_ARTWORK_BYTES


def numbered(template: bytes) -> list[bytes]:
    return [template % number for number in range(MANY)]


WITH_MANY_ENTRIES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "Vorbis comments": ("flac", lambda: flac_blocks((4, comment_block(*numbered(b"KEY%d=v"))))),
    "ID3 texts": ("mp3", lambda: id3(*(frame(b"TXXX", text) for text in numbered(b"\0k%d\0v")))),
    "ID3 pictures of one name": ("mp3", lambda: id3(*[frame(b"APIC", b"\0image/png\0\0\0x")] * MANY)),
    "ID3 in a wave file": (
        "wav", lambda: wav(chunk(b"id3 ", id3(*(frame(b"TXXX", text) for text in numbered(b"\0k%d\0v")), sound=b""))),
    ),
    "INFO": ("wav", lambda: wav(info(**{f"{number:04X}": b"v" for number in range(MANY)}))),
    "APE items": ("mp3", lambda: audio.make_mp3() + ape(*((key, 0, b"v") for key in numbered(b"key%d")))),
    "MP4 items": (
        "m4a",
        lambda: m4a(
            *(box(b"----", box(b"mean", bytes(4), b"x"), box(b"name", bytes(4), key), value(1, b"v"))
              for key in numbered(b"key%d"))
        ),
    ),
    "MP4 boxes in boxes": ("m4a", lambda: m4a(box(b"free" * 1, *[struct.pack(">I4s", 8, b"free")] * MANY))),
    "ASF attributes": ("wma", lambda: wma(*(asf_attribute(f"k{number}", 0, b"v\0") for number in range(MANY)))),
    "comments of Vorbis in Ogg": (
        "ogg", lambda: audio.make_ogg(tags=tuple((f"key{number}", "v") for number in range(5000))),
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", WITH_MANY_ENTRIES)
def test_tags_of_many_entries_neither_fail_the_file_nor_hold_a_worker(what: str, tmp_path: Path) -> None:
    """Promise 62. FFmpeg and mutagen compare each entry with all before it; they never see these."""
    extension, make = WITH_MANY_ENTRIES[what]
    data = make()
    begun = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    facts = read_file(tmp_path, extension, data)
    assert facts.duration > 0
    assert len(facts.tags) <= MAX_TAGS
    assert len(json.dumps(facts.tags)) <= MAX_BYTES
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - begun < 5


def test_all_tags_together_have_one_budget() -> None:
    """Promise 62. What people look for has its room before the rest, wherever it stands."""
    pairs = [(f"key{number}", "\u4e00" * 5000) for number in range(50)]
    tags, is_cut = common_tags([*pairs, ("title", "Title"), ("artist", "Artist")])
    assert is_cut
    assert (tags["title"], tags["artist"]) == ("Title", "Artist")
    assert len(json.dumps(tags)) <= MAX_BYTES


def test_keys_and_values_are_bounded_in_number_and_length() -> None:
    tags, is_cut = common_tags([("k" * 200, "v" * 50_000)])
    assert ([(len(key), len(text)) for key, text in tags.items()]) == [(MAX_KEY_LENGTH, MAX_VALUE_LENGTH)]
    assert is_cut
    assert len(common_tags((f"key{number}", "v") for number in range(1000)).values) == MAX_TAGS
    tags, is_cut = common_tags([("artist", "\0".join(str(number) for number in range(1000)))])
    assert (len(tags["artist"]), is_cut) == (20, True)
    assert common_tags([("title", "x" * MAX_VALUE_LENGTH)]) == ({"title": "x" * MAX_VALUE_LENGTH}, False)


@pytest.mark.parametrize("character", ["e\u0301", "\U0001f469\u200d\U0001f469\u200d\U0001f466", "\u0915\u094d"])
def test_a_text_is_cut_between_characters_and_marked(character: str) -> None:
    [text] = common_tags([("title", "x" * (MAX_VALUE_LENGTH - 2) + character * 10)]).values.values()
    assert text == "x" * (MAX_VALUE_LENGTH - 2) + CUT_MARK
