"""Plans against models and limits in one table, and prices that nobody has mapped."""

from dataclasses import dataclass

from django import forms
from django.contrib import messages
from django.db.models import Count
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_http_methods, require_safe

from plans.catalogue import map_price
from plans.models import GatewayModel, Plan, Subscription
from tesslate.lib.errors import ApiError
from tesslate.lib.staffactions import staff_cause
from tesslate.staffroom.customers_views import require, staff_page

LIMITS = (
    ("Requests a minute", "rpm"),
    ("Tokens a minute", "tpm"),
    ("At the same time", "max_parallel_requests"),
    ("Keys", "max_keys"),
    ("Longest answer, tokens", "max_tokens_ceiling"),
    ("Grace, days", "grace_days"),
    ("Trial, days", "trial_days"),
)


@dataclass(frozen=True, slots=True)
class ModelRow:
    model: GatewayModel
    included: list[bool]


@require_safe
def plan_matrix(request: HttpRequest) -> HttpResponse:
    require(request, "plans.view_plan")
    plans = list(
        Plan.objects.filter(archived_at=None)
        .prefetch_related("gateway_models", "prices")
        .annotate(users=Count("entitlements"))
    )
    columns = [{model.pk for model in plan.gateway_models.all()} for plan in plans]
    models = GatewayModel.objects.all()
    return staff_page(
        request,
        "plan_matrix.html",
        title="Plan matrix",
        plans=plans,
        prices=[
            [price for price in plan.prices.all() if price.archived_at is None] for plan in plans
        ],
        rows=[ModelRow(model, [model.pk in column for column in columns]) for model in models],
        limits=[(label, [getattr(plan, name) for plan in plans]) for label, name in LIMITS],
    )


class MapForm(forms.Form):
    plan = forms.ModelChoiceField(Plan.objects.filter(archived_at=None), empty_label=None)


@require_http_methods(["GET", "POST"])
def map_one(request: HttpRequest, price_id: str) -> HttpResponse:
    """Say which plan a price at Stripe stands for."""
    require(request, "plans.change_price")
    waiting = Subscription.objects.filter(stripe_price_id=price_id, price=None)
    form = MapForm(request.POST if request.method == "POST" else None)
    problem = ""
    if request.method == "POST" and form.is_valid():
        plan = form.cleaned_data["plan"]
        try:
            cause = staff_cause(request)
            map_price(stripe_price_id=price_id, plan=plan, cause=cause)
        except ApiError as error:
            problem = error.message
        else:
            messages.success(request, f"{price_id} stands for {plan} from now on.")
            return redirect("admin:index")
    return staff_page(
        request,
        "map_price.html",
        title="Map a price",
        subtitle=price_id,
        price_id=price_id,
        waiting=waiting.select_related("customer__user", "customer__organization")[:20],
        count=waiting.count(),
        form=form,
        problem=problem,
    )
