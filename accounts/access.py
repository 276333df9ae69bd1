"""Ends tokens and sessions. Links (``uploads.serving.links``) end with the password and the account."""

from collections.abc import Iterable

from django.contrib.auth import SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import transaction
from django.utils import timezone

from accounts.audit import Kind, record
from accounts.models import ApiToken

SESSIONS_AT_ONCE = 1000


def end_access(users: Iterable[User]) -> None:
    """Reads all unexpired sessions, whose content names the user."""
    users = list(users)
    ids = {str(user.pk) for user in users}
    ended = [
        session.pk
        for session in Session.objects.filter(expire_date__gt=timezone.now()).iterator(SESSIONS_AT_ONCE)
        if session.get_decoded().get(SESSION_KEY) in ids
    ]
    Session.objects.filter(pk__in=ended).delete()
    for user in users:
        end_tokens(user)


def end_tokens(user: User) -> None:
    with transaction.atomic():
        lock_tokens_of(user)
        revoked, _ = ApiToken.objects.filter(user=user).delete()
        if revoked:
            record(Kind.ACCESS_ENDED, subject=user, details={"tokens": revoked})


def lock_tokens_of(user: User) -> None:
    """Until the commit, no other request creates a token with one of this user, or ends one."""
    User.objects.select_for_update(no_key=True).filter(pk=user.pk).first()
