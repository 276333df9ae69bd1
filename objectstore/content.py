from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django.core.files.base import File

Piece = bytes | bytearray | memoryview
#: What a storage keeps beside an object, as far as known: called before the content is read and again at its end. Names
#: are lower-case words with ``_`` between them; values are any text.
Metadata = Callable[[], Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class NewObject:
    """An empty ``storage_class`` is the storage's default."""

    content_type: str = ""
    metadata: Metadata = dict
    storage_class: str = ""


class StreamedContent(File):  # type: ignore[type-arg]  # generic for the type checker only
    """Content for ``save`` from pieces, never held as a whole.

    A piece may be a view of a reused buffer, valid until the next one. A second reading raises ValueError.
    ``expected_bytes`` may decide the size of parts.
    """

    def __init__(self, pieces: Iterable[Piece], name: str | None = None, *, expected_bytes: int = 0) -> None:
        super().__init__(None, name)
        self.expected_bytes = expected_bytes
        self._pieces: Iterable[Piece] | None = pieces

    def chunks(self, chunk_size: int | None = None) -> Iterator[Any]:
        pieces, self._pieces = self._pieces, None
        if pieces is None:
            raise ValueError("A stream can be stored once, and this one was.")
        return iter(pieces)


def expected_bytes_of(content: "File[Any]") -> int:
    """0 where unknown."""
    return content.expected_bytes if isinstance(content, StreamedContent) else content.size
