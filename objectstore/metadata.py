"""Metadata of objects, encoded for all providers."""

from collections.abc import Mapping
from urllib.parse import quote, unquote

#: Identifies the write that made an object, so that a write whose response was lost recognises its object.
WRITE_ID = "write_id"
# Of printable ASCII only ``%`` itself and what a header or its signature would not keep need to be encoded.
PLAIN = "!#$&'()*+,/:;=?@[]"


def encode_metadata(metadata: Mapping[str, str], write_id: str, *, most_bytes: int) -> dict[str, str]:
    """Values as percent-encoded UTF-8, with the id of the write. Beyond ``most_bytes``, the longest value is cut."""
    encoded = {name: quote(value, safe=PLAIN) for name, value in metadata.items()} | {WRITE_ID: write_id}
    excess = sum(len(name) + len(value) for name, value in encoded.items()) - most_bytes
    if excess > 0:
        longest = max(metadata, key=lambda name: len(encoded[name]))
        encoded[longest] = encode_beginning(metadata[longest], len(encoded[longest]) - excess)
    return encoded


def encode_beginning(text: str, most_bytes: int) -> str:
    encoded = ""
    for character in text:
        piece = quote(character, safe=PLAIN)
        if len(encoded) + len(piece) > most_bytes:
            break
        encoded += piece
    return encoded


def decode_metadata(encoded: Mapping[str, str]) -> dict[str, str]:
    """Without the id of the write."""
    decoded = {name.lower(): unquote(value) for name, value in encoded.items()}
    decoded.pop(WRITE_ID, None)
    return decoded


def write_id_of(encoded: Mapping[str, str]) -> str:
    return next((value for name, value in encoded.items() if name.lower() == WRITE_ID), "")
