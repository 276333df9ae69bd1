from django.conf import settings
from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularSwaggerSplitView

from audiotricks.api.document import ApiDocument
from audiotricks.plug import declared
from audiotricks.running import health

urlpatterns = [
    # Browsers request it for responses without a page, such as a picture.
    path("favicon.ico", RedirectView.as_view(url=settings.ICON_URL), name="favicon"),
    path("health", health.health, name="health"),
    path("api/v1/", include([path("", include(urls)) for urls in declared(lambda app: app.api_urls)])),
    path("api/schema/", ApiDocument.as_view(), name="schema"),
    path("api/docs/", SpectacularSwaggerSplitView.as_view(url_name="schema"), name="docs"),
    *(path("", include(urls)) for urls in declared(lambda app: app.page_urls)),
    path("admin/", admin.site.urls),
]
handler400 = "audiotricks.web.problems.bad_request"
handler403 = "audiotricks.web.problems.permission_denied"
handler404 = "audiotricks.web.problems.page_not_found"
handler500 = "audiotricks.web.problems.server_error"
