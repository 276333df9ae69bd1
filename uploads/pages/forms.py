from typing import Any

from django import forms
from django.http import QueryDict
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from media.formats import AUDIO_FORMATS, UnsupportedFormat
from quotas.models import Workspace
from uploads.intake.filenames import check_new_name, clean_filename
from uploads.models import AudioUpload, Status
from uploads.models.states import UNLISTED

#: Orders of a list by their value in the query.
ORDERINGS = {
    "newest": ("-uploaded_at", "-id"),
    "oldest": ("uploaded_at", "id"),
    "name": ("original_filename", "id"),
    "name-down": ("-original_filename", "-id"),
    "largest": ("-file_size", "-id"),
    "smallest": ("file_size", "id"),
}
NEWEST = "newest"
BY_TIME = (NEWEST, "oldest")


def offered(workspaces: list[Workspace]) -> list[tuple[str, str]]:
    return [(workspace.slug, workspace.label) for workspace in workspaces]


class UploadForm(forms.Form):
    """For display only."""

    workspace = forms.ChoiceField(label=gettext_lazy("Workspace"))
    thumbnail = forms.FileField(
        label=gettext_lazy("Picture"),
        required=False,
        help_text=gettext_lazy("JPEG, PNG or WebP. Left empty, the one in the file's tags is taken."),
        widget=forms.ClearableFileInput(attrs={"accept": "image/jpeg,image/png,image/webp"}),
    )
    file = forms.FileField(
        label=gettext_lazy("Audio file"),
        widget=forms.ClearableFileInput(attrs={"accept": ",".join(f".{name}" for name in AUDIO_FORMATS)}),
    )

    def __init__(self, *args: Any, workspaces: list[Workspace], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["workspace"].choices = offered(workspaces)  # type: ignore[attr-defined]


class TrashFilterForm(forms.Form):
    """A value that is not offered filters nothing."""

    q = forms.CharField(
        label=gettext_lazy("Name contains"), required=False, max_length=500, widget=forms.TextInput({"type": "search"})
    )
    workspace = forms.ChoiceField(label=gettext_lazy("Workspace"), required=False)
    file_type = forms.ChoiceField(
        label=gettext_lazy("Format"),
        required=False,
        choices=[("", gettext_lazy("All")), *((extension, extension.upper()) for extension in AUDIO_FORMATS)],
    )

    def __init__(self, *args: Any, workspaces: list[Workspace], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices = [("", _("All")), *offered(workspaces)]
        self.fields["workspace"].choices = choices  # type: ignore[attr-defined]
        for field in self.fields.values():
            # Filters have no choice between filled and empty.
            field.widget.is_required = False

    def chosen(self) -> dict[str, str]:
        self.is_valid()
        return {name: value for name, value in self.cleaned_data.items() if value}


class FilterForm(TrashFilterForm):
    """``everybodys``: over all workspaces, without orders that need an index within one."""

    status = forms.ChoiceField(
        label=gettext_lazy("State"),
        required=False,
        choices=[("", gettext_lazy("All")), *((state, state.label) for state in Status if state not in UNLISTED)],
    )
    sort = forms.ChoiceField(
        label=gettext_lazy("Order"),
        required=False,
        choices=[
            (NEWEST, gettext_lazy("Newest first")),
            ("oldest", gettext_lazy("Oldest first")),
            ("name", gettext_lazy("Name, A to Z")),
            ("name-down", gettext_lazy("Name, Z to A")),
            ("largest", gettext_lazy("Largest first")),
            ("smallest", gettext_lazy("Smallest first")),
        ],
    )

    def __init__(self, *args: Any, everybodys: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if everybodys:
            sort: Any = self.fields["sort"]
            sort.choices = [choice for choice in sort.choices if choice[0] in BY_TIME]


class RenameForm(forms.Form):
    name = forms.CharField(
        label=gettext_lazy("Name"),
        max_length=AudioUpload._meta.get_field("original_filename").max_length,
        widget=forms.TextInput({"autocomplete": "off", "spellcheck": "false"}),
    )

    def __init__(self, data: QueryDict | None = None, *, upload: AudioUpload) -> None:
        super().__init__(data, initial={"name": upload.original_filename})
        self.upload = upload

    def clean_name(self) -> str:
        return new_name(self.cleaned_data["name"], upload=self.upload)


def new_name(given: str, *, upload: AudioUpload) -> str:
    """Adds a missing extension. Raises ValidationError."""
    try:
        return check_new_name(given, extension=upload.file_type)
    except UnsupportedFormat:
        return check_new_name(f"{clean_filename(given)}.{upload.file_type}", extension=upload.file_type)
