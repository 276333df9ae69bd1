from django.contrib import admin
from django.contrib.auth.models import User
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display

from accounts.admin.people import AccountAdmin
from audiotricks.admin.base import link_to
from quotas.models import Membership, Workspace

WORKSPACES_SHOWN = 50


class UserAdmin(AccountAdmin):
    readonly_fields = (*AccountAdmin.readonly_fields, "personal", "workspaces")
    fieldsets = tuple(
        (
            title,
            {"fields": ("personal", "workspaces", *options["fields"])} if "tokens" in options["fields"] else options,
        )
        for title, options in AccountAdmin.fieldsets
    )

    @display(description=_("Personal workspace"))
    def personal(self, user: User) -> SafeString | str | None:
        return link_to(Workspace.objects.filter(personal_of=user).first())

    @display(description=_("Workspaces"))
    def workspaces(self, user: User) -> SafeString | None:
        memberships = Membership.objects.filter(user=user).select_related("workspace").order_by("-pk")
        rows = (
            (link_to(membership.workspace), Membership.Role(membership.role).label)
            for membership in memberships[:WORKSPACES_SHOWN]
        )
        return format_html_join("", "<p>{} ({})</p>", rows) or None


admin.site.unregister(User)
admin.site.register(User, UserAdmin)
