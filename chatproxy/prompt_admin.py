"""Prompts as staff write them: an editor that shows what would change for whom, versions with
their differences, trials on a share of users, and the way back."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from unfold.admin import ModelAdmin
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminTextareaWidget,
)

from accounts.models import User
from chatproxy.models import PromptVersion, SystemPrompt
from chatproxy.prompts import (
    DRAFT_VERSION,
    VARIABLES,
    Prompt,
    PromptSet,
    Rendered,
    Text,
    load_prompts,
    unknown_variables,
)
from chatproxy.publishing import (
    changed_lines,
    check_text,
    check_unchanged,
    opened_state,
    publish_version,
    start_split,
    write_version,
)
from plans.models import GatewayModel, Plan
from tesslate.lib.changes import PROMPTS, publish
from tesslate.lib.errors import ApiError
from tesslate.lib.staffactions import staff_cause
from tesslate.lib.text import whole_number

EXAMPLE_NAME = "Ada Lovelace"
LONGEST_NAME = 200


class PromptForm(forms.ModelForm[SystemPrompt]):
    """Saving another text than the one in use makes a version, tried on ``percent`` of users."""

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
        # A dozen at most: all in sight, and no wider than the page.
        widgets: ClassVar = {
            "plans": UnfoldAdminCheckboxSelectMultipleWidget,
            "gateway_models": UnfoldAdminCheckboxSelectMultipleWidget,
        }
        help_texts: ClassVar = {
            "plans": "None means every plan.",
            "gateway_models": "None means every model.",
        }

    # What the form was opened with, so that nobody saves over another's change.
    opened = forms.CharField(required=False, widget=forms.HiddenInput)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        published = self.instance.published if self.instance.pk else None
        self.fields["opened"].initial = opened_state(self.instance) if self.instance.pk else ""
        if published is not None:
            self.fields["text"].initial = published.text

    def clean_opened(self) -> str:
        opened = str(self.cleaned_data["opened"])
        if self.instance.pk:
            try:
                check_unchanged(self.instance.pk, opened)
            except ApiError as error:
                # At the top, where it is seen: the field itself is hidden.
                self.add_error(None, error.message)
        return opened

    def clean_text(self) -> str:
        text = _as_typed(str(self.cleaned_data["text"]))
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
    ordering = ("category", "position", "id")
    readonly_fields = ("history",)
    change_form_after_template = "chatproxy/admin/editor.html"

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        where = ("name", ("category", "position"), "is_enabled")
        when = ("starts_at", "ends_at")
        what = ("text", "note", "percent", "opened", *(("history",) if obj else ()))
        # The text last: what it would change is shown right below.
        return [
            ("Prompt", {"fields": where}),
            ("For whom", {"fields": ("plans", "gateway_models")}),
            ("When", {"fields": when, "classes": ["collapse"]}),
            ("Text", {"fields": what}),
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
        # The form shows the text in use: sent back as it was, it ends no trial of another one.
        if prompt.published is not None and _as_typed(prompt.published.text) == data["text"]:
            return
        cause = staff_cause(request)
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
        site, name = self.admin_site, "chatproxy_systemprompt"
        own = [
            path("preview", site.admin_view(self.preview_page), name=f"{name}_preview"),
            path("draft", site.admin_view(self.draft_page), name=f"{name}_draft"),
            path(
                "<int:prompt_id>/versions",
                site.admin_view(self.versions_page),
                name=f"{name}_versions",
            ),
        ]
        return [*own, *super().get_urls()]

    def versions_page(self, request: HttpRequest, prompt_id: int) -> HttpResponse:
        """Every version with its difference from the one before; posting puts one into use."""
        prompt = get_object_or_404(
            SystemPrompt.objects.select_related("published", "challenger"), pk=prompt_id
        )
        if not self.has_view_permission(request, prompt):
            raise PermissionDenied
        if request.method == "POST":
            if not self.has_change_permission(request, prompt):
                raise PermissionDenied
            self._put_into_use(request, prompt)
            return redirect(request.path)
        versions = list(prompt.versions.select_related("created_by", "prompt"))
        earlier = [*versions[1:], None]
        context = {
            **self.admin_site.each_context(request),
            "title": f"Versions of {prompt}",
            "opts": self.model._meta,
            "prompt": prompt,
            "may_change": self.has_change_permission(request, prompt),
            "opened": opened_state(prompt),
            "versions": [
                (
                    version,
                    marked(changed_lines(old.text, version.text)) if old else [("", version.text)],
                )
                for version, old in zip(versions, earlier, strict=True)
            ],
        }
        return TemplateResponse(request, "chatproxy/admin/versions.html", context)

    def _put_into_use(self, request: HttpRequest, prompt: SystemPrompt) -> None:
        number = whole_number(request.POST.get("version", ""))
        version = get_object_or_404(prompt.versions, pk=number)
        percent = whole_number(request.POST.get("percent", ""))
        cause = staff_cause(request)
        try:
            with transaction.atomic():
                check_unchanged(prompt.pk, request.POST.get("opened", ""))
                if percent is not None and percent < 100:
                    start_split(version=version, percent=percent, cause=cause)
                    done = f"{version} is tried on {percent} % of users."
                else:
                    publish_version(version=version, cause=cause)
                    done = f"{version} is in use for everyone."
        except ApiError as error:
            messages.error(request, error.message)
        else:
            messages.success(request, done)

    def preview_page(self, request: HttpRequest) -> HttpResponse:
        """Exactly what a plan and a model get now."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        audience = Audience.chosen(request.GET, request.user.pk or 0)
        rendered = None if audience is None else audience.render(load_prompts())
        context = {
            **self.admin_site.each_context(request),
            "title": "Preview of system prompts",
            "opts": self.model._meta,
            **_choices(),
            "audience": audience,
            "rendered": rendered,
            "versions": PromptVersion.objects.filter(
                pk__in=rendered.version_ids if rendered else ()
            ).select_related("prompt"),
        }
        return TemplateResponse(request, "chatproxy/admin/preview.html", context)

    def draft_page(self, request: HttpRequest) -> HttpResponse:
        """For the editor: what the text as typed would change, and what a plan and model would
        get with it. Writes nothing."""
        if request.method != "POST" or not self.has_view_permission(request):
            raise PermissionDenied
        number = whole_number(request.POST.get("preview_prompt", "")) or 0
        prompt = SystemPrompt.objects.filter(pk=number).first()
        text = request.POST.get("text", "").replace("\r\n", "\n")
        audience = Audience.chosen(request.POST, request.user.pk or 0)
        draft = _draft(request, prompt, text)
        rendered = None if audience is None else audience.render(load_prompts(draft=draft))
        before = prompt.published.text if prompt is not None and prompt.published else ""
        context = {
            "problem": _draft_problem(text),
            "changes": marked(changed_lines(before, text)),
            "audience": audience,
            "applies": rendered is not None and DRAFT_VERSION in rendered.version_ids,
            "rendered": rendered,
        }
        return TemplateResponse(request, "chatproxy/admin/draft.html", context)

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        extra = {**(extra_context or {}), **_choices(), "prompt_id": object_id or ""}
        return super().changeform_view(request, object_id, form_url, extra)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Versions are named in the ledger: a prompt is switched off, not deleted."""
        return False


@dataclass(frozen=True, slots=True)
class Audience:
    """For whom a preview is rendered."""

    plan: Plan
    model: GatewayModel
    name: str
    user_id: int

    @classmethod
    def chosen(cls, given: Mapping[str, str], user_id: int) -> "Audience | None":
        """None while plan or model is missing, or is none."""
        plan = Plan.objects.filter(code=given.get("preview_plan", "")).first()
        model = GatewayModel.objects.filter(name=given.get("preview_model", "")).first()
        if plan is None or model is None:
            return None
        return cls(plan, model, given.get("preview_user", EXAMPLE_NAME)[:LONGEST_NAME], user_id)

    def render(self, prompts: PromptSet) -> Rendered:
        return prompts.render(
            plan_code=self.plan.code,
            model=self.model.name,
            user_id=self.user_id,
            user_name=self.name,
            at=timezone.now(),
        )


def _as_typed(text: str) -> str:
    """Browsers send CRLF, and forms trim: a version should not differ by that alone."""
    return text.replace("\r\n", "\n").strip()


def _choices() -> dict[str, Any]:
    return {"preview_plans": Plan.objects.all(), "preview_models": GatewayModel.objects.all()}


def _draft(request: HttpRequest, prompt: SystemPrompt | None, text: str) -> Prompt:
    """The prompt as the form has it now, in use for everyone."""
    form = request.POST
    plans, models = form.getlist("plans"), form.getlist("gateway_models")
    return Prompt(
        # Of prompts in the same place a new one comes last.
        id=prompt.pk if prompt is not None else 2**62,
        category=form.get("category", ""),
        position=whole_number(form.get("position", "")) or 0,
        plan_codes=frozenset(
            Plan.objects.filter(pk__in=_numbers(plans)).values_list("code", flat=True)
        ),
        models=frozenset(
            GatewayModel.objects.filter(pk__in=_numbers(models)).values_list("name", flat=True)
        ),
        starts_at=None,
        ends_at=None,
        published=Text.compile(DRAFT_VERSION, text),
        challenger=None,
        challenger_percent=0,
    )


def _numbers(given: list[str]) -> list[int]:
    return [number for each in given if (number := whole_number(each)) is not None]


def _draft_problem(text: str) -> str:
    try:
        check_text(text)
    except ApiError as error:
        return str(error.message)
    return ""


def marked(lines: list[str]) -> list[tuple[str, str]]:
    """A unified difference's lines, each with its kind: added, removed, where, or none."""
    kinds = {"+": "added", "-": "removed", "@": "where"}
    return [(kinds.get(line[:1], ""), line) for line in lines]
