import os
from typing import Any, BinaryIO, cast

from django.core.handlers.wsgi import LimitedStream, WSGIRequest
from django.core.wsgi import get_wsgi_application
from django.utils.http import parse_header_parameters

from audiotricks.database import release_connection

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "audiotricks.settings")


class ClientStream(LimitedStream):
    """While the client is slow, others use the database connection."""

    def read(self, size: int | None = -1, /) -> bytes:
        release_connection()
        return super().read(size)

    def readline(self, size: int | None = -1, /) -> bytes:
        release_connection()
        return super().readline(size)


class Request(WSGIRequest):
    """Decodes text as UTF-8 whatever ``charset`` the Content-Type names: UTF-7 could spell NUL, others end in a 500."""

    def __init__(self, environ: dict[str, Any]) -> None:
        super().__init__(environ)
        stream = cast(LimitedStream, self._stream)
        self._stream = cast(BinaryIO, ClientStream(environ["wsgi.input"], stream.limit))

    def _set_content_type_params(self, meta: dict[str, Any]) -> None:
        try:
            self.content_type, self.content_params = parse_header_parameters(meta.get("CONTENT_TYPE", ""))
        except (LookupError, TypeError, ValueError):
            self.content_type, self.content_params = "", {}


application = get_wsgi_application()
application.request_class = Request
