"""What the first page of the administration tells of files at a glance."""

from django.http import HttpRequest
from django.utils.translation import gettext

from audiotricks.admin.site import Figure, list_address, may_view
from audiotricks.modeladmin import capped_count
from uploads.models import IN_WORK, AudioUpload, Status


def file_figures(request: HttpRequest) -> list[Figure]:
    label = AudioUpload._meta.label_lower
    if not may_view(request, label):
        return []
    failed = capped_count(AudioUpload.objects.filter(status=Status.FAILED))
    working = capped_count(AudioUpload.objects.filter(status__in=(Status.UPLOADED, *IN_WORK)))
    held = capped_count(AudioUpload.objects.filter(legal_hold=True))
    return [
        Figure(gettext("Files that failed"), failed, list_address(label, status__exact=Status.FAILED), failed != "0"),
        Figure(gettext("Files being worked on"), working),
        Figure(gettext("Files on hold"), held, list_address(label, held="yes")),
    ]
