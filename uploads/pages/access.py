"""Which files a page may show, and to whom it offers what."""

from collections.abc import Iterable
from uuid import UUID

from django.contrib.auth.models import User
from django.http import HttpRequest

from audiotricks.errors import NotFound
from quotas.models import Membership, Workspace
from quotas.workspaces import require_role
from uploads.bulk import Action
from uploads.models import AudioUpload, Status

Role = Membership.Role

#: What pages offer, and the least role that may ask for it.
ROLE_FOR = {
    Action.DELETE: Role.EDITOR,
    Action.UNDELETE: Role.EDITOR,
    Action.RETRY: Role.EDITOR,
    Action.PURGE: Role.OWNER,
}
#: States that change by themselves: a page that shows one looks again.
MOVING = frozenset({Status.UPLOADED, Status.VALIDATING, Status.PROCESSING, Status.ARCHIVING, Status.RESTORING})


def visible_upload(request: HttpRequest, pk: UUID) -> AudioUpload:
    """Raises NotFound for another's, as for one that never was."""
    shown = AudioUpload.objects.visible_to(request.user).select_related("workspace").filter(pk=pk).first()
    if shown is None:
        raise NotFound
    return shown


def editable_upload(request: HttpRequest, pk: UUID, *, role: Membership.Role = Role.EDITOR) -> AudioUpload:
    shown = visible_upload(request, pk)
    require_role(request.user, shown.workspace, role)
    return shown


def roles_in(user: User, workspace_ids: Iterable[UUID]) -> dict[UUID, Membership.Role]:
    """In which role the user acts in each of these workspaces."""
    found = Workspace.objects.visible_to(user).filter(pk__in=set(workspace_ids)).with_role_of(user)
    return {workspace.pk: Role(workspace.role) for workspace in found}


def may(action: Action, role: Membership.Role | None) -> bool:
    return role is not None and role.rank >= ROLE_FOR[action].rank
