import os
from typing import Any

from django.core.handlers.wsgi import WSGIRequest
from django.core.wsgi import get_wsgi_application
from django.utils.http import parse_header_parameters

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "audiotricks.settings")


class Request(WSGIRequest):
    """A request whose text is UTF-8, whatever ``charset`` its Content-Type names.

    Django decodes the query in that charset while it makes the request, before any middleware: in UTF-7 a query can
    spell NUL, and a charset that is no text encoding, a broken parameter or too many fields end in a 500 there.
    """

    def _set_content_type_params(self, meta: dict[str, Any]) -> None:
        try:
            self.content_type, self.content_params = parse_header_parameters(meta.get("CONTENT_TYPE", ""))
        except (LookupError, TypeError, ValueError):
            self.content_type, self.content_params = "", {}


application = get_wsgi_application()
application.request_class = Request
