"""The table of rights for all entry points.

A right comes from a role in the workspace, or from a permission of Django's, which holds in every workspace;
``is_staff`` gives none.
"""

import uuid
from enum import Enum, unique
from typing import Any

from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.db import models
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from audiotricks.errors import NotFound, PermissionDenied

Person = AbstractBaseUser | AnonymousUser

#: The name of a superuser's right without a role.
SUPERUSER = "superuser"


class Role(models.TextChoices):
    OWNER = "owner", _("Owner")
    EDITOR = "editor", _("Editor")
    VIEWER = "viewer", _("Viewer")

    @property
    def rank(self) -> int:
        """A higher role includes the lower ones."""
        return {self.VIEWER: 1, self.EDITOR: 2, self.OWNER: 3}[self]

    @property
    def and_higher(self) -> "list[Role]":
        return [role for role in Role if role.rank >= self.rank]


@unique
class Right(Enum):
    """The lowest role that suffices (None: none does), and the permission."""

    VIEW_FILES = Role.VIEWER, "uploads.view_audioupload"
    ADD_FILES = Role.EDITOR, "uploads.add_audioupload"
    CHANGE_FILES = Role.EDITOR, "uploads.change_audioupload"
    DELETE_FILES = Role.EDITOR, "uploads.delete_audioupload"
    PURGE_FILES = Role.OWNER, "uploads.delete_audioupload"
    #: Legal holds, and verifying stored objects.
    SUPERVISE_FILES = None, "uploads.change_audioupload"
    #: The use of the storages over all workspaces, and the place of each object.
    VIEW_STORAGE = None, "uploads.view_audioupload"

    VIEW_WORKSPACE = Role.VIEWER, "quotas.view_workspace"
    RENAME_WORKSPACE = Role.OWNER, "quotas.change_workspace"
    VIEW_MEMBERS = Role.VIEWER, "quotas.view_membership"
    ADD_MEMBERS = Role.OWNER, "quotas.add_membership"
    CHANGE_MEMBERS = Role.OWNER, "quotas.change_membership"
    REMOVE_MEMBERS = Role.OWNER, "quotas.delete_membership"
    VIEW_QUOTA = Role.VIEWER, "quotas.view_storagequota"
    SET_RETENTION = Role.OWNER, "quotas.change_storagequota"
    SET_LIMITS = None, "quotas.change_storagequota"
    #: More than MAX_OWNED_WORKSPACES.
    OWN_ANY_NUMBER = None, "quotas.add_workspace"

    def __init__(self, least_role: Role | None, permission: str) -> None:
        self.least_role = least_role
        self.permission = permission

    @property
    def roles(self) -> list[Role]:
        return self.least_role.and_higher if self.least_role else []


def is_permitted(user: Person, right: Right) -> bool:
    """By a permission, in every workspace."""
    return bool(getattr(user, "is_active", False)) and user.has_perm(right.permission)  # type: ignore[union-attr]


def role_of(user: Person, workspace_id: uuid.UUID) -> Role | None:
    if not user.is_authenticated or not user.is_active:
        return None
    memberships: Any = user.memberships  # type: ignore[attr-defined]
    role = memberships.filter(workspace=workspace_id).values_list("role", flat=True).first()
    return Role(role) if role else None


def basis_of(user: Person, right: Right, workspace_id: uuid.UUID) -> str:
    """A role, ``superuser`` or a permission's name; empty without the right."""
    return basis_by(user, right, role_of(user, workspace_id) if right.least_role else None)


def basis_by(user: Person, right: Right, role: str | None) -> str:
    """:func:`basis_of` for a known role."""
    if role in right.roles:
        return str(role)
    if not is_permitted(user, right):
        return ""
    return SUPERUSER if getattr(user, "is_superuser", False) else right.permission


def may(user: Person, right: Right, workspace_id: uuid.UUID) -> bool:
    return bool(basis_of(user, right, workspace_id))


def require_right(user: Person, right: Right, workspace_id: uuid.UUID) -> str:
    """:func:`basis_of`, or the errors of :func:`require_by`."""
    return require_by(user, right, role_of(user, workspace_id))


def require_by(user: Person, right: Right, role: Role | None) -> str:
    """Raises PermissionDenied for people who see the workspace or its files, NotFound for others."""
    basis = basis_by(user, right, role)
    if basis:
        return basis
    if role is None and not (is_permitted(user, Right.VIEW_WORKSPACE) or is_permitted(user, Right.VIEW_FILES)):
        raise NotFound(_("There is no such workspace, or it is not yours."))
    raise _denied(right, role)


def require_permission(user: Person, right: Right) -> str:
    """Raises PermissionDenied. For rights that no role gives."""
    basis = basis_by(user, right, None)
    if not basis:
        raise _denied(right, None)
    return basis


def _denied(right: Right, role: Role | None) -> PermissionDenied:
    if right.least_role is None:
        return PermissionDenied(format_lazy(_("This needs the permission {permission}."), permission=right.permission))
    if role is None:
        words = _("This needs the role {needed} in the workspace, or the permission {permission}.")
        return PermissionDenied(format_lazy(words, needed=right.least_role.label, permission=right.permission))
    words = _("This needs the role {needed}; yours is {yours}.")
    return PermissionDenied(format_lazy(words, needed=right.least_role.label, yours=role.label))
