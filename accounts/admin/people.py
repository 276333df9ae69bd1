"""Accounts, groups and tokens. Only superusers give or take rights."""

from datetime import datetime
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.utils import unquote
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.models import ContentType
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from accounts.models import ApiToken
from audiotricks.admin.base import ReadOnlyAdmin, VaultAdmin, confirmation, is_referred_to, link_to
from audiotricks.web.users import user_of

# Fields that make somebody more than an ordinary user.
RIGHTS = ("is_staff", "is_superuser", "groups", "user_permissions")
# Tables whose rows are deleted with their account; other rows must keep naming it.
GOES_ALONG = ("auth_user_groups", "auth_user_user_permissions", "api_tokens", "idempotency_keys")
TOKENS_SHOWN = 20


# Django's permissions in words; others have names of their own.
MAY = {"view": _("look at"), "add": _("add"), "change": _("change"), "delete": _("delete")}


class PermissionChoices:
    """Offers only permissions of tables in the admin."""

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.related_model is Permission:
            tables = ContentType.objects.get_for_models(*admin.site._registry).values()
            kwargs["queryset"] = Permission.objects.filter(content_type__in=tables).select_related("content_type")
        field = super().formfield_for_manytomany(db_field, request, **kwargs)  # type: ignore[misc]
        if db_field.related_model is Permission and field is not None:
            field.label_from_instance = permission_in_words
        return field


def permission_in_words(permission: Permission) -> str:
    table = permission.content_type.model_class()
    words = MAY.get(permission.codename.split("_")[0])
    if table is None or words is None:
        return str(permission.name)
    return f"{capfirst(str(table._meta.verbose_name_plural))}: {words}"


class AccountAdmin(PermissionChoices, DjangoUserAdmin, VaultAdmin):  # type: ignore[misc, type-arg]
    """The app that registers it adds what an account owns.

    Staff without superuser rights change ordinary users only and give no rights. Nobody can lock out themselves.
    """

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "email", "full_name", "is_active", "is_staff", "last_login", "date_joined")
    list_filter = ("is_active", "is_staff", "is_superuser", ("groups", admin.RelatedOnlyFieldListFilter))
    ordering = ("username",)
    actions = ("deactivate", "activate")
    readonly_fields: ClassVar[tuple[str, ...]] = ("last_login", "date_joined", "tokens")
    add_fieldsets = ((None, {"fields": ("username", "email", "usable_password", "password1", "password2")}),)
    fieldsets: ClassVar[tuple[tuple[Any, Any], ...]] = (
        (None, {"fields": ("username", "password", "email", ("first_name", "last_name"))}),
        (_("Belongings"), {"fields": ("tokens",)}),
        (_("Rights"), {"fields": ("is_active", "is_staff", "is_superuser", "groups", "user_permissions")}),
        (_("Times"), {"fields": (("last_login", "date_joined"),)}),
    )

    @display(description=_("Name"))
    def full_name(self, user: User) -> str | None:
        return user.get_full_name() or None

    @display(description=_("API tokens"))
    def tokens(self, user: User) -> SafeString | None:
        newest = ApiToken.objects.filter(user=user)[:TOKENS_SHOWN]
        return format_html_join("", "<p>{} ({})</p>", ((link_to(token), ending(token)) for token in newest)) or None

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form: Any = super().get_form(request, obj, change=change, **kwargs)
        if active := form.base_fields.get("is_active"):
            active.help_text = _(
                "Take this away instead of deleting somebody: their sign-in and tokens end at once, and their files "
                "and what they did keep their name."
            )
        return form

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> Any:
        fields = tuple(super().get_readonly_fields(request, obj))
        if not user_of(request).is_superuser:
            return (*fields, *RIGHTS)
        return (*fields, "is_active", "is_staff", "is_superuser") if obj == request.user else fields

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return bool(super().has_change_permission(request, obj)) and may_touch(user_of(request), obj)

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        allowed = super().has_delete_permission(request, obj) and may_touch(user_of(request), obj)
        return bool(allowed) and obj != request.user

    def get_actions(self, request: HttpRequest) -> Any:
        actions = super().get_actions(request)
        actions.pop("delete_selected", None)
        return actions

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        user = self.get_object(request, unquote(object_id))
        deletable = {"show_delete": user is not None and not is_in_use(user)}
        return super().change_view(request, object_id, form_url, {**deletable, **(extra_context or {})})

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        user = self.get_object(request, unquote(object_id))
        if user is not None and self.has_delete_permission(request, user) and is_in_use(user):
            text = gettext(
                "%(user)s cannot be deleted: workspaces, files or the history name this account. "
                "Take “Active” away instead."
            )
            messages.error(request, text % {"user": user})
            return redirect("admin:auth_user_change", user.pk)
        return super().delete_view(request, object_id, extra_context)

    @admin.action(description=_("Deactivate"), permissions=["change"])
    def deactivate(self, request: HttpRequest, users: QuerySet[User]) -> HttpResponseBase | None:
        chosen = self.changeable(request, users).filter(is_active=True)
        count = chosen.count()
        answer = confirmation(
            self,
            request,
            title=gettext("Deactivate accounts"),
            explanation=ngettext(
                "%(count)d person can no longer sign in, and their tokens are refused. Nothing of theirs is removed.",
                "%(count)d people can no longer sign in, and their tokens are refused. Nothing of theirs is removed.",
                count,
            )
            % {"count": count},
            button=gettext("Deactivate"),
        )
        if answer is None:
            self.set_active(request, chosen, active=False)
        return answer

    @admin.action(description=_("Activate"), permissions=["change"])
    def activate(self, request: HttpRequest, users: QuerySet[User]) -> None:
        self.set_active(request, self.changeable(request, users).filter(is_active=False), active=True)

    def changeable(self, request: HttpRequest, users: QuerySet[User]) -> QuerySet[User]:
        """Never the person's own account."""
        users = users.exclude(pk=user_of(request).pk)
        return users if user_of(request).is_superuser else users.filter(is_staff=False, is_superuser=False)

    def set_active(self, request: HttpRequest, users: QuerySet[User], *, active: bool) -> None:
        chosen = list(users)
        with transaction.atomic():
            for user in chosen:
                user.is_active = active
                user.save(update_fields=["is_active"])
        done = gettext("Activated.") if active else gettext("Deactivated.")
        if chosen:
            LogEntry.objects.log_actions(user_of(request).pk, chosen, CHANGE, change_message=done)
        message = (
            ngettext("%(count)d account is active now.", "%(count)d accounts are active now.", len(chosen))
            if active
            else ngettext("%(count)d account was deactivated.", "%(count)d accounts were deactivated.", len(chosen))
        )
        self.message_user(request, message % {"count": len(chosen)})


def may_touch(person: User, account: User | None) -> bool:
    return person.is_superuser or account is None or not (account.is_staff or account.is_superuser)


def is_in_use(user: User) -> bool:
    return is_referred_to(user, ignoring=GOES_ALONG)


def ending(token: ApiToken) -> str:
    if token.expiry is None:
        return gettext("never expires")
    words = gettext("expired on %(day)s") if token.expiry <= timezone.now() else gettext("expires on %(day)s")
    return words % {"day": date_format(timezone.localtime(token.expiry))}


class SuperusersGroupAdmin(PermissionChoices, DjangoGroupAdmin, VaultAdmin):  # type: ignore[misc]
    """Others could give themselves permissions."""

    fields = ("name", "permissions")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return user_of(request).is_superuser

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return user_of(request).is_superuser

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return user_of(request).is_superuser


admin.site.unregister(Group)
admin.site.register(Group, SuperusersGroupAdmin)


class ExpiryFilter(admin.SimpleListFilter):
    title = _("validity")
    parameter_name = "validity"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return [("valid", _("Valid")), ("expired", _("Expired")), ("endless", _("Never expires"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[ApiToken]) -> QuerySet[ApiToken]:
        now = timezone.now()
        conditions: dict[str | None, dict[str, Any]] = {
            "valid": {"expiry__gt": now},
            "expired": {"expiry__lte": now},
            "endless": {"expiry": None},
        }
        return queryset.filter(**conditions.get(self.value(), {}))


@admin.register(ApiToken)
class ApiTokenAdmin(ReadOnlyAdmin):
    """Shows no secret; deleting a token ends it."""

    list_display = ("name", "owner", "scope", "made_at", "expires_at")
    list_select_related = ("user",)
    list_filter = (ExpiryFilter,)
    search_fields = ("name", "=user__username", "=user__email")
    search_help_text = _("Part of the token's name, or the whole name or address of its user.")
    fields = ("name", "owner", "scope", "parent", "made_at", "expires_at")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(VaultAdmin.has_delete_permission(self, request, obj))

    @display(description=_("User"))
    def owner(self, token: ApiToken) -> SafeString | str | None:
        return link_to(token.user)

    # The library has no translations of these columns.
    @display(description=_("Made"), ordering="created")
    def made_at(self, token: ApiToken) -> datetime:
        created: datetime = token.created
        return created

    @display(description=_("Expires"), ordering="expiry")
    def expires_at(self, token: ApiToken) -> datetime | None:
        expiry: datetime | None = token.expiry
        return expiry
