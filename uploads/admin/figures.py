import structlog
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext

from audiotricks.admin.base import capped_count
from audiotricks.admin.site import Figure, list_address, may_view
from uploads.models import AudioUpload, HeldRemoval, Status, StorageMark
from uploads.models.states import UNPROCESSED
from uploads.objects.brake import waiting_for_staff
from uploads.objects.marks import held_storages
from uploads.upkeep.health import check_disk

log = structlog.get_logger(__name__)


def vault_figures(request: HttpRequest) -> list[Figure]:
    figures = []
    label = StorageMark._meta.label_lower
    if may_view(request, label) and (held := held_storages()):
        title = gettext("Storages that may not be ours: decide")
        figures.append(Figure(title, ", ".join(sorted(held)), list_address(label), alarming=True))
    label = HeldRemoval._meta.label_lower
    if may_view(request, label) and (waiting := waiting_for_staff().count()):
        title = gettext("Removals that wait for an answer")
        address = list_address(label, state__exact=HeldRemoval.State.ASKED)
        figures.append(Figure(title, str(waiting), address, alarming=True))
    return figures


def file_figures(request: HttpRequest) -> list[Figure]:
    label = AudioUpload._meta.label_lower
    if not may_view(request, label):
        return []
    failed = capped_count(AudioUpload.objects.filter(status=Status.FAILED))
    working = capped_count(AudioUpload.objects.filter(status__in=UNPROCESSED))
    held = capped_count(AudioUpload.objects.filter(legal_hold=True))
    return [
        Figure(gettext("Files that failed"), failed, list_address(label, status__exact=Status.FAILED), failed != "0"),
        Figure(gettext("Files being worked on"), working),
        Figure(gettext("Files on hold"), held, list_address(label, held="yes")),
    ]


def disk_figures(request: HttpRequest) -> list[Figure]:
    """Of the disk with the audio, or with working copies for a bucket."""
    if not may_view(request, "audiotricks.workerheartbeat"):
        return []
    try:
        disk = check_disk()
    except Exception as error:  # noqa: BLE001 - the first page must open when the storage is what is broken
        log.warning("disk_not_asked", error=str(error))
        return [Figure(gettext("Free disk space"), gettext("unknown"), alarming=True)]
    title = gettext("Free disk space") if disk["holds"] == "audio" else gettext("Free disk space for working copies")
    return [Figure(title, filesizeformat(disk["free_bytes"]), alarming=disk["low"])]
