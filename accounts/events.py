"""Writes all changes of accounts, groups and tokens to the audit log."""

from collections.abc import Callable
from typing import Any

from django.contrib.auth.models import Group, Permission, User
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_save
from django.dispatch import receiver
from django.utils import timezone

from accounts.access import end_access, end_tokens
from accounts.audit import Kind, record, record_refusal
from accounts.models import ApiToken

#: Fields that an event shows old and new; of a password, only that it changed.
WATCHED = ("username", "email", "is_active", "is_staff", "is_superuser")
READ = (*WATCHED, "password")


@receiver(user_logged_in)
def note_sign_in(user: User, request: Any = None, **kwargs: Any) -> None:
    if request is not None:
        request.signed_in_as = user.get_username()
    record(Kind.SIGNED_IN, subject=user, actor=user)


@receiver(user_logged_out)
def note_sign_out(user: User | None, **kwargs: Any) -> None:
    if user is not None:
        record(Kind.SIGNED_OUT, subject=user, actor=user)


@receiver(user_login_failed)
def note_failure(credentials: dict[str, Any], **kwargs: Any) -> None:
    record_refusal(Kind.SIGN_IN_FAILED, name=str(credentials.get("username", "")))


@receiver(pre_save, sender=User)
def remember_before(instance: User, update_fields: Any = None, raw: bool = False, **kwargs: Any) -> None:
    instance._before = None  # type: ignore[attr-defined]
    if not raw and not instance._state.adding and (update_fields is None or set(update_fields) & set(READ)):
        instance._before = User.objects.filter(pk=instance.pk).values(*READ).first()  # type: ignore[attr-defined]


@receiver(post_save, sender=User)
def note_account(instance: User, created: bool, update_fields: Any = None, raw: bool = False, **kwargs: Any) -> None:
    if raw:
        return
    if created:
        given = [name for name in ("is_staff", "is_superuser") if getattr(instance, name)]
        record(Kind.USER_MADE, subject=instance, details={"gives": given} if given else {})
        return
    before = getattr(instance, "_before", None) or {}
    old_password = before.pop("password", instance.password)
    changes = {name: [old, getattr(instance, name)] for name, old in before.items() if old != getattr(instance, name)}
    if changes:
        record(Kind.USER_CHANGED, subject=instance, details={"changes": changes})
    if changes.get("is_active") == [True, False]:
        end_access([instance])
    if old_password != instance.password and not is_upgrade_of_hash(instance, update_fields):
        # Sessions and signed links are bound to the password and end with it.
        keeps_tokens = bool(getattr(instance, "keeps_tokens", False))
        record(Kind.PASSWORD_CHANGED, subject=instance, details={"tokens": "kept" if keeps_tokens else "ended"})
        if not keeps_tokens:
            end_tokens(instance)


def is_upgrade_of_hash(user: User, update_fields: Any) -> bool:
    """Whether Django saved a newer hash of the same password."""
    is_new = user._password is not None  # type: ignore[attr-defined]
    return not is_new and user.has_usable_password() and set(update_fields or ()) == {"password"}


@receiver(post_delete, sender=User)
def note_removed_account(instance: User, **kwargs: Any) -> None:
    record(Kind.USER_REMOVED, subject=instance)


@receiver(post_save, sender=Group)
def note_group(instance: Group, created: bool, **kwargs: Any) -> None:
    if created:
        record(Kind.GROUP_MADE, subject=instance)


@receiver(post_delete, sender=Group)
def note_removed_group(instance: Group, **kwargs: Any) -> None:
    record(Kind.GROUP_REMOVED, subject=instance)


@receiver(post_delete, sender=ApiToken)
def note_revoked_token(instance: ApiToken, **kwargs: Any) -> None:
    """Not for expired tokens, which are only removed."""
    if instance.expiry is None or instance.expiry > timezone.now():
        record(Kind.TOKEN_REVOKED, subject=instance, details={"user": instance.user_id})


def note_rights(instance: Any, action: str, pk_set: set[int] | None, model: Any, reverse: bool, **kwargs: Any) -> None:
    """``instance`` is the group where its people or permissions change."""
    verbs = {"post_add": "given", "post_remove": "taken", "pre_clear": "taken"}
    if action not in verbs or (action != "pre_clear" and not pk_set):
        return
    others = NAMES[model](pk_set) if pk_set is not None else ["all"]
    record(Kind.RIGHTS_CHANGED, subject=instance, details={verbs[action]: sorted(others)[:100]})


NAMES: dict[Any, Callable[[set[int]], list[str]]] = {
    Group: lambda keys: list(Group.objects.filter(pk__in=keys).values_list("name", flat=True)),
    User: lambda keys: list(User.objects.filter(pk__in=keys).values_list("username", flat=True)),
    Permission: lambda keys: [
        f"{app}.{codename}"
        for app, codename in Permission.objects.filter(pk__in=keys)
        .order_by()
        .values_list("content_type__app_label", "codename")
    ],
}
for through in (User.groups.through, User.user_permissions.through, Group.permissions.through):
    m2m_changed.connect(note_rights, sender=through, dispatch_uid=f"audit {through._meta.label}")
