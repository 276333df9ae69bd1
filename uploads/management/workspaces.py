from django.contrib.auth.models import User
from django.utils.translation import gettext as _

from audiotricks.errors import DomainError
from audiotricks.management.prompt import usage_error, user_named
from quotas.models import Membership, Workspace
from quotas.rights import Right, require_right


def workspace_named(ref: str) -> Workspace:
    """By id or slug. Raises CommandError."""
    found = Workspace.objects.called(ref).first()
    if found is None:
        raise usage_error(_("There is no workspace called %(name)s.") % {"name": ref})
    return found


def owner_for(workspace: Workspace, username: str | None) -> User:
    """The named user, or the workspace's longest owner. Raises CommandError for a user who may not add files."""
    if username is None:
        return _first_owner(workspace)
    user = user_named(username)
    try:
        require_right(user, Right.ADD_FILES, workspace.pk)
    except DomainError as error:
        raise usage_error(
            _("%(user)s may not put files into %(workspace)s: %(why)s")
            % {"user": username, "workspace": workspace.slug, "why": error.detail}
        ) from None
    return user


def _first_owner(workspace: Workspace) -> User:
    owners = workspace.memberships.filter(role=Membership.Role.OWNER).order_by("created_at", "id")
    first = owners.select_related("user").first()
    if first is None:
        raise usage_error(_("This workspace has no owner: name the owner of the files with --owner."))
    return first.user
