"""Workspaces, and who may do what in them."""

import secrets
import uuid
from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.db import IntegrityError, transaction
from django.utils.text import format_lazy, slugify
from django.utils.translation import gettext_lazy as _

from audiotricks.errors import NotFound, PermissionDenied
from quotas.errors import AlreadyMember, OwnerNeeded, SlugTaken, TooManyWorkspaces
from quotas.models import Membership, Workspace, is_staff, parse_uuid

Role = Membership.Role
SLUG_ATTEMPTS = 10
# Leaves room for the eight digits that make a taken one unique.
SLUG_LENGTH = 50


def workspace_for(user: AbstractBaseUser | AnonymousUser, ref: str | None) -> Workspace:
    """The workspace that an id or a slug names, the user's personal one for None.

    Raises NotFound when there is none, or when it is another's, so that nobody can learn which.
    """
    if ref is None:
        return personal_workspace(user)
    found = Workspace.objects.visible_to(user).called(ref).first()
    if found is None:
        raise NotFound(_("There is no such workspace, or it is not yours."))
    return found


def find_workspace(
    user: AbstractBaseUser | AnonymousUser, pk: uuid.UUID, *, minimum: Membership.Role = Role.VIEWER
) -> Workspace:
    """The workspace with its ``quota`` and the user's ``role`` in it.

    Raises NotFound for those who are not in it, PermissionDenied for those who may do less than ``minimum``.
    """
    visible = Workspace.objects.visible_to(user).with_role_of(user).select_related("quota", "personal_of")
    workspace = visible.filter(pk=pk).first()
    if workspace is None:
        raise NotFound(_("There is no such workspace, or it is not yours."))
    _need(Role(workspace.role), minimum)
    return workspace


def role_in(user: AbstractBaseUser | AnonymousUser, workspace: Workspace) -> Membership.Role | None:
    """The role in which the user acts in the workspace; None for those who are not in it. Staff act as owners."""
    if is_staff(user):
        return Role.OWNER
    role = Membership.objects.filter(user=user.pk, workspace=workspace).values_list("role", flat=True).first()
    return Role(role) if role else None


def require_role(user: AbstractBaseUser | AnonymousUser, workspace: Workspace, minimum: Membership.Role) -> None:
    """Raises NotFound for those who are not in the workspace, PermissionDenied for those who may do less."""
    role = role_in(user, workspace)
    if role is None:
        raise NotFound(_("There is no such workspace, or it is not yours."))
    _need(role, minimum)


def _need(role: Membership.Role, minimum: Membership.Role) -> None:
    if role.rank < minimum.rank:
        words = _("This needs the role {needed}; yours is {yours}.")
        raise PermissionDenied(format_lazy(words, needed=minimum.label, yours=role.label))


def personal_workspace(user: AbstractBaseUser | AnonymousUser) -> Workspace:
    """The user's own workspace, made at first need; the user is its owner. Calls at once get the same one."""
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
    """A shared workspace that the user owns. Without a slug it gets one out of its name.

    Raises SlugTaken when another has the slug, TooManyWorkspaces when the user owns MAX_OWNED_WORKSPACES (staff may
    own more), and Django's ValidationError for a name or slug that cannot be used.
    """
    with transaction.atomic():
        _leave_room_for_another(user)
        for candidate in [slug] if slug is not None else _slugs(name):
            workspace = Workspace(name=name, slug=candidate)
            workspace.clean_fields()
            try:
                return _create(workspace, owner_id=user.pk)
            except IntegrityError:
                continue
    raise SlugTaken


def _leave_room_for_another(user: AbstractBaseUser | AnonymousUser) -> None:
    """Each workspace has a quota of its own, so their number must have an end. Under the lock of the user's row."""
    if settings.MAX_OWNED_WORKSPACES is None or is_staff(user):
        return
    user_id: Any = user.pk
    get_user_model().objects.select_for_update().get(pk=user_id)
    owned = Membership.objects.filter(user=user_id, role=Role.OWNER, workspace__personal_of=None).count()
    if owned >= settings.MAX_OWNED_WORKSPACES:
        raise TooManyWorkspaces(maximum=settings.MAX_OWNED_WORKSPACES, owned=owned)


def rename_workspace(workspace: Workspace, *, name: str) -> None:
    workspace.name = name
    workspace.save(update_fields=["name"])


def add_member(workspace: Workspace, *, user: AbstractBaseUser, role: Membership.Role) -> Membership:
    """Raises AlreadyMember; the role is then left as it is."""
    try:
        with transaction.atomic():
            return Membership.objects.create(workspace=workspace, user_id=user.pk, role=role)
    except IntegrityError:
        raise AlreadyMember from None


def change_role(workspace: Workspace, *, user_id: int, role: Membership.Role) -> Membership:
    """Raises NotFound for those who are no members, OwnerNeeded when nobody would own the workspace."""
    with transaction.atomic():
        membership = _locked_membership(workspace, user_id)
        if role != Role.OWNER:
            _leave_an_owner(workspace, membership)
        membership.role = role
        membership.save(update_fields=["role"])
    return membership


def remove_member(workspace: Workspace, *, user_id: int) -> None:
    """Raises NotFound for those who are no members, OwnerNeeded when nobody would own the workspace."""
    with transaction.atomic():
        membership = _locked_membership(workspace, user_id)
        _leave_an_owner(workspace, membership)
        membership.delete()


def _create(workspace: Workspace, *, owner_id: Any) -> Workspace:
    with transaction.atomic():
        workspace.save(force_insert=True)
        Membership.objects.create(workspace=workspace, user_id=owner_id, role=Role.OWNER)
    return workspace


def _slugs(name: str) -> Iterator[str]:
    """A slug out of the name, then the same with random digits behind it."""
    base = slugify(name).replace("_", "-")
    base = "-".join(part for part in base[:SLUG_LENGTH].split("-") if part)
    if not base or parse_uuid(base):
        base = "workspace"
    yield base
    for _attempt in range(SLUG_ATTEMPTS - 1):
        yield f"{base}-{secrets.token_hex(4)}"


def _locked_membership(workspace: Workspace, user_id: int) -> Membership:
    """The workspace's row is locked, so that two owners cannot remove each other at once."""
    Workspace.objects.select_for_update(no_key=True).get(pk=workspace.pk)
    membership = Membership.objects.filter(workspace=workspace, user_id=user_id).select_related("user").first()
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
