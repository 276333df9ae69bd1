"""Text with a missing or wrong encoding."""

import codecs

UTF16_MARKS = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


def decode_text(data: bytes, *, otherwise: str = "cp1252") -> str:
    """UTF-8, UTF-16 with a byte order mark, or ``otherwise``."""
    if data[:2] in UTF16_MARKS:
        return "\0".join(decode_utf16(data))
    try:
        return data.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError:
        return decode_legacy(data, otherwise)


def decode_legacy(data: bytes, encoding: str) -> str:
    """Bytes that the Windows page lacks are Latin-1."""
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return data.decode("latin-1") if encoding == "cp1252" else data.decode(encoding, "replace")


def decode_field(field: bytes, *, otherwise: str = "cp1252") -> str:
    """Padded with NUL or blanks; UTF-8 may be cut."""
    data = field.split(b"\0", 1)[0].rstrip()
    try:
        data.decode()
    except UnicodeDecodeError as error:
        is_cut = len(data) == len(field) and error.reason == "unexpected end of data"
        # ASCII alone is no evidence of UTF-8: the last byte belongs to another encoding.
        if is_cut and not data[: error.start].isascii():
            data = data[: error.start]
    return decode_text(data, otherwise=otherwise)


def decode_utf16(data: bytes, *, default: str = "utf-16-le") -> list[str]:
    """The texts between NULs, in the likely order of bytes, else ``default``."""
    data = data[: len(data) // 2 * 2]
    order = UTF16_MARKS.get(data[:2]) or likely_order(data, default)
    texts = data.decode(order, "replace").split("\0")
    return [read_from_mark(text, order) for text in texts]


def read_from_mark(text: str, order: str) -> str:
    """A mark in the text may give the other byte order."""
    if text.startswith("\ufffe"):
        other = "utf-16-be" if order == "utf-16-le" else "utf-16-le"
        text = text.encode(order, "replace").decode(other, "replace")
    return text.removeprefix("\ufeff")


def likely_order(data: bytes, default: str) -> str:
    """Characters of one script share the higher byte."""
    first, second = data[0::2], data[1::2]
    if first.count(0) != second.count(0):
        return "utf-16-le" if second.count(0) > first.count(0) else "utf-16-be"
    # In a short text, a small difference is chance.
    if len(data) >= 8 and abs(len(set(first)) - len(set(second))) > 1:
        return "utf-16-le" if len(set(second)) < len(set(first)) else "utf-16-be"
    return default
