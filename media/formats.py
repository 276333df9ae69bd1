"""Accepted audio and image formats, and the check of signatures on arrival."""

import codecs
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from audiotricks.errors import DomainError
from media.framing import FrameParser, adts_frame, after_id3, first_frame, mpeg_layer3_frame

if TYPE_CHECKING:
    from django.utils.functional import _StrOrPromise

# The number of bytes by which a signature is judged, unless the file is shorter.
HEAD_BYTES = 65_536
# Beginnings of brands (ISO/IEC 14496-12, 4.3) of audio files. The tracks decide on the content.
MP4_BRANDS = (
    b"M4A", b"M4B", b"M4P", b"M4V", b"F4A", b"F4B", b"mp4", b"mmp4", b"iso", b"avc1", b"dash", b"msdh", b"cmf",
    b"3g", b"kddi", b"MSNV", b"NDA", b"qt  ",
)  # fmt: skip
# A file with one of these as its major brand is an image or JPEG 2000, whatever it is compatible with.
IMAGE_BRANDS = (b"he", b"mif", b"msf", b"avi", b"jp", b"mj", b"jxl", b"crx", b"MiH")
# Boxes that may precede the index and the sound in a file without a brand.
MP4_PADDING = frozenset((b"free", b"skip", b"wide"))
MP4_MAX_BRANDS_BYTES = 1024
ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
EBML_HEADER = bytes.fromhex("1a45dfa3")
WEBM_DOCTYPE = re.compile(rb"\x42\x82(?:[\x84-\x88]|\x40[\x04-\x08]|\x01\0{6}[\x04-\x08])webm")
OGG_PAGE_BYTES = 27


class UnsupportedFormat(DomainError):
    """Members: ``extension``, ``accepted``."""

    code = "unsupported_format"
    status = 415
    title = _("This kind of file is not accepted")


class ContentMismatch(DomainError):
    """Members: ``expected``, and ``found`` if recognised."""

    code = "content_mismatch"
    status = 415
    title = _("The content is not what the file's name says")


class TooShort(DomainError):
    """Without even one frame of sound."""

    code = "audio_too_short"
    status = 422
    title = _("The file is too short to hold any audio")


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """``extension`` is lower-case without a dot. ``matches`` takes the head of a file. A file of fewer than
    ``minimum_bytes`` has no sound.
    """

    extension: str
    mime_type: str
    demuxer: str
    name: "_StrOrPromise"
    minimum_bytes: int
    matches: Callable[[bytes], bool]


@dataclass(frozen=True, slots=True)
class ImageFormat:
    """``extension`` is that of stored files."""

    extension: str
    mime_type: str


def audio_format(filename: str) -> AudioFormat:
    """In any letter case. Raises :class:`UnsupportedFormat`."""
    extension = extension_of(filename)
    if extension not in AUDIO_FORMATS:
        accepted = sorted(AUDIO_FORMATS)
        if extension:
            detail = _("Files that end in .{extension} are not accepted. Accepted are: {accepted}.")
        else:
            detail = _("A file without an extension is not accepted. Accepted are: {accepted}.")
        raise UnsupportedFormat(
            format_lazy(detail, extension=extension, accepted=", ".join(accepted)),
            extension=extension,
            accepted=accepted,
        )
    return AUDIO_FORMATS[extension]


def image_format(filename: str) -> ImageFormat:
    """Raises :class:`UnsupportedFormat`."""
    extension = extension_of(filename)
    if extension not in IMAGE_FORMATS:
        accepted = sorted(IMAGE_FORMATS)
        raise UnsupportedFormat(
            format_lazy(_("A thumbnail must be one of: {accepted}."), accepted=", ".join(accepted)),
            extension=extension,
            accepted=accepted,
        )
    return IMAGE_FORMATS[extension]


def extension_of(filename: str) -> str:
    """Lower-case without its dot, at most 16 characters; may be empty."""
    return PurePosixPath(filename.replace("\\", "/").replace("\0", "")).suffix[1:17].lower()


def check_signature(audio_format: AudioFormat, head: bytes, *, complete: bool) -> None:
    """Compare ``head`` (``HEAD_BYTES`` or ``complete``) with the format. Raises :class:`ContentMismatch`, or
    :class:`TooShort` if the file ends before any sound.
    """
    if complete and is_cut_short(audio_format, head):
        raise TooShort(
            format_lazy(
                _("The file has {size} bytes, too few for {expected} with any sound in it."),
                size=len(head),
                expected=audio_format.name,
            ),
            size=len(head),
        )
    if audio_format.matches(head):
        return
    found = recognise(head)
    if found is None:
        detail = format_lazy(_("The name says {expected}, the content does not."), expected=audio_format.name)
        raise ContentMismatch(detail, expected=audio_format.extension)
    detail = format_lazy(
        _("The name says {expected}, the content does not: this is {found}."), expected=audio_format.name, found=found
    )
    raise ContentMismatch(detail, expected=audio_format.extension, found=found)


def recognise(head: bytes) -> "_StrOrPromise | None":
    """The kind of file in words, or None."""
    for audio_format in AUDIO_FORMATS.values():
        if audio_format.demuxer in FRAME_PARSERS and audio_format.matches(head):
            return audio_format.name
    return recognise_signature(head)


def recognise_signature(head: bytes) -> "_StrOrPromise | None":
    """Frames of sound have no signature."""
    for audio_format in AUDIO_FORMATS.values():
        if audio_format.demuxer not in FRAME_PARSERS and audio_format.matches(head):
            return audio_format.name
    for name, signature in OTHER_SIGNATURES:
        if head.startswith(signature):
            return name
    if head[4:8] == b"ftyp":
        return _("an MP4 or an image in its container")
    if head.startswith(EBML_HEADER):
        return _("a Matroska video or audio file")
    start = head[:512].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<script", b"<body")):
        return _("an HTML page")
    if start.startswith((b"<?xml", b"<svg")):
        return _("an XML document")
    return _("a text file") if start and is_text(head[:512]) else None


def is_text(head: bytes) -> bool:
    """UTF-8 without controls; the last character may be incomplete."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return all(byte >= 32 or byte in b"\t\r\n\f" for byte in head)


def is_cut_short(audio_format: AudioFormat, whole: bytes) -> bool:
    if not whole:
        return True
    if audio_format.demuxer in FRAME_PARSERS:
        return has_no_whole_frame(whole, FRAME_PARSERS[audio_format.demuxer])
    return len(whole) < audio_format.minimum_bytes and (
        audio_format.matches(whole)
        or any(magic.startswith(whole[: len(magic)]) for magic in MAGIC[audio_format.demuxer])
    )


def has_no_whole_frame(whole: bytes, parse: FrameParser) -> bool:
    begin = after_id3(whole)
    if whole[:3] == b"ID3" and (begin >= len(whole) or len(whole) < 10):
        return first_frame(whole, parse) is None
    begin += len(whole[begin:]) - len(whole[begin:].lstrip(b"\0"))
    frame = parse(whole, begin)
    return frame is not None and begin + frame.length > len(whole)


def is_frames(head: bytes, parse: FrameParser) -> bool:
    """From the start, after ID3v2 tags or zeros, or from within a frame. A tag longer than the head passes."""
    begin = after_id3(head)
    if begin and begin >= len(head):
        return True
    found = first_frame(head, parse)
    if not found or begin or not any(head[:found]):
        return found is not None
    return recognise_signature(head[:found]) is None


def is_mp3(head: bytes) -> bool:
    return is_frames(head, mpeg_layer3_frame)


def is_aac(head: bytes) -> bool:
    return is_frames(head, adts_frame)


def is_wav(head: bytes) -> bool:
    return head[:4] in MAGIC["wav"] and head[8:12] == b"WAVE"


def is_aiff(head: bytes) -> bool:
    return head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC")


def is_flac(head: bytes) -> bool:
    begin = after_id3(head)
    return bool(begin and begin >= len(head)) or head[begin : begin + 4] == b"fLaC"


def is_ogg(head: bytes) -> bool:
    return ogg_packet(head).startswith((b"\x01vorbis", b"OpusHead", b"\x7fFLAC", b"Speex   ", b"fishead\0"))


def is_opus(head: bytes) -> bool:
    return ogg_packet(head).startswith(b"OpusHead")


def ogg_packet(head: bytes) -> bytes:
    """The body of the first Ogg page (RFC 3533, 6); empty without one."""
    head = head[after_id3(head) :]
    if head[:5] != b"OggS\0" or len(head) < OGG_PAGE_BYTES or not head[5] & 2:
        return b""
    return head[OGG_PAGE_BYTES + head[26] :]


def is_m4a(head: bytes) -> bool:
    """By the brands, major or compatible, of ISO base media or QuickTime boxes."""
    at = 0
    while head[at + 4 : at + 8] in MP4_PADDING and (length := int.from_bytes(head[at : at + 4], "big")) >= 8:
        at += length
    length, name = int.from_bytes(head[at : at + 4], "big"), head[at + 4 : at + 8]
    if name != b"ftyp":
        return name in (b"moov", b"mdat") and (length == 1 or length >= 8)
    if not 16 <= length <= MP4_MAX_BRANDS_BYTES:
        return False
    box = head[at : at + length]
    if box[8:12].startswith(IMAGE_BRANDS):
        return False
    return any(box[found : found + 4].startswith(MP4_BRANDS) for found in (8, *range(16, length, 4)))


def is_asf(head: bytes) -> bool:
    return head.startswith(ASF_HEADER)


def is_webm(head: bytes) -> bool:
    """An EBML header (RFC 8794, 11.2) with the DocType webm."""
    return head.startswith(EBML_HEADER) and WEBM_DOCTYPE.search(head, 4, 256) is not None


AUDIO_FORMATS = {
    audio_format.extension: audio_format
    for audio_format in (
        AudioFormat("mp3", "audio/mpeg", "mp3", _("an MP3"), 24, is_mp3),
        AudioFormat("wav", "audio/wav", "wav", _("a WAV"), 45, is_wav),
        AudioFormat("flac", "audio/flac", "flac", _("a FLAC"), 53, is_flac),
        AudioFormat("opus", "audio/ogg", "ogg", _("Opus in Ogg"), 100, is_opus),
        AudioFormat("ogg", "audio/ogg", "ogg", _("Ogg audio"), 100, is_ogg),
        AudioFormat("oga", "audio/ogg", "ogg", _("Ogg audio"), 100, is_ogg),
        AudioFormat("m4a", "audio/mp4", "mov", _("an M4A"), 100, is_m4a),
        AudioFormat("aac", "audio/aac", "aac", _("AAC in ADTS frames"), 8, is_aac),
        AudioFormat("aiff", "audio/aiff", "aiff", _("an AIFF"), 55, is_aiff),
        AudioFormat("aif", "audio/aiff", "aiff", _("an AIFF"), 55, is_aiff),
        AudioFormat("wma", "audio/x-ms-wma", "asf", _("a WMA"), 200, is_asf),
        AudioFormat("webm", "audio/webm", "matroska", _("a WebM"), 100, is_webm),
    )
}
IMAGE_FORMATS = {
    "jpg": ImageFormat("jpg", "image/jpeg"),
    "jpeg": ImageFormat("jpg", "image/jpeg"),
    "png": ImageFormat("png", "image/png"),
    "webp": ImageFormat("webp", "image/webp"),
}
FRAME_PARSERS: dict[str, FrameParser] = {"mp3": mpeg_layer3_frame, "aac": adts_frame}
MAGIC = {
    "wav": (b"RIFF", b"RIFX", b"RF64", b"BW64"),
    "flac": (b"fLaC", b"ID3"),
    "ogg": (b"OggS",),
    "mov": (b"\0\0\0",),
    "aiff": (b"FORM",),
    "asf": (ASF_HEADER,),
    "matroska": (EBML_HEADER,),
}
OTHER_SIGNATURES = (
    (_("an HLS playlist"), b"#EXTM3U"),
    (_("a Windows program"), b"MZ"),
    (_("a Linux program"), b"\x7fELF"),
    (_("a macOS program"), b"\xcf\xfa\xed\xfe"),
    (_("a script"), b"#!"),
    (_("a PDF"), b"%PDF-"),
    (_("a ZIP archive"), b"PK\x03\x04"),
    (_("a gzip archive"), b"\x1f\x8b"),
    (_("a RAR archive"), b"Rar!\x1a\x07"),
    (_("a 7-Zip archive"), b"7z\xbc\xaf\x27\x1c"),
    (_("a PNG image"), b"\x89PNG\r\n\x1a\n"),
    (_("a JPEG image"), b"\xff\xd8\xff"),
    (_("a GIF image"), b"GIF8"),
    (_("a MIDI file"), b"MThd"),
    (_("an AMR recording"), b"#!AMR"),
    (_("an Ogg video"), b"OggS"),
    (_("another RIFF file, such as AVI or WebP"), b"RIFF"),
)
