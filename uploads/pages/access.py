from collections.abc import Iterable
from uuid import UUID

from django.contrib.auth.models import User
from django.http import HttpRequest

from audiotricks.errors import NotFound
from quotas.models import Membership
from quotas.rights import require_right
from uploads.actions import file_actions
from uploads.actions.base import BulkFileAction, FileAction
from uploads.models import AudioUpload


def page_actions() -> list[BulkFileAction]:
    return [action for action in file_actions() if action.button]


def visible_upload(request: HttpRequest, pk: UUID) -> AudioUpload:
    """Raises NotFound, also for another workspace."""
    shown = AudioUpload.objects.visible_to(request.user).select_related("workspace").filter(pk=pk).first()
    if shown is None:
        raise NotFound
    return shown


def upload_for(request: HttpRequest, pk: UUID, action: FileAction) -> AudioUpload:
    """Raises the errors of :func:`visible_upload` and :func:`require_right`."""
    shown = visible_upload(request, pk)
    require_right(request.user, action.right, shown.workspace_id)
    return shown


def roles_in(user: User, workspace_ids: Iterable[UUID]) -> dict[UUID, str]:
    found = Membership.objects.filter(user=user, workspace__in=set(workspace_ids))
    return dict(found.values_list("workspace", "role"))
