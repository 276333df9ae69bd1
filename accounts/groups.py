"""Ready-made groups of permissions for staff."""

from collections.abc import Mapping

from django.contrib.auth.models import Group, Permission, User
from django.db.models import Q, QuerySet

OPERATORS, AUDITORS = "Operators", "Auditors"

#: Tables of which both groups may view every row, by app; ``*`` is every table of the app.
VIEWED: Mapping[str, tuple[str, ...]] = {
    "audiotricks": ("*",),
    "auth": ("group", "user"),
    "django_celery_beat": ("crontabschedule", "intervalschedule", "periodictask"),
    "quotas": ("*",),
    "uploads": ("*",),
}
#: Additional permissions of operators. Only superusers give permissions.
OPERATED = (
    *("uploads.add_audioupload", "uploads.change_audioupload", "uploads.delete_audioupload"),
    *("uploads.change_storagemark", "uploads.change_heldremoval"),
    *("quotas.add_workspace", "quotas.change_workspace", "quotas.change_storagequota"),
    *("quotas.add_membership", "quotas.change_membership", "quotas.delete_membership"),
    *("auth.add_user", "auth.change_user", "audiotricks.delete_apitoken"),
    *("django_celery_beat.change_periodictask", "django_celery_beat.add_intervalschedule"),
    "django_celery_beat.add_crontabschedule",
)


def make_groups() -> dict[Group, int]:
    """Create missing groups and add missing permissions; return how many each got. Run it after each migration."""
    return {group: _fill(group, permissions) for group, permissions in _wanted()}


def _wanted() -> list[tuple[Group, QuerySet[Permission]]]:
    wanted = {AUDITORS: viewing(), OPERATORS: operating()}
    return [(Group.objects.get_or_create(name=name)[0], permissions) for name, permissions in wanted.items()]


def _fill(group: Group, permissions: QuerySet[Permission]) -> int:
    missing = set(permissions) - set(group.permissions.all())
    group.permissions.add(*missing)
    return len(missing)


def viewing() -> QuerySet[Permission]:
    tables = Q()
    for app, names in VIEWED.items():
        table = Q(content_type__app_label=app)
        tables |= table if "*" in names else table & Q(content_type__model__in=names)
    return Permission.objects.filter(tables, codename__startswith="view_")


def operating() -> QuerySet[Permission]:
    named = Q()
    for permission in OPERATED:
        app, codename = permission.split(".")
        named |= Q(content_type__app_label=app, codename=codename)
    return Permission.objects.filter(named) | viewing()


def staff_without_permissions() -> QuerySet[User]:
    """Active staff who see nothing in the admin."""
    staff = User.objects.filter(is_active=True, is_staff=True, is_superuser=False)
    return staff.filter(user_permissions=None).exclude(groups__permissions__isnull=False).order_by("username")
