"""Plan edits on their way to keys, as staff see and steer them."""

from collections.abc import Callable

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from llmkeys import rollouts
from llmkeys.models import Rollout
from tesslate.lib.readonlyadmin import ReadOnlyAdmin
from tesslate.lib.staffactions import do_to_each, staff_cause


@admin.register(Rollout)
class RolloutAdmin(ReadOnlyAdmin):
    list_display = ["plan", "state", "before", "after", "done", "started_by", "started_at"]
    list_filter = ["state", "plan"]
    list_select_related = ["plan", "started_by"]
    actions = ["pause", "resume", "cancel", "roll_back"]

    @admin.display(description="done")
    def done(self, rollout: Rollout) -> str:
        progress = rollouts.progress(rollout)
        return f"{progress.percent} % of {progress.total}"

    @admin.action(description="Pause", permissions=["act"])
    def pause(self, request: HttpRequest, queryset: QuerySet[Rollout]) -> None:
        self._each(request, queryset, rollouts.pause)

    @admin.action(description="Resume", permissions=["act"])
    def resume(self, request: HttpRequest, queryset: QuerySet[Rollout]) -> None:
        self._each(request, queryset, rollouts.resume)

    @admin.action(description="Cancel, and put everything back", permissions=["act"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[Rollout]) -> None:
        self._each(request, queryset, rollouts.cancel)

    @admin.action(description="Roll back", permissions=["act"])
    def roll_back(self, request: HttpRequest, queryset: QuerySet[Rollout]) -> None:
        self._each(request, queryset, rollouts.roll_back)

    def _each(
        self, request: HttpRequest, queryset: QuerySet[Rollout], do: Callable[..., object]
    ) -> None:
        cause = staff_cause(request)
        do_to_each(
            request,
            queryset.select_related("plan"),
            lambda rollout: do(rollout=rollout, cause=cause),
        )
