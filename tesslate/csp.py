"""Which pages may do what under the Content-Security-Policy."""

from csp.middleware import CSPMiddleware, PolicyParts
from django.http import HttpRequest, HttpResponseBase

# The site and the API keep the strict policy of the settings. These two trees are other people's
# code: Unfold's Alpine evaluates expressions, and both put style attributes into their markup.
RELAXED: dict[str, dict[str, list[str]]] = {
    "/admin": {"script-src": ["'unsafe-eval'"], "style-src": ["'unsafe-inline'"]},
    "/api/docs": {"style-src": ["'unsafe-inline'"]},
}


class PolicyByPath(CSPMiddleware):
    """django-csp's middleware with the relaxations above."""

    def get_policy_parts(
        self, request: HttpRequest, response: HttpResponseBase, report_only: bool = False
    ) -> PolicyParts:
        parts = super().get_policy_parts(request, response, report_only)
        for prefix, update in RELAXED.items():
            if request.path_info == prefix or request.path_info.startswith(f"{prefix}/"):
                parts.update = {**(parts.update or {}), **update}
        return parts
