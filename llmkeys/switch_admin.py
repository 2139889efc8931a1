"""The kill switch as staff pull and lift it."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from llmkeys import switches
from llmkeys.models import KillSwitch
from tesslate.lib.readonlyadmin import ReadOnlyAdmin
from tesslate.lib.reauthentication import AsksPassword, bound_to
from tesslate.lib.staffactions import asks, staff_cause


class KillSwitchForm(AsksPassword):
    """Takes something away from many at once."""

    class Meta:
        model = KillSwitch
        fields = ["scope", "gateway_model", "plan", "user", "reason", "expires_at"]


@admin.register(KillSwitch)
class KillSwitchAdmin(ReadOnlyAdmin):
    form = KillSwitchForm
    list_display = [
        "scope",
        "target",
        "reason",
        "pulled_by",
        "pulled_at",
        "expires_at",
        "lifted_at",
        "proven_at",
    ]
    list_filter = ["scope", ("lifted_at", admin.EmptyFieldListFilter)]
    list_select_related = ["gateway_model", "plan", "user", "pulled_by"]
    actions = ["lift"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("llmkeys.add_killswitch"))

    def get_fields(self, request: HttpRequest, obj: KillSwitch | None = None) -> list[str]:
        asked = ["scope", "gateway_model", "plan", "user", "reason", "expires_at"]
        told = ["pulled_by", "pulled_at", "lifted_at", "proven_at", "proof"]
        return [*asked, "password_again"] if obj is None else asked + told

    def get_form(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> type[Any]:
        return bound_to(request, super().get_form(request, obj, **kwargs))

    raw_id_fields = ["user"]

    def save_model(self, request: HttpRequest, obj: KillSwitch, form: Any, change: bool) -> None:
        """Only ever a new one: a switch that was pulled is lifted, never edited."""
        pulled = switches.pull(
            scope=obj.scope,
            target=obj.target,
            reason=obj.reason,
            expires_at=obj.expires_at,
            cause=staff_cause(request),
        )
        obj.pk = pulled.pk

    @admin.action(description="Lift", permissions=["act"])
    @asks("What these switches turned off works again.")
    def lift(self, request: HttpRequest, queryset: QuerySet[KillSwitch]) -> None:
        for switch in queryset:
            switches.lift(switch=switch, cause=staff_cause(request))
        self.message_user(request, "Lifted; the gateway follows in a moment.")
