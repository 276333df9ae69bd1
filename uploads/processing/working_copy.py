"""One local copy of an upload's object and one look into it, for all steps."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from pathlib import Path
from uuid import UUID

from media.formats import audio_format
from media.inspection import Examination, examine
from objectstore import get_storage
from objectstore.errors import ObjectNotFound
from uploads.errors import ObjectLost
from uploads.models import AudioUpload


class Shared:
    def __init__(self, upload_id: UUID, stack: ExitStack) -> None:
        self.upload_id = upload_id
        self._stack = stack
        self._path: Path | None = None
        self._examination: Examination | None = None

    def path(self, upload: AudioUpload, *, anew: bool) -> Path:
        # The copy from a local storage is the object itself, which may be removed once the row shares another one.
        if anew or self._path is None or not self._path.exists():
            self._stack.close()
            self._path = self._stack.enter_context(fetched(upload))
        return self._path

    def examination(self, upload: AudioUpload) -> Examination:
        if self._examination is None:
            self._examination = examine(self.path(upload, anew=False), audio_format(upload.storage_path))
        return self._examination


_shared: ContextVar[Shared | None] = ContextVar("working_copy", default=None)


def shared_by(upload: AudioUpload) -> Shared | None:
    shared = _shared.get()
    return shared if shared is not None and shared.upload_id == upload.pk else None


@contextmanager
def one_working_copy(upload: AudioUpload) -> Iterator[None]:
    """Share a copy and a look in the block. A sweep removes those of killed processes from TEMP_AUDIO_DIR."""
    with ExitStack() as stack:
        token = _shared.set(Shared(upload.pk, stack))
        try:
            yield
        finally:
            _shared.reset(token)


@contextmanager
def working_copy(upload: AudioUpload, *, anew: bool = False) -> Iterator[Path]:
    """A path to read, but not change, until the context ends; its own copy outside of :func:`one_working_copy`.
    ``anew`` fetches it again. Raises ObjectLost, TransientStorageError (also without space in TEMP_AUDIO_DIR) and
    other storage errors.
    """
    if shared := shared_by(upload):
        yield shared.path(upload, anew=anew)
        return
    with fetched(upload) as path:
        yield path


def examined(upload: AudioUpload) -> Examination:
    """Raises MediaError, and the errors of :func:`working_copy`."""
    if shared := shared_by(upload):
        return shared.examination(upload)
    with working_copy(upload) as path:
        return examine(path, audio_format(upload.storage_path))


@contextmanager
def fetched(upload: AudioUpload) -> Iterator[Path]:
    with ExitStack() as stack:
        try:
            path = stack.enter_context(get_storage(upload.storage_provider).working_copy(upload.storage_path))
        except ObjectNotFound as error:
            raise ObjectLost from error
        yield path
