"""Users whose limits are lowered for now."""

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from plans import throttles
from plans.models import Throttle
from tesslate.lib.readonlyadmin import ReadOnlyAdmin
from tesslate.lib.staffactions import staff_cause


@admin.register(Throttle)
class ThrottleAdmin(ReadOnlyAdmin):
    list_display = ["user", "percent", "reason", "answer", "begun_at", "ends_at", "lifted_at"]
    list_filter = ["answer", ("lifted_at", admin.EmptyFieldListFilter)]
    search_fields = ["user__email"]
    list_select_related = ["user"]
    actions = ["lift"]

    @admin.action(description="Give the full limits back", permissions=["act"])
    def lift(self, request: HttpRequest, queryset: QuerySet[Throttle]) -> None:
        cause = staff_cause(request)
        count = sum(
            throttles.lift(throttle=row, cause=cause, reason="Lifted in the admin.")
            for row in queryset
        )
        messages.success(request, f"{count} lifted; the gateway follows in a moment.")
