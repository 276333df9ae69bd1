"""The sessions of a user."""

from uuid import UUID

from django.contrib.auth.models import User
from django.db.models import F, Q

from audiotricks.clock import Now
from audiotricks.errors import NotFound
from quotas.rights import Right, require_right
from uploads.intake.sessions.errors import SessionEnded
from uploads.intake.sessions.writing import session_row
from uploads.models import UploadSession


def session_for(user: User, kind: UploadSession.Kind, pk: UUID, *, to_end: bool = False) -> UploadSession:
    """The user's own session. Raises NotFound for an unknown one and for another user's, SessionEnded also for one that
    expired and that no sweep has ended yet; PermissionDenied or NotFound for a user who lost the right to add files,
    except ``to_end`` it.
    """
    session = session_row(pk)
    if session.kind != kind or session.owner_id != user.pk:
        raise NotFound
    if session.state == UploadSession.State.ENDED:
        raise SessionEnded(reason=session.error_code)
    if session.is_open and not UploadSession.objects.filter(not_expired(), pk=pk).exists():
        raise SessionEnded(reason="upload_expired")
    if not to_end:
        require_right(user, Right.ADD_FILES, session.workspace_id)
    return session


def not_expired() -> Q:
    """Of open sessions. One that is being written, joined into another, or whole does not expire: a sweep completes it.
    The provider decides about a direct one.
    """
    whole = Q(is_partial=False, received_bytes=F("size_bytes"))
    in_use = Q(claimable_at__gt=Now()) | Q(final__isnull=False)
    return Q(expires_at__gt=Now()) | in_use | whole | Q(kind=UploadSession.Kind.DIRECT)
