from django.conf import settings
from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularSwaggerSplitView

from audiotricks import health
from audiotricks.api_document import ApiDocument

api = [
    path("", include("audiotricks.api_urls")),
    path("", include("quotas.api_urls")),
    path("", include("uploads.api_urls")),
]

urlpatterns = [
    # Browsers ask for it with whatever has no page of ours around it, like a picture that is opened by itself.
    path("favicon.ico", RedirectView.as_view(url=settings.ICON_URL), name="favicon"),
    path("health", health.health, name="health"),
    path("api/v1/", include(api)),
    path("api/schema/", ApiDocument.as_view(), name="schema"),
    path("api/docs/", SpectacularSwaggerSplitView.as_view(url_name="schema"), name="docs"),
    path("", include("audiotricks.page_urls")),
    path("", include("quotas.page_urls")),
    path("", include("uploads.page_urls")),
    path("admin/", admin.site.urls),
]
handler400 = "audiotricks.problems.bad_request"
handler403 = "audiotricks.problems.permission_denied"
handler404 = "audiotricks.problems.page_not_found"
handler500 = "audiotricks.problems.server_error"
