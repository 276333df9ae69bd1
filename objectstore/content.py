"""The content of an object that is to be written, and what describes it."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django.core.files.base import File

Piece = bytes | bytearray | memoryview
#: What a storage keeps beside an object, as far as it is known at that moment: called before the content is read, and
#: again after its end. Names are lower-case words with ``_`` between; values are any text.
Metadata = Callable[[], Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class NewObject:
    """What describes an object that is to be written. An empty ``storage_class`` is the storage's own."""

    content_type: str = ""
    metadata: Metadata = dict
    storage_class: str = ""


class StreamedContent(File):  # type: ignore[type-arg]  # generic for the type checker only
    """Content for ``save`` that comes from an iterable of pieces, and is never held as a whole.

    A piece may be a view of a buffer that its producer uses again: a backend is done with it before it asks for the
    next one. A second reading raises ValueError. ``expected_bytes`` is the size as far as it is known; a storage may
    choose the size of its parts by it.
    """

    def __init__(self, pieces: Iterable[Piece], name: str | None = None, *, expected_bytes: int = 0) -> None:
        super().__init__(None, name)
        self.expected_bytes = expected_bytes
        self._pieces: Iterable[Piece] | None = pieces

    def chunks(self, chunk_size: int | None = None) -> Iterator[Any]:
        """Return the pieces as they come; ``chunk_size`` does not apply."""
        pieces, self._pieces = self._pieces, None
        if pieces is None:
            raise ValueError("A stream can be stored once, and this one was.")
        return iter(pieces)


def expected_bytes_of(content: "File[Any]") -> int:
    """Return how many bytes the content has, as far as that is known; 0 where it is not."""
    return content.expected_bytes if isinstance(content, StreamedContent) else content.size
