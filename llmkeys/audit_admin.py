"""What audits of the gateway found, as staff see and settle it."""

from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from llmkeys import drift, foreign
from llmkeys.errors import KeyIsOurs
from llmkeys.litellm_errors import LiteLLMError
from llmkeys.models import AuditFinding, AuditRun, TrustedKey
from tesslate.lib.adminlists import DaysFilter
from tesslate.lib.errors import Unavailable
from tesslate.lib.readonlyadmin import ReadOnlyAdmin
from tesslate.lib.staffactions import asks, do_to_each, given_reason, staff_cause


@admin.register(AuditRun)
class AuditRunAdmin(ReadOnlyAdmin):
    list_display = ["started_at", "state", "repairs", "counts", "finished_at", "error"]
    list_filter = ["state"]


class StandsFilter(admin.SimpleListFilter):
    """What is so now, unless the findings of earlier audits are asked for: each audit lists a key
    again as long as nobody settles it."""

    title = "when"
    parameter_name = "when"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("", "Now"), ("ever", "In any audit")]

    def choices(self, changelist: Any) -> Any:
        chosen = self.value() or ""
        for value, title in self.lookup_choices:
            query = changelist.get_query_string({self.parameter_name: value} if value else {})
            if not value:
                query = changelist.get_query_string(remove=[self.parameter_name])
            yield {"selected": chosen == value, "query_string": query, "display": title}

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() == "ever":
            return queryset
        return queryset.filter(pk__in=drift.findings_now().values("pk"))


@admin.register(AuditFinding)
class AuditFindingAdmin(ReadOnlyAdmin):
    list_display = ["kind", "name", "what", "repaired", "run"]
    list_filter = [StandsFilter, "kind", "repaired", ("run__started_at", DaysFilter)]
    search_fields = ["alias", "gateway_id", "key__user__email"]
    list_select_related = ["key__user", "run"]
    actions = ["trust", "remove"]

    @admin.display(description="key", ordering="alias")
    def name(self, finding: AuditFinding) -> str:
        return finding.called

    @admin.display(description="what")
    def what(self, finding: AuditFinding) -> str:
        return drift.described(finding)

    @admin.action(description="Vouch for these keys", permissions=["act"])
    @asks(
        "Audits count these keys apart and no longer list them: another system made them and "
        "answers for what is spent with them.",
        reason=True,
    )
    def trust(self, request: HttpRequest, queryset: QuerySet[AuditFinding]) -> None:
        self._each(request, queryset, foreign.trust)

    @admin.action(description="Remove these keys from the gateway", permissions=["act"])
    @asks(
        "The gateway forgets these keys at once and for good: whatever uses them stops working.",
        reason=True,
        password=True,
        reaches_out=True,
    )
    def remove(self, request: HttpRequest, queryset: QuerySet[AuditFinding]) -> None:
        self._each(request, queryset, foreign.remove)

    def _each(
        self,
        request: HttpRequest,
        findings: QuerySet[AuditFinding],
        do: Callable[..., object],
    ) -> None:
        reason, cause = given_reason(request), staff_cause(request)

        def act(finding: AuditFinding) -> None:
            try:
                do(key_hash=key_hash_of(finding), alias=finding.alias, reason=reason, cause=cause)
            except LiteLLMError as error:
                raise Unavailable(f"{error}. Try again.") from error

        do_to_each(request, findings.select_related("key__user"), act)


@admin.register(TrustedKey)
class TrustedKeyAdmin(ReadOnlyAdmin):
    list_display = ["__str__", "reason", "trusted_by", "trusted_at"]
    search_fields = ["alias", "key_hash"]
    list_select_related = ["trusted_by"]
    actions = ["distrust"]

    @admin.action(description="No longer vouch for these", permissions=["act"])
    @asks("The next audit lists these keys again. Nothing changes at the gateway.")
    def distrust(self, request: HttpRequest, queryset: QuerySet[TrustedKey]) -> None:
        cause = staff_cause(request)
        for trusted in queryset:
            foreign.distrust(trusted=trusted, cause=cause)
        self.message_user(request, "The next audit lists them again.")


def key_hash_of(finding: AuditFinding) -> str:
    """What names a key that we did not make. Raises KeyIsOurs for any other finding."""
    if finding.kind not in drift.NOT_MADE_BY_US:
        raise KeyIsOurs
    return finding.gateway_id
