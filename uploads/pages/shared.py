from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.views.decorators.http import require_http_methods

from audiotricks.errors import NotFound
from uploads.serving.content import content_response
from uploads.serving.links import open_link


@require_http_methods(["GET"])
def listen(request: HttpRequest) -> HttpResponseBase:
    """For anyone who has the link."""
    signature = request.GET.get("signature", "")
    if not signature:
        raise NotFound
    response = content_response(request, open_link(signature).upload)
    # The link suffices, so pages of other sites may play it.
    response["Cross-Origin-Resource-Policy"] = "cross-origin"
    return response
