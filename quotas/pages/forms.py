from collections.abc import Mapping
from typing import Any

from django import forms
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.base_user import AbstractBaseUser
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from quotas.models import StorageQuota, Workspace
from quotas.rights import Role

ROLES = [
    (Role.VIEWER, _("Viewer: sees and plays the files")),
    (Role.EDITOR, _("Editor: also uploads, renames and deletes files")),
    (Role.OWNER, _("Owner: also manages the members and the workspace itself")),
]


def _column(name: str, label: Any, help_text: Any) -> forms.Field:
    fields = forms.fields_for_model(StorageQuota, [name], labels={name: label}, help_texts={name: help_text})
    field: forms.Field = fields[name]
    field.validators = [*field.validators, *getattr(StorageQuota, name).field.validators]
    return field


class NewWorkspaceForm(forms.Form):
    name = forms.CharField(label=_("Name"), max_length=200)
    # The database finds a taken slug.
    slug = forms.CharField(
        label=_("Short name"),
        max_length=60,
        required=False,
        validators=Workspace._meta.get_field("slug").validators,
        help_text=_(
            "Stands in addresses: lower-case letters, digits and hyphens. Left empty, it is made from the name."
        ),
    )

    def values(self) -> dict[str, Any]:
        return {"name": self.cleaned_data["name"], "slug": self.cleaned_data["slug"] or None}


class RoleForm(forms.Form):
    role = forms.ChoiceField(label=_("Role"), choices=ROLES, widget=forms.RadioSelect)

    def clean_role(self) -> Role:
        return Role(self.cleaned_data["role"])


class NewMemberForm(RoleForm):
    username = forms.CharField(
        label=_("Username"),
        max_length=150,
        help_text=_("As they sign in with it."),
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}),
    )
    field_order = ("username", "role")

    def clean_username(self) -> AbstractBaseUser:
        user = get_user_model().objects.filter(username=self.cleaned_data["username"], is_active=True).first()
        if user is None:
            raise forms.ValidationError(
                _("There is no user of this name. Check the spelling, or ask an administrator to make the account.")
            )
        return user


class SettingsForm(forms.Form):
    """Name and retention. A change that would remove files must be ``confirmed`` with the shown warning."""

    name = forms.CharField(label=_("Name"), max_length=200)
    retention_days = _column("retention_days", _("Days until files expire"), _("Leave it empty for never."))
    auto_cleanup = _column(
        "auto_cleanup",
        _("Move expired files to the trash without being asked"),
        _("Otherwise expired files stay where they are."),
    )
    archive_threshold_days = _column(
        "archive_threshold_days",
        _("Days until files may be archived"),
        _("Leave it empty for never. An archived file still counts, and is brought back before it can be played."),
    )
    keep_source_audio = _column(
        "keep_source_audio", _("Keep the audio when what was made from it is finished"), help_text=""
    )
    confirmed = forms.CharField(required=False, widget=forms.HiddenInput)

    COLUMNS = ("retention_days", "auto_cleanup", "archive_threshold_days", "keep_source_audio")

    def __init__(self, data: Mapping[str, Any] | None, *, name: str, quota: StorageQuota) -> None:
        super().__init__(data, initial={"name": name} | {column: getattr(quota, column) for column in self.COLUMNS})
        self.warnings: list[str] = []
        self.policy = ""

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = self.cleaned_data
        if self.errors:
            return cleaned
        days, cleans_up = cleaned["retention_days"], cleaned["auto_cleanup"]
        if cleans_up and days is None and {"retention_days", "auto_cleanup"} & set(self.changed_data):
            words = _("Say after how many days files expire, or switch the automatic clean-up off.")
            raise forms.ValidationError({"retention_days": words})
        self.warnings = self._warnings(cleaned)
        self.policy = " ".join(str(cleaned[name]) for name in self.COLUMNS)
        return cleaned

    @property
    def needs_a_yes(self) -> bool:
        return bool(self.warnings) and self.cleaned_data["confirmed"] != self.policy

    def changes(self) -> dict[str, Any]:
        return {name: self.cleaned_data[name] for name in self.COLUMNS if name in self.changed_data}

    def _warnings(self, new: dict[str, Any]) -> list[str]:
        """The effects on files; empty without any."""
        old, warnings = self.initial, []
        was = old["retention_days"] if old["auto_cleanup"] else None
        if new["auto_cleanup"] and _is_sooner(new["retention_days"], was):
            warnings.append(_expiry_in_words(new["retention_days"]))
        if _is_sooner(new["archive_threshold_days"], old["archive_threshold_days"]):
            warnings.append(
                ngettext(
                    "Files that are older than %(days)d day may be archived, those that are already so old first. "
                    "They have to be brought back before they can be played.",
                    "Files that are older than %(days)d days may be archived, those that are already so old first. "
                    "They have to be brought back before they can be played.",
                    new["archive_threshold_days"],
                )
                % {"days": new["archive_threshold_days"]}
            )
        if old["keep_source_audio"] and not new["keep_source_audio"]:
            warnings.append(str(_("The audio of a file goes when what was made from it is finished.")))
        return warnings


def _is_sooner(new: int | None, old: int | None) -> bool:
    """None is never."""
    return new is not None and (old is None or new < old)


def _expiry_in_words(days: int) -> str:
    moves = ngettext(
        "Files that are older than %(days)d day move to the trash by themselves, beginning with those that are "
        "already so old.",
        "Files that are older than %(days)d days move to the trash by themselves, beginning with those that are "
        "already so old.",
        days,
    ) % {"days": days}
    goes = ngettext(
        "From there each goes for good %(days)d day later.",
        "From there each goes for good %(days)d days later.",
        settings.TRASH_DAYS,
    ) % {"days": settings.TRASH_DAYS}
    return f"{moves} {goes}"
