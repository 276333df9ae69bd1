from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html

from audiotricks.admin.site import Figure
from quotas.rights import Role
from uploads.models import AudioUpload


def figures(request: HttpRequest) -> list[Figure]:
    return [Figure("Plugs", "230")]


def panel(request: HttpRequest, upload: AudioUpload, role: Role | None) -> str:
    return format_html("<section><h2>A plug for {}</h2></section>", upload.original_filename)


def page(request: HttpRequest) -> HttpResponse:
    return HttpResponse("plugged in")
