from typing import Any

from django.core.checks import CheckMessage, Tags, Warning, register
from django.db import connections

from accounts.groups import staff_without_permissions


@register(Tags.database)
def check_staff(app_configs: Any, databases: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """Run by ``migrate``: names staff without permissions."""
    if (
        "default" not in (databases or ())
        or "auth_permission" not in connections["default"].introspection.table_names()
    ):
        return []
    names = list(staff_without_permissions().values_list("username", flat=True)[:20])
    if not names:
        return []
    return [
        Warning(
            f"Staff without any permission, who see nothing in the administration: {', '.join(names)}.",
            hint="`manage.py make_groups --add-staff operators` (or `auditors`) puts them into a group.",
            id="audiotricks.W006",
        )
    ]
