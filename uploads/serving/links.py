"""Links that play one file without a sign-in.

A link is a signature over file, maker and time; nothing is stored. It works for GET only, for LINK_SECONDS, and until
the file is in the trash or its maker loses sight of it or changes the password.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.contrib.auth.models import User
from django.core import signing
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from django.utils.translation import gettext_lazy as _

from accounts.audit import Kind, record
from audiotricks.errors import DomainError
from quotas.rights import Right, basis_of
from uploads.models import AudioUpload

SALT = "uploads.serving.links GET"


class LinkAltered(DomainError):
    code = "link_altered"
    status = 403
    title = _("This link is not complete, or was changed on its way: ask for it again")


class LinkEnded(DomainError):
    """Expired, or for a file that may not be heard."""

    code = "link_ended"
    status = 410
    title = _("This link has ended: ask for a new one")


@dataclass(frozen=True, slots=True)
class Link:
    upload: AudioUpload
    ends_at: datetime


def sign_link(upload: AudioUpload, *, maker: User) -> str:
    """Valid for LINK_SECONDS."""
    ends_at = timezone.now() + timedelta(seconds=settings.LINK_SECONDS)
    right = basis_of(maker, Right.VIEW_FILES, upload.workspace_id)
    record(Kind.LINK_MADE, subject=upload, actor=maker, right=right, details={"ends_at": ends_at})
    return signing.dumps([str(upload.pk), maker.pk, int(ends_at.timestamp()), mark_of(maker)], salt=SALT)


def mark_of(maker: User) -> str:
    """Changes with the maker's password."""
    return maker.get_session_auth_hash()[:16]


def open_link(signature: str) -> Link:
    """Raises LinkAltered, LinkEnded."""
    try:
        upload_id, maker_id, ends, mark = signing.loads(signature, salt=SALT)
    except signing.BadSignature:
        raise LinkAltered from None
    except ValueError:
        # From a version that did not bind links to the password.
        raise LinkEnded from None
    ends_at = datetime.fromtimestamp(ends, UTC)
    maker = User.objects.filter(pk=maker_id, is_active=True).first()
    if maker is None or ends_at <= timezone.now() or not constant_time_compare(mark, mark_of(maker)):
        raise LinkEnded
    upload = AudioUpload.objects.visible_to(maker).listed().filter(pk=upload_id).first()
    if upload is None:
        raise LinkEnded
    return Link(upload, ends_at)
