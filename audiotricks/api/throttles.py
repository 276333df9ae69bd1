"""Request rates. Without the cache, requests are not counted."""

from typing import Any

import structlog
from rest_framework import throttling

from audiotricks.cache import is_cache_error

log = structlog.get_logger(__name__)


class _WhileThereIsACache:
    def allow_request(self, request: Any, view: Any) -> bool:
        try:
            return bool(super().allow_request(request, view))  # type: ignore[misc]
        except Exception as error:
            if not is_cache_error(error):
                raise
            log.warning("requests_not_counted", error=str(error))
            return True


class AnonRateThrottle(_WhileThereIsACache, throttling.AnonRateThrottle):
    pass


class UserRateThrottle(_WhileThereIsACache, throttling.UserRateThrottle):
    pass


class ScopedRateThrottle(_WhileThereIsACache, throttling.ScopedRateThrottle):
    pass
