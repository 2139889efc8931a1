"""Edit a plan's limits and models: see what it would do, then watch it being done."""

from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from llmkeys import rollouts
from llmkeys.models import Rollout
from plans.models import GatewayModel, Plan
from tesslate.lib.errors import ApiError
from tesslate.lib.staffactions import staff_cause
from tesslate.staffroom.customers_views import require, staff_page

LABELS = {
    "rpm": "Requests a minute",
    "tpm": "Tokens a minute",
    "max_parallel_requests": "At the same time",
    "budget_cents": "Budget a period, US cents",
    "gateway_models": "Models",
}
# What may be done to a rollout, in which state, and what it then says.
STEPS: dict[str, tuple[set[str], str]] = {
    "pause": ({"running"}, "Paused. Keys not reached yet keep what they have."),
    "resume": ({"paused"}, "Running again."),
    "cancel": ({"running", "paused"}, "Everything is being put back as it was."),
    "roll_back": ({"done"}, "Everything is being put back as it was."),
}
STEP_LABELS = {"pause": "Pause", "resume": "Resume", "cancel": "Cancel", "roll_back": "Roll back"}


class LimitsForm(forms.ModelForm[Plan]):
    """Carries the version it was opened with, so that nobody saves over another's change."""

    opened = forms.IntegerField(widget=forms.HiddenInput)

    class Meta:
        model = Plan
        fields = tuple(LABELS)
        labels = LABELS
        widgets = {"gateway_models": forms.CheckboxSelectMultiple}

    def clean_opened(self) -> int:
        opened: int = self.cleaned_data["opened"]
        if opened != Plan.objects.values_list("version", flat=True).get(pk=self.instance.pk):
            raise forms.ValidationError(
                "Somebody changed this plan meanwhile. Reload it and try again."
            )
        return opened

    @property
    def edit(self) -> dict[str, Any]:
        return {name: self.cleaned_data[name] for name in LABELS if name in self.changed_data}


@dataclass(frozen=True, slots=True)
class Change:
    label: str
    before: str
    after: str


@require_http_methods(["GET", "POST"])
def edit_plan(request: HttpRequest, plan_id: int) -> HttpResponse:
    """First send: the impact and the same form once more. Second send, confirmed: do it."""
    require(request, "plans.change_plan")
    plan = get_object_or_404(Plan, pk=plan_id)
    initial = {"opened": plan.version}
    form = LimitsForm(request.POST or None, instance=plan, initial=initial)
    impact, problem = None, ""
    if request.method == "POST" and form.is_valid():
        # The form has written into its instance; the plan as it is comes from the database.
        stored = Plan.objects.get(pk=plan.pk)
        try:
            if not form.edit:
                problem = "Nothing would change."
            elif "confirmed" in request.POST:
                rollout = rollouts.start(plan=stored, edit=form.edit, cause=staff_cause(request))
                return redirect("admin:rollout", rollout_id=rollout.pk)
            else:
                impact = rollouts.impact(stored, form.edit)
        except ApiError as error:
            problem = error.message
    return staff_page(
        request,
        "plan_edit.html",
        title=f"Edit {plan.name}",
        plan=plan,
        form=form,
        impact=impact,
        changes=[] if impact is None else [_change(*each) for each in impact.changes],
        problem=problem,
    )


def _change(name: str, before: Any, after: Any) -> Change:
    return Change(LABELS[name], _words(name, before), _words(name, after))


def _words(name: str, value: Any) -> str:
    if name != "gateway_models":
        return f"{value:,}"
    names = GatewayModel.objects.filter(pk__in=value).values_list("name", flat=True)
    return ", ".join(names)


@require_safe
def rollout(request: HttpRequest, rollout_id: int) -> HttpResponse:
    require(request, "llmkeys.view_rollout")
    row = get_object_or_404(Rollout.objects.select_related("plan"), pk=rollout_id)
    may_steer = request.user.has_perm("llmkeys.change_rollout")
    steps = [
        (name, STEP_LABELS[name]) for name, (states, _) in STEPS.items() if row.state in states
    ]
    return staff_page(
        request,
        "rollout.html",
        title=f"Rollout {row.pk}",
        subtitle=row.plan.name,
        row=row,
        progress=rollouts.progress(row),
        changes=[
            _change(name, row.before[name], after)
            for name, after in row.after.items()
            if name in LABELS
        ],
        steps=steps if may_steer else [],
    )


@require_POST
def steer(request: HttpRequest, rollout_id: int, step: str) -> HttpResponse:
    require(request, "llmkeys.change_rollout")
    if step not in STEPS:
        raise Http404
    row = get_object_or_404(Rollout, pk=rollout_id)
    try:
        successor = getattr(rollouts, step)(rollout=row, cause=staff_cause(request))
    except ApiError as error:
        messages.warning(request, error.message)
        return redirect("admin:rollout", rollout_id=row.pk)
    messages.success(request, STEPS[step][1])
    shown = successor.pk if isinstance(successor, Rollout) else row.pk
    return redirect("admin:rollout", rollout_id=shown)
