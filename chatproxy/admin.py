"""Staff write prompts and read the ledger."""

import json
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminTextareaWidget

from accounts.models import User
from chatproxy.models import ChatRequest, PromptVersion, SystemPrompt
from chatproxy.prompts import VARIABLES, load_prompts, unknown_variables
from chatproxy.publishing import diff, publish_version, start_split, write_version
from chatproxy.selectors import find_request
from plans.models import GatewayModel, Plan
from tesslate.lib.adminlists import DaysFilter, RecentValuesFilter
from tesslate.lib.cause import Cause
from tesslate.lib.changes import PROMPTS, publish
from tesslate.lib.errors import ApiError

OUTCOME_COLOURS = {
    ChatRequest.Outcome.COMPLETED: "success",
    ChatRequest.Outcome.REFUSED: "warning",
    ChatRequest.Outcome.FAILED: "danger",
    ChatRequest.Outcome.BROKEN: "danger",
}


class PromptForm(forms.ModelForm[SystemPrompt]):
    """Saving another text makes a version; what becomes of it is ``then``."""

    text = forms.CharField(
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 16}),
        help_text="May hold " + ", ".join(f"{{{{ {name} }}}}" for name in sorted(VARIABLES)) + ".",
    )
    note = forms.CharField(required=False, help_text="What changed, and why.")
    percent = forms.IntegerField(
        label="Try on % of users",
        required=False,
        min_value=1,
        max_value=100,
        initial=100,
        widget=UnfoldAdminIntegerFieldWidget,
        help_text="100 puts a new text into use for everyone, less starts a split.",
    )

    class Meta:
        model = SystemPrompt
        fields = (
            "name",
            "category",
            "position",
            "is_enabled",
            "plans",
            "gateway_models",
            "starts_at",
            "ends_at",
        )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        published = self.instance.published if self.instance.pk else None
        if published is not None:
            self.fields["text"].initial = published.text

    def clean_text(self) -> str:
        # Browsers send CRLF; a version should not differ from the last one by that alone.
        text = str(self.cleaned_data["text"]).replace("\r\n", "\n")
        if unknown := unknown_variables(text):
            raise ValidationError(f"Unknown variables: {', '.join(unknown)}.")
        return text


@admin.register(SystemPrompt)
class SystemPromptAdmin(ModelAdmin):  # type: ignore[misc]
    form = PromptForm
    list_display = ("name", "category", "position", "is_enabled", "in_use", "split", "window")
    list_filter = ("category", "is_enabled", "plans", "gateway_models")
    list_select_related = ("published", "challenger")
    search_fields = ("name", "published__text")
    filter_horizontal = ("plans", "gateway_models")
    ordering = ("category", "position", "id")
    readonly_fields = ("history",)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        where = ("name", ("category", "position"), "is_enabled")
        when = ("plans", "gateway_models", ("starts_at", "ends_at"))
        what = ("text", "note", "percent", *(("history",) if obj else ()))
        return [
            ("Prompt", {"fields": where}),
            ("Text", {"fields": what}),
            ("For whom and when", {"fields": when}),
        ]

    @admin.display(description="In use", ordering="published__number")
    def in_use(self, prompt: SystemPrompt) -> str:
        return f"v{prompt.published.number}" if prompt.published else "nothing yet"

    @admin.display(description="Split")
    def split(self, prompt: SystemPrompt) -> str:
        if prompt.challenger is None:
            return ""
        return f"v{prompt.challenger.number} for {prompt.challenger_percent} %"

    @admin.display(description="Window")
    def window(self, prompt: SystemPrompt) -> str:
        start, end = (at and f"{at:%Y-%m-%d %H:%M}" for at in (prompt.starts_at, prompt.ends_at))
        return f"{start or '…'} to {end or '…'}" if start or end else "always"

    @admin.display(description="Versions")
    def history(self, prompt: SystemPrompt) -> str:
        return format_html(
            '<a class="underline" href="{}">{} versions: compare, publish again</a> · '
            '<a class="underline" href="{}">preview</a>',
            reverse("admin:chatproxy_systemprompt_versions", args=[prompt.pk]),
            prompt.versions.count(),
            reverse("admin:chatproxy_systemprompt_preview"),
        )

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        publish(kinds=[PROMPTS])
        prompt, data = form.instance, form.cleaned_data
        cause = _cause(request)
        assert isinstance(request.user, User)
        version = write_version(
            prompt=prompt, text=data["text"], note=data["note"], author=request.user, cause=cause
        )
        if version.pk in {prompt.published_id, prompt.challenger_id}:
            return
        percent = data["percent"] or 100
        if percent < 100 and prompt.published_id is not None:
            start_split(version=version, percent=percent, cause=cause, reason=data["note"])
        else:
            publish_version(version=version, cause=cause, reason=data["note"])

    def get_urls(self) -> list[URLPattern]:
        site = self.admin_site
        own = [
            path(
                "preview",
                site.admin_view(self.preview_page),
                name="chatproxy_systemprompt_preview",
            ),
            path(
                "<int:prompt_id>/versions",
                site.admin_view(self.versions_page),
                name="chatproxy_systemprompt_versions",
            ),
        ]
        return [*own, *super().get_urls()]

    def versions_page(self, request: HttpRequest, prompt_id: int) -> HttpResponse:
        """Every version with its difference from the one before; posting publishes one again."""
        prompt = get_object_or_404(SystemPrompt, pk=prompt_id)
        if not self.has_view_permission(request, prompt):
            raise PermissionDenied
        if request.method == "POST" and self.has_change_permission(request, prompt):
            version = get_object_or_404(prompt.versions, pk=request.POST.get("version"))
            try:
                self._put_into_use(request, version)
                messages.success(request, f"{version} is in use.")
            except ApiError as error:
                messages.error(request, error.message)
            return redirect(request.path)
        versions = list(prompt.versions.select_related("created_by"))
        earlier = [*versions[1:], None]
        context = {
            **self.admin_site.each_context(request),
            "title": f"Versions of {prompt}",
            "opts": self.model._meta,
            "prompt": prompt,
            "may_change": self.has_change_permission(request, prompt),
            "versions": [
                (version, diff(old, version) if old else version.text.splitlines())
                for version, old in zip(versions, earlier, strict=True)
            ],
        }
        return TemplateResponse(request, "chatproxy/admin/versions.html", context)

    def _put_into_use(self, request: HttpRequest, version: PromptVersion) -> None:
        percent = request.POST.get("percent", "")
        cause = _cause(request)
        if percent.isdigit() and int(percent) < 100:
            start_split(version=version, percent=int(percent), cause=cause)
        else:
            publish_version(version=version, cause=cause)

    def preview_page(self, request: HttpRequest) -> HttpResponse:
        """Exactly what a plan and a model get now."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        plan = Plan.objects.filter(code=request.GET.get("plan", "")).first()
        model = GatewayModel.objects.filter(name=request.GET.get("model", "")).first()
        rendered = None
        if plan is not None and model is not None:
            rendered = load_prompts().render(
                plan_code=plan.code,
                model=model.name,
                user_id=request.user.pk or 0,
                user_name=request.GET.get("name", "Ada Lovelace"),
                at=timezone.now(),
            )
        context = {
            **self.admin_site.each_context(request),
            "title": "Preview of system prompts",
            "opts": self.model._meta,
            "plans": Plan.objects.all(),
            "models": GatewayModel.objects.all(),
            "plan": plan,
            "model": model,
            "rendered": rendered,
            "versions": PromptVersion.objects.filter(
                pk__in=rendered.version_ids if rendered else ()
            ).select_related("prompt"),
        }
        return TemplateResponse(request, "chatproxy/admin/preview.html", context)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Versions are named in the ledger: a prompt is switched off, not deleted."""
        return False


@admin.register(ChatRequest)
class ChatRequestAdmin(ModelAdmin):  # type: ignore[misc]
    list_display = (
        "started_at",
        "user",
        "model",
        "plan_code",
        "shown_outcome",
        "status",
        "error_code",
        "tokens",
        "cost",
        "ttfb_ms",
        "duration_ms",
    )
    list_filter = (
        ("started_at", DaysFilter),
        "outcome",
        ("model", RecentValuesFilter),
        ("plan_code", RecentValuesFilter),
        ("error_code", RecentValuesFilter),
        "client",
        "is_estimated",
    )
    list_select_related = ("user",)
    search_fields = ("id",)
    search_help_text = "A request id (req_…) or a user's e-mail address, in full."
    ordering = ("-started_at",)
    list_per_page = 50
    readonly_fields = ("public_id", "decision_text")
    exclude = ("id", "decision")

    @display(label=OUTCOME_COLOURS, ordering="outcome", description="Outcome")  # type: ignore[untyped-decorator]
    def shown_outcome(self, row: ChatRequest) -> tuple[str, str]:
        return row.outcome, row.get_outcome_display()

    @admin.display(description="Tokens")
    def tokens(self, row: ChatRequest) -> str:
        return f"{row.total_tokens}{' (est.)' if row.is_estimated else ''}"

    @admin.display(description="Request id")
    def public_id(self, row: ChatRequest) -> str:
        return row.public_id

    @admin.display(description="Decision")
    def decision_text(self, row: ChatRequest) -> str:
        return format_html("<pre>{}</pre>", json.dumps(row.decision, indent=2))

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[ChatRequest], search_term: str
    ) -> tuple[QuerySet[ChatRequest], bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        if "@" in term:
            user = User.objects.filter(email=term.lower()).first()
            return (queryset.filter(user=user) if user else queryset.none()), False
        found = find_request(term)
        if found is None:
            return queryset.none(), False
        return queryset.filter(pk=found.pk, started_at=found.started_at), False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def _cause(request: HttpRequest) -> Cause:
    assert request.user.pk is not None
    return Cause.staff(request.user.pk)
