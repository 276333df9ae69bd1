"""One local file with an upload's bytes, for all that is done with them in one go."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from pathlib import Path
from uuid import UUID

from objectstore import get_storage
from objectstore.errors import ObjectNotFound
from uploads.errors import ObjectLost
from uploads.models import AudioUpload


class Shared:
    """The copy that a block shares, as far as there is one yet."""

    def __init__(self, upload_id: UUID, stack: ExitStack) -> None:
        self.upload_id = upload_id
        self._stack = stack
        self._path: Path | None = None

    def path(self, upload: AudioUpload, *, anew: bool) -> Path:
        # A local storage's copy is the object itself: it goes when the row is given a twin's, which has the same bytes.
        if anew or self._path is None or not self._path.exists():
            self._stack.close()
            self._path = self._stack.enter_context(fetched(upload))
        return self._path


_shared: ContextVar[Shared | None] = ContextVar("working_copy", default=None)


@contextmanager
def one_working_copy(upload: AudioUpload) -> Iterator[None]:
    """All that is done with this upload in the block has one copy: made at first need, removed at the end of the block.

    A kill leaves it in TEMP_AUDIO_DIR, where a sweep takes it.
    """
    with ExitStack() as stack:
        token = _shared.set(Shared(upload.pk, stack))
        try:
            yield
        finally:
            _shared.reset(token)


@contextmanager
def working_copy(upload: AudioUpload, *, anew: bool = False) -> Iterator[Path]:
    """A path to the upload's bytes that another process may read, but not change, until the context ends.

    Outside :func:`one_working_copy` it is a copy of its own. ``anew`` has the storage asked again. Raises ObjectLost,
    TransientStorageError (also when TEMP_AUDIO_DIR has no room for it) and other storage errors.
    """
    shared = _shared.get()
    if shared is not None and shared.upload_id == upload.pk:
        yield shared.path(upload, anew=anew)
        return
    with fetched(upload) as path:
        yield path


@contextmanager
def fetched(upload: AudioUpload) -> Iterator[Path]:
    with ExitStack() as stack:
        try:
            path = stack.enter_context(get_storage(upload.storage_provider).working_copy(upload.storage_path))
        except ObjectNotFound as error:
            raise ObjectLost from error
        yield path
