"""The OpenAPI document, made once in each process and format."""

import hashlib
from threading import Lock
from typing import Any, ClassVar

from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.utils.cache import get_conditional_response, patch_vary_headers
from django.utils.http import quote_etag
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularAPIView
from rest_framework.request import Request


class ApiDocument(SpectacularAPIView):
    made: ClassVar[dict[str, tuple[bytes, str]]] = {}
    lock: ClassVar[Lock] = Lock()

    @extend_schema(exclude=True)
    def get(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponseBase:
        media_type = request.accepted_renderer.media_type
        # Requests that come meanwhile wait for it.
        with self.lock:
            if media_type not in self.made:
                self.made[media_type] = self.make(request, *args, **kwargs)
        content, disposition = self.made[media_type]
        answer = HttpResponse(
            content,
            content_type=media_type,
            headers={
                "Content-Disposition": disposition,
                "ETag": quote_etag(hashlib.sha256(content).hexdigest()),
                "Cache-Control": "private, no-cache",
            },
        )
        patch_vary_headers(answer, ["Accept", "Cookie", "Authorization"])
        conditional = get_conditional_response(request._request, answer["ETag"], None, answer)
        return conditional if conditional is not None else answer

    def make(self, request: Request, *args: Any, **kwargs: Any) -> tuple[bytes, str]:
        document: Any = super().get(request, *args, **kwargs)  # type: ignore[no-untyped-call]
        rendered = request.accepted_renderer.render(document.data, request.accepted_media_type, {})
        return rendered if isinstance(rendered, bytes) else rendered.encode(), document["Content-Disposition"]
