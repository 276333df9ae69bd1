"""What ended and completed sessions left in the storage."""

from collections.abc import Iterable

from objectstore import direct_uploads_of
from objectstore.base import AudioStorage
from objectstore.names import SESSIONS
from uploads.models import UploadSession


def clean_up_session(storage: AudioStorage, session: UploadSession) -> None:
    """Remove the bytes of an ended session, then note that nothing is left. Raises StorageErrors; call it again then.

    A direct session whose bytes are gone is forgotten.
    """
    if session.kind == UploadSession.Kind.DIRECT:
        direct_uploads_of(storage).abort(session.storage_path, session.direct_upload)
        UploadSession.objects.filter(pk=session.pk, state=UploadSession.State.ENDED).delete()
        return
    if session.handle:
        storage.parts.abort(session.storage_path, session.handle)
    remove_tails(storage, [session.tail])
    UploadSession.objects.filter(pk=session.pk, state=UploadSession.State.ENDED).update(handle="", tail="")
    session.parts.all().delete()


def remove_tails(storage: AudioStorage, names: Iterable[str]) -> None:
    for name in names:
        if name.startswith(SESSIONS):
            storage.delete(name)
