from django.utils.translation import gettext_lazy as _

from audiotricks.errors import Conflict, DomainError


class QuotaExceeded(DomainError):
    """Members: ``limit`` (its column), ``maximum``, ``used``, ``reserved``, ``asked`` and ``left`` (never negative)."""

    code = "quota_exceeded"
    status = 413
    title = _("The workspace's quota does not allow this")


class FileTooLarge(DomainError):
    """The same members as :class:`QuotaExceeded`; ``limit`` is ``max_file_size``."""

    code = "file_too_large"
    status = 413
    title = _("The file is larger than the workspace allows")


class ReservationGone(Conflict):
    code = "reservation_gone"
    title = _("The reserved space was given back meanwhile: begin the upload again")


class SlugTaken(Conflict):
    code = "slug_taken"
    title = _("Another workspace has this short name")


class AlreadyMember(Conflict):
    code = "already_member"
    title = _("This user is a member already: change the role instead")


class OwnerNeeded(Conflict):
    code = "owner_needed"
    title = _("A workspace keeps at least one owner, and a personal one keeps its own")


class TooManyWorkspaces(Conflict):
    """Members: ``maximum`` and ``owned``; the personal workspace does not count."""

    code = "too_many_workspaces"
    title = _("This user owns as many workspaces as a user may: leave or hand over one, or ask an administrator")
