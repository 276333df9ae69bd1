"""The sessions of a user."""

from uuid import UUID

from django.contrib.auth.models import User

from audiotricks.errors import NotFound
from quotas.rights import Right, require_right
from uploads.intake.sessions.errors import SessionEnded
from uploads.intake.sessions.writing import session_row
from uploads.models import UploadSession


def session_for(user: User, kind: UploadSession.Kind, pk: UUID) -> UploadSession:
    """The user's own session. Raises NotFound for an unknown one and for another user's, SessionEnded; PermissionDenied
    or NotFound for a user who lost the right to add files.
    """
    session = session_row(pk)
    if session.kind != kind or session.owner_id != user.pk:
        raise NotFound
    if session.state == UploadSession.State.ENDED:
        raise SessionEnded(reason=session.error_code)
    require_right(user, Right.ADD_FILES, session.workspace_id)
    return session
