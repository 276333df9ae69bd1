"""Any name that a user gives a file: kept for people, harmless for machines."""

import unicodedata
from email.message import Message
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from audiotricks.web.disposition import MAX_NAME_BYTES, shortened
from objectstore.names import is_valid_name
from tests.audio import make_mp3
from tests.factories import UserFactory, client_for
from tests.uploads.life import names_in
from tests.uploads.sending import UPLOADS, field, file_part, form, form_type, post_raw
from uploads.intake.filenames import MAX_LENGTH, clean_filename
from uploads.models import AudioUpload
from uploads.models.folding import fold

DIRECTION_MARKS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
SURPRISES = st.sampled_from(
    ["../", "..\\", "C:\\", "\0", "\r\n", "\r\nSet-Cookie: a=b", '"', "\\", ";", "%0d%0a", "%00", "'", "=", "\u202e",
     "\u2028", "\ud800", "\ufeff", "é", "e\u0301", "日本", ".", " ", "\u00a0", "x" * 300, "-", "~", "CON", "\u200c",
     "\u200d", "\u0645", "\u0915\u094d", "\U0001f469", "\ufe0f", "ß", "\u0130", "\ufb01"]
)  # fmt: skip
NAMES = st.lists(SURPRISES | st.text(max_size=20), max_size=12).map("".join)


@pytest.mark.parametrize(
    ("given_name", "kept"),
    [
        ("one.mp3", "one.mp3"),
        ("Ärger im Büro (2).mp3", "Ärger im Büro (2).mp3"),
        ("録音 №1.mp3", "録音 №1.mp3"),
        ("e\u0301.mp3", "é.mp3"),
        ("../../etc/passwd.mp3", "passwd.mp3"),
        ("..\\..\\boot.mp3", "boot.mp3"),
        ("C:\\Users\\me\\one.mp3", "one.mp3"),
        ("/", ""),
        ("..", ""),
        ("", ""),
        (" . ", ""),
        ("one.mp3/", ""),
        ("a\0b.mp3", "ab.mp3"),
        ("a\r\nX-Evil: 1\r\n.mp3", "aX-Evil: 1.mp3"),
        ("one\u202e3pm.exe", "one3pm.exe"),
        ("one\u061c.mp3", "one.mp3"),
        (
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645.mp3",
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645.mp3",
        ),
        ("\u0645\u06cc\u200c.mp3", "\u0645\u06cc.mp3"),
        ("\u0915\u094d\u200d\u0937.mp3", "\u0915\u094d\u200d\u0937.mp3"),
        ("\u0cb0\u0ccd\u200c.mp3", "\u0cb0\u0ccd\u200c.mp3"),
        ("\U0001f468\u200d\U0001f469\u200d\U0001f467.mp3", "\U0001f468\u200d\U0001f469\u200d\U0001f467.mp3"),
        ("\U0001f3f3\ufe0f\u200d\U0001f308.mp3", "\U0001f3f3\ufe0f\u200d\U0001f308.mp3"),
        ("\U0001f44d\U0001f3fd\u200d.mp3", "\U0001f44d\U0001f3fd.mp3"),
        ("o\u200dn\u200ce\u200b.mp3", "one.mp3"),
        ("\u0645\u200c\u200d\u200c\u0648.mp3", "\u0645\u200c\u0648.mp3"),
        (".hidden.mp3", "hidden.mp3"),
        (" . . one.mp3. ", "one.mp3"),
        ("one.mp3\u00a0", "one.mp3"),
        ("x" * 600 + ".mp3", "x" * 496 + ".mp3"),
        ("x.m" + "p" * 600, "x.m" + "p" * 497),
    ],
)
def test_a_name_is_kept_as_far_as_it_is_harmless(given_name: str, kept: str) -> None:
    """Promise 39. No path, no control, no mark that disguises what the file is."""
    assert clean_filename(given_name) == kept


@given(NAMES)
@example(". .")
@example("\ud800")
def test_a_kept_name_is_one_harmless_line(name: str) -> None:
    """Promise 43. For any text at all; and cleaning twice changes nothing."""
    kept = clean_filename(name)
    assert len(kept) <= MAX_LENGTH
    assert not set(kept) & set("/\\" + DIRECTION_MARKS)
    assert not any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in kept)
    assert kept == kept.strip().strip(".")
    assert unicodedata.is_normalized("NFC", kept)
    assert clean_filename(kept) == kept
    assert fold(fold(kept)) == fold(kept)
    kept.encode()


def name_in(header: str) -> str:
    """The name as a client reads it: RFC 6266, ``filename*`` first."""
    message = Message()
    message["Content-Disposition"] = header
    return str(message.get_filename())


@pytest.mark.django_db
def test_any_name_gives_one_header_line_with_that_name() -> None:
    """Promise 43. Through the database and out again, to listen and to save."""
    client = client_for(UserFactory())
    address = f"{UPLOADS}{post_raw(client, make_mp3()).json()['id']}/"

    @settings(deadline=None, max_examples=60)
    @given(NAMES, st.booleans())
    @example('a"b\\c', True)
    @example("\r\nSet-Cookie: a=b", False)
    def serve(name: str, download: bool) -> None:
        kept = clean_filename(clean_filename(name) + "x.mp3")
        assert client.patch(address, {"original_filename": kept}, format="json").status_code == 200
        served = client.head(f"{address}content/" + ("?download=1" if download else ""))
        header = served["Content-Disposition"]
        assert header.isascii() and header.isprintable()
        assert header.startswith("attachment; " if download else "inline; ")
        assert name_in(header) == shortened(kept, MAX_NAME_BYTES)

    serve()


HOSTILE_NAMES = {
    "traversal": ("../../../etc/cron.d/one.mp3", "one.mp3"),
    "Windows traversal": ("..\\\\..\\\\one.mp3", "one.mp3"),
    "drive letter": ("C:\\\\one.mp3", "one.mp3"),
    "direction mark": ("one\u202e.mp3", "one.mp3"),
    "500 characters": ("x" * 496 + ".mp3", "x" * 496 + ".mp3"),
    "more": ("x" * 900 + ".mp3", "x" * 496 + ".mp3"),
    "quotes": ("a%22b.mp3", 'a"b.mp3'),
    "line break, as browsers write it": ("a%0D%0Ab.mp3", "ab.mp3"),
    "emoji": ("🎵.mp3", "🎵.mp3"),
    "a Windows device": ("CON.mp3", "CON.mp3"),
}


@pytest.mark.django_db
@pytest.mark.parametrize("layout", ["by-id", "by-user-date"])
@pytest.mark.parametrize("what", HOSTILE_NAMES)
def test_a_hostile_name_is_stored_under_a_path_of_ours(what: str, layout: str, settings: Any) -> None:
    """Promise 39. The user's name is in the database; the object's is made of an id, and at most a plain slug."""
    settings.AUDIO_STORAGE_LAYOUT = layout
    sent, kept = HOSTILE_NAMES[what]
    body = form(field("note", "x"), file_part(filename=sent))
    answer = client_for(UserFactory()).post(UPLOADS, body, content_type=form_type())
    assert answer.status_code == 201, answer.content
    upload = AudioUpload.objects.get()
    assert upload.original_filename == answer.json()["original_filename"] == kept
    assert is_valid_name(upload.storage_path)
    assert sorted(names_in("local")) == [upload.storage_path]
