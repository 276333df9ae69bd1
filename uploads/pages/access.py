"""Which files a page may show, and to whom it offers what."""

from collections.abc import Iterable
from uuid import UUID

from django.contrib.auth.models import User
from django.http import HttpRequest

from audiotricks.errors import NotFound
from quotas.models import Membership
from quotas.rights import Right, basis_by, require_right
from uploads.actions.bulk import RIGHT_FOR, Action
from uploads.models import AudioUpload

#: What pages offer.
OFFERED = (Action.DELETE, Action.UNDELETE, Action.RETRY, Action.PURGE)


def visible_upload(request: HttpRequest, pk: UUID) -> AudioUpload:
    """Raises NotFound for another's, as for one that never was."""
    shown = AudioUpload.objects.visible_to(request.user).select_related("workspace").filter(pk=pk).first()
    if shown is None:
        raise NotFound
    return shown


def upload_with(request: HttpRequest, pk: UUID, right: Right) -> AudioUpload:
    shown = visible_upload(request, pk)
    require_right(request.user, right, shown.workspace_id)
    return shown


def roles_in(user: User, workspace_ids: Iterable[UUID]) -> dict[UUID, str]:
    """The user's own role in each of these workspaces; those of which the user is no member are left out."""
    found = Membership.objects.filter(user=user, workspace__in=set(workspace_ids))
    return dict(found.values_list("workspace", "role"))


def may_do(action: Action, user: User, role: str | None) -> bool:
    return bool(basis_by(user, RIGHT_FOR[action], role))
