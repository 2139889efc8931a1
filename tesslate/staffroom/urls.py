"""The admin's own pages, beside those of the registered models."""

from collections.abc import Callable
from typing import Any

from django.contrib.admin import AdminSite
from django.http import HttpResponseBase
from django.urls import URLPattern, path

from tesslate.staffroom import (
    catalogue_views,
    customers_views,
    job_views,
    margin_views,
    mending,
    rollout_views,
    saved_views,
    security,
    usage_views,
)


def patterns(site: AdminSite) -> list[URLPattern]:
    def page(view: Callable[..., HttpResponseBase], **kwargs: Any) -> Any:
        return site.admin_view(view, **kwargs)

    return [
        # Before the second factor is passed no page behind admin_view opens: these two look after
        # themselves.
        path("two-factor/verify", security.verify, name="two-factor-verify"),
        path("two-factor/enrol", security.enrol, name="two-factor-enrol"),
        path("security", page(security.overview), name="security"),
        path("security/recovery-codes", page(security.recovery_codes), name="recovery-codes"),
        path("security/sessions", page(security.end_sessions), name="end-sessions"),
        path("security/remove", page(security.remove), name="two-factor-remove"),
        path("customers/<int:user_id>", page(customers_views.customer), name="customer"),
        path(
            "organizations/<int:organization_id>",
            page(customers_views.organization),
            name="organization",
        ),
        path("customers/<int:user_id>/view", page(customers_views.view_as), name="view-as"),
        path("customers/<int:user_id>/access", page(customers_views.access), name="access"),
        path("customers/<int:user_id>/notes", page(customers_views.add_note), name="note-add"),
        path("customers/<int:user_id>/do/<slug:name>", page(customers_views.act), name="act"),
        path("margin", page(margin_views.margin), name="margin"),
        path("what-if", page(margin_views.simulation), name="what-if"),
        path("usage-differences", page(usage_views.usage_differences), name="usage-differences"),
        path("plan-matrix", page(catalogue_views.plan_matrix), name="plan-matrix"),
        path("plans/<int:plan_id>/limits", page(rollout_views.edit_plan), name="plan-limits"),
        path("rollouts/<int:rollout_id>", page(rollout_views.rollout), name="rollout"),
        path(
            "rollouts/<int:rollout_id>/<slug:step>",
            page(rollout_views.steer),
            name="rollout-steer",
        ),
        path("mend/<slug:name>", page(mending.mend), name="mend"),
        path("jobs", page(job_views.overview), name="jobs"),
        path("jobs/<int:job_id>", page(job_views.job), name="job"),
        path("jobs/<int:job_id>/stop", page(job_views.stop), name="job-cancel"),
        path("jobs/<int:job_id>/download", page(job_views.download), name="job-download"),
        path("saved-views/<str:label>/save", page(saved_views.save), name="saved-view-save"),
        path(
            "saved-views/<int:view_id>/remove", page(saved_views.remove), name="saved-view-remove"
        ),
        path("map-price/<str:price_id>", page(catalogue_views.map_one), name="map-price"),
    ]
