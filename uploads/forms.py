"""The upload form's fields, to render it; its body is read as it arrives and never by Django."""

from typing import Any

from django import forms

from quotas.models import Workspace
from uploads.formats import AUDIO_FORMATS


class UploadForm(forms.Form):
    workspace = forms.ChoiceField(label="Workspace")
    thumbnail = forms.FileField(
        label="Picture",
        required=False,
        help_text="JPEG, PNG or WebP. Left empty, the one in the file's tags is taken.",
        widget=forms.ClearableFileInput(attrs={"accept": "image/jpeg,image/png,image/webp"}),
    )
    file = forms.FileField(
        label="Audio file",
        widget=forms.ClearableFileInput(attrs={"accept": ",".join(f".{name}" for name in AUDIO_FORMATS)}),
    )

    def __init__(self, *args: Any, workspaces: list[Workspace], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["workspace"].choices = [(workspace.slug, workspace.name) for workspace in workspaces]  # type: ignore[attr-defined]
