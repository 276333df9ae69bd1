from datetime import datetime, time, timedelta
from typing import Any

from django import forms
from django.conf import settings
from django.contrib.auth.forms import AuthenticationForm, PasswordChangeForm, SetPasswordForm
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.http import QueryDict
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from accounts.models import ApiToken

OFFERED_DAYS = frozenset({7, 30, 90, 365})


def lifetimes() -> list[tuple[int, str]]:
    """Offered days with labels, including the default."""
    return [
        (days, ngettext("in %(days)d day", "in %(days)d days", days) % {"days": days})
        for days in sorted(OFFERED_DAYS | {settings.TOKEN_DAYS})
    ]


class SignInForm(AuthenticationForm):
    error_messages = AuthenticationForm.error_messages | {
        "invalid_login": _("This name and password do not match. Mind upper and lower case.")
    }


def password_of(user: User, given: str) -> str:
    """Raises ValidationError. Views count the attempts."""
    if not user.check_password(given):
        raise ValidationError(_("This is not your password. Mind upper and lower case."), code="password_incorrect")
    return given


class EndTokensField(forms.BooleanField):
    def __init__(self) -> None:
        super().__init__(
            required=False,
            initial=True,
            label=_("End my API tokens too"),
            help_text=_("Leave this on if somebody else may know the password. Programs then need new tokens."),
        )


class ChangePasswordForm(PasswordChangeForm):
    end_tokens = EndTokensField()

    def save(self, commit: bool = True) -> Any:
        self.user.keeps_tokens = not self.cleaned_data["end_tokens"]  # type: ignore[attr-defined]
        return super().save(commit)


class NewPasswordForm(SetPasswordForm):  # type: ignore[type-arg]
    end_tokens = EndTokensField()

    def save(self, commit: bool = True) -> Any:
        self.user.keeps_tokens = not self.cleaned_data["end_tokens"]
        return super().save(commit)


class EmailForm(forms.Form):
    """Changing the address needs the password, since it opens the account."""

    email = forms.EmailField(
        label=_("Email address"),
        required=False,
        max_length=254,
        widget=forms.EmailInput(attrs={"autocomplete": "email"}),
        help_text=_("A link for a forgotten password goes here, and nothing else."),
    )
    current_password = forms.CharField(
        label=_("Current password"),
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
        help_text=_("To make sure that it is you."),
    )

    def __init__(self, user: User, data: QueryDict | None = None) -> None:
        self.user = user
        super().__init__(data, initial={"email": user.email})

    def clean_current_password(self) -> str:
        return password_of(self.user, self.cleaned_data["current_password"])

    def save(self) -> None:
        self.user.email = User.objects.normalize_email(self.cleaned_data["email"])
        self.user.save(update_fields=["email"])


class TokenForm(forms.Form):
    """A name, and a number of days or a last day in the user's time zone, which takes precedence.

    Gives ``expires_in``, at most ``longest_days``. Names are unique, so that a reload creates no second token.
    """

    name = forms.CharField(
        label=_("Name"),
        max_length=100,
        help_text=_("What it is for, such as “backup of the studio laptop”. You will know it by this name."),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    days = forms.TypedChoiceField(label=_("Expires"), coerce=int, choices=lifetimes)
    last_day = forms.DateField(
        label=_("Or after this day"),
        required=False,
        input_formats=["%Y-%m-%d"],
        help_text=_("If you give a day, it is used instead."),
    )
    scope = forms.ChoiceField(
        label=_("It may"),
        choices=ApiToken.Scope.choices,
        initial=ApiToken.Scope.FULL,
        help_text=_("A program that only fetches or lists files needs no more than to read."),
    )
    current_password = forms.CharField(
        label=_("Current password"),
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
        help_text=_("To make sure that it is you."),
    )
    expires_in: timedelta

    def __init__(self, user: User, data: QueryDict | None = None, *, longest_days: int) -> None:
        self.user = user
        super().__init__(data, initial={"days": settings.TOKEN_DAYS})
        self.first_day = timezone.localdate()
        self.latest_day = self.first_day + timedelta(days=longest_days - 1)
        self.fields["last_day"].widget = forms.DateInput(
            format="%Y-%m-%d",
            attrs={"type": "date", "min": self.first_day.isoformat(), "max": self.latest_day.isoformat()},
        )

    def clean_current_password(self) -> str:
        return password_of(self.user, self.cleaned_data["current_password"])

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        if ApiToken.objects.filter(user=self.user, name__iexact=name).exists():
            raise ValidationError(_("You have a token of this name already: choose another."), code="taken")
        return name

    def clean(self) -> dict[str, Any]:
        last_day = self.cleaned_data.get("last_day")
        if last_day is None:
            self.expires_in = timedelta(days=self.cleaned_data.get("days", 0))
        elif self.first_day <= last_day <= self.latest_day:
            day_after = datetime.combine(last_day + timedelta(days=1), time.min)
            self.expires_in = timezone.make_aware(day_after) - timezone.now()
        else:
            self.add_error(
                "last_day",
                gettext("Choose a day from today to %(latest)s.") % {"latest": date_format(self.latest_day)},
            )
        return self.cleaned_data
