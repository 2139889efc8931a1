"""Every route. Each app's urls.py writes its paths in full, so that they can be searched for."""

from django.contrib import admin
from django.urls import include, path, re_path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from tesslate import errorviews, health, metrics
from tesslate.me import ExportView, MeView

urlpatterns = [
    path("", include("accounts.urls")),
    path("", include("plans.urls")),
    path("", include("llmkeys.urls")),
    path("", include("chatproxy.urls")),
    path("health", health.health, name="health"),
    path("health/live", health.live, name="health-live"),
    path("health/ready", health.ready, name="health-ready"),
    path("metrics", metrics.metrics, name="metrics"),
    path("api/me", MeView.as_view(), name="me"),
    path("api/me/export", ExportView.as_view(), name="me-export"),
    path("api/schema", SpectacularAPIView.as_view(), name="schema"),
    # The split view keeps its script in a file of its own, which the CSP wants.
    path("api/docs", SpectacularSwaggerSplitView.as_view(url_name="schema"), name="docs"),
    re_path(r"^(?:api|webhooks|usage)(?:/|$)", errorviews.api_not_found),
    # After llmkeys, whose admin/keys is an API and not a page.
    path("admin/", admin.site.urls),
    path("", include("tesslate.site.urls")),
]

handler400 = errorviews.bad_request
handler403 = errorviews.permission_denied
handler404 = errorviews.page_not_found
handler500 = errorviews.internal_error
