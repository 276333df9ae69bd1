import secrets
import uuid
from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.db import IntegrityError, transaction
from django.utils.text import slugify
from django.utils.translation import gettext_lazy as _

from accounts.audit import Kind, acting_user, record
from audiotricks.errors import NotFound
from quotas.errors import AlreadyMember, OwnerNeeded, SlugTaken, TooManyWorkspaces
from quotas.models import Membership, Workspace, parse_uuid
from quotas.rights import Right, Role, basis_of, is_permitted, require_by, require_right

SLUG_ATTEMPTS = 10
# Leaves space for eight digits that make a taken slug unique.
SLUG_LENGTH = 50


def workspace_for(user: AbstractBaseUser | AnonymousUser, ref: str | None, *, right: Right) -> Workspace:
    """By id or slug; None is the personal one.

    Raises NotFound for a missing one or another's, PermissionDenied without the right.
    """
    found = personal_workspace(user) if ref is None else Workspace.objects.called(ref).first()
    if found is None:
        raise NotFound(_("There is no such workspace, or it is not yours."))
    require_right(user, right, found.pk)
    return found


def find_workspace(
    user: AbstractBaseUser | AnonymousUser, pk: uuid.UUID, *, right: Right = Right.VIEW_WORKSPACE
) -> Workspace:
    """With ``quota`` and the user's ``role``. Raises like :func:`workspace_for`."""
    rows = Workspace.objects.with_role_of(user).select_related("quota", "personal_of")
    workspace = rows.filter(pk=pk).first()
    if workspace is None:
        raise NotFound(_("There is no such workspace, or it is not yours."))
    require_by(user, right, Role(workspace.role) if workspace.role else None)
    return workspace


def personal_workspace(user: AbstractBaseUser | AnonymousUser) -> Workspace:
    """Created at first need; parallel calls get the same one."""
    found = Workspace.objects.filter(personal_of=user.pk).first()
    if found is not None:
        return found
    username = user.get_username()
    for slug in _slugs(username):
        try:
            return _create(Workspace(name=username, slug=slug, personal_of_id=user.pk), owner_id=user.pk)
        except IntegrityError:
            found = Workspace.objects.filter(personal_of=user.pk).first()
            if found is not None:
                return found
    raise SlugTaken


def create_workspace(user: AbstractBaseUser | AnonymousUser, *, name: str, slug: str | None = None) -> Workspace:
    """Without a slug, one is made from the name.

    Raises SlugTaken, TooManyWorkspaces (at MAX_OWNED_WORKSPACES, without the permission to add more), ValidationError.
    """
    with transaction.atomic():
        _leave_room_for_another(user.pk)
        for candidate in [slug] if slug is not None else _slugs(name):
            workspace = Workspace(name=name, slug=candidate)
            workspace.clean_fields()
            try:
                return _create(workspace, owner_id=user.pk)
            except IntegrityError:
                continue
    raise SlugTaken


def _leave_room_for_another(user_id: Any) -> None:
    """Locks the user's row, before any workspace. The personal workspace does not count."""
    if settings.MAX_OWNED_WORKSPACES is None:
        return
    user = get_user_model().objects.select_for_update().filter(pk=user_id).first()
    if user is None or is_permitted(user, Right.OWN_ANY_NUMBER):
        return
    owned = Membership.objects.filter(user=user_id, role=Role.OWNER).exclude(workspace__personal_of=user_id).count()
    if owned >= settings.MAX_OWNED_WORKSPACES:
        raise TooManyWorkspaces(maximum=settings.MAX_OWNED_WORKSPACES, owned=owned)


def rename_workspace(workspace: Workspace, *, name: str) -> None:
    right = _by(Right.RENAME_WORKSPACE, workspace)
    with transaction.atomic():
        before = Workspace.objects.values_list("name", flat=True).get(pk=workspace.pk)
        workspace.name = name
        workspace.save(update_fields=["name"])
        if before != name:
            record(
                Kind.WORKSPACE_CHANGED, subject=workspace, right=right, details={"changes": {"name": [before, name]}}
            )


def add_member(workspace: Workspace, *, user: AbstractBaseUser, role: Role) -> Membership:
    """Raises AlreadyMember, and TooManyWorkspaces for a new owner."""
    right = _by(Right.ADD_MEMBERS, workspace)
    try:
        with transaction.atomic():
            if role == Role.OWNER and not Membership.objects.filter(workspace=workspace, user=user.pk).exists():
                _leave_room_for_another(user.pk)
            membership = Membership.objects.create(workspace=workspace, user_id=user.pk, role=role)
            record(Kind.MEMBER_ADDED, subject=user, right=right, details={"role": role, **_named(workspace)})
            return membership
    except IntegrityError:
        raise AlreadyMember from None


def change_role(workspace: Workspace, *, user_id: int, role: Role) -> Membership:
    """Raises NotFound for a non-member, OwnerNeeded for the last owner, TooManyWorkspaces for a new one."""
    with transaction.atomic():
        others = Membership.objects.filter(workspace=workspace, user__pk=user_id).exclude(role=Role.OWNER)
        if role == Role.OWNER and others.exists():
            _leave_room_for_another(user_id)
        membership = _locked_membership(workspace, user_id)
        if role != Role.OWNER:
            _leave_an_owner(workspace, membership)
        before, membership.role = membership.role, role
        right = _by(Right.CHANGE_MEMBERS, workspace)
        membership.save(update_fields=["role"])
        if before != role:
            details = {"changes": {"role": [before, role]}, **_named(workspace)}
            record(Kind.ROLE_CHANGED, subject=membership.user, right=right, details=details)
    return membership


def remove_member(workspace: Workspace, *, user_id: int) -> None:
    """Raises NotFound for a non-member, OwnerNeeded for the last owner."""
    with transaction.atomic():
        membership = _locked_membership(workspace, user_id)
        _leave_an_owner(workspace, membership)
        actor = acting_user()
        is_oneself = actor is not None and actor.pk == user_id
        right = membership.role if is_oneself else _by(Right.REMOVE_MEMBERS, workspace)
        membership.delete()
        left = membership.user
        record(Kind.MEMBER_REMOVED, subject=left, right=right, details={"role": membership.role, **_named(workspace)})


def _create(workspace: Workspace, *, owner_id: Any) -> Workspace:
    with transaction.atomic():
        workspace.save(force_insert=True)
        Membership.objects.create(workspace=workspace, user_id=owner_id, role=Role.OWNER)
        record(
            Kind.WORKSPACE_MADE,
            subject=workspace,
            details={"owner": owner_id, "personal": workspace.personal_of_id is not None},
        )
    return workspace


def _by(right: Right, workspace: Workspace) -> str:
    """Empty where there is no user."""
    actor = acting_user()
    return basis_of(actor, right, workspace.pk) if actor else ""


def _named(workspace: Workspace) -> dict[str, str]:
    return {"workspace": workspace.slug, "workspace_id": str(workspace.pk)}


def _slugs(name: str) -> Iterator[str]:
    base = slugify(name).replace("_", "-")
    base = "-".join(part for part in base[:SLUG_LENGTH].split("-") if part)
    if not base or parse_uuid(base):
        base = "workspace"
    yield base
    for _attempt in range(SLUG_ATTEMPTS - 1):
        yield f"{base}-{secrets.token_hex(4)}"


def _locked_membership(workspace: Workspace, user_id: int) -> Membership:
    """Locks the workspace, so that two owners cannot remove each other."""
    Workspace.objects.select_for_update(no_key=True).get(pk=workspace.pk)
    # By ``user__pk``, which finds nothing for a number that no column holds; by ``user_id`` SQLite would fail.
    membership = Membership.objects.filter(workspace=workspace, user__pk=user_id).select_related("user").first()
    if membership is None:
        raise NotFound(_("This user is not a member of the workspace."))
    return membership


def _leave_an_owner(workspace: Workspace, membership: Membership) -> None:
    if membership.role != Role.OWNER:
        return
    if workspace.personal_of_id == membership.user_id:
        raise OwnerNeeded(_("A personal workspace keeps its own user as an owner."))
    others = Membership.objects.filter(workspace=workspace, role=Role.OWNER).exclude(pk=membership.pk)
    if not others.exists():
        raise OwnerNeeded(_("This is the workspace's last owner: make another member an owner first."))
