"""Every change that staff make through a form, with what was before and what is after; and no
change to many rows without a question."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.db.models import Manager, Model, QuerySet
from django.forms import BaseForm, ModelForm
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from accounts.audit import record_act
from accounts.models import Organization, User
from tesslate.lib.staffactions import staff_cause
from tesslate.staffroom.links import page_of
from tesslate.staffroom.lists import confirmed_or_asked
from tesslate.staffroom.once import is_first

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin

    Base = ModelAdmin[Any]
else:
    Base = object

HIDDEN = frozenset({"password", "secret", "token", "key_hash"})
LONGEST = 2000


class LinksToPages:
    """A list whose rows lead to our own page about them, where there is one."""

    def url_for_result(self, result: Model) -> str:
        return page_of(result) or str(super().url_for_result(result))  # type: ignore[misc]


class Audited(Base):
    """Mixed into every ModelAdmin by StaffSite.register."""

    show_full_result_count = False
    # Unfold's: the chips with saved views, and one button for all filters.
    list_before_template = "staffroom/list_before.html"
    list_filter_submit = True

    def save_related(
        self, request: HttpRequest, form: BaseForm, formsets: Iterable[Any], change: bool
    ) -> None:
        super().save_related(request, form, formsets, change)
        if not isinstance(form, ModelForm):
            return
        before, after = changes(form)
        for formset in formsets:
            for inline in formset.forms:
                if inline.has_changed():
                    inline_before, inline_after = changes(inline)
                    name = f"{inline.instance._meta.model_name} {inline.instance.pk}"
                    before[name], after[name] = inline_before, inline_after
        if before or after or not change:
            note(request, form.instance, "changed" if change else "added", before, after)

    def response_action(
        self, request: HttpRequest, queryset: QuerySet[Any], *args: Any, **kwargs: Any
    ) -> HttpResponse | None:
        """An action first says what it will touch and waits for a yes; many rows take a job."""
        if (page := confirmed_or_asked(self, request, queryset)) is not None:
            return page
        if "confirmed" in request.POST and not is_first(request):
            messages.info(request, "This was sent before, and done then.")
            return redirect(request.get_full_path())
        return super().response_action(request, queryset, *args, **kwargs)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> Any:
        base = super().get_changelist(request, **kwargs)
        return type(base.__name__, (LinksToPages, base), {"__module__": base.__module__})

    def delete_model(self, request: HttpRequest, obj: Model) -> None:
        before = {"name": str(obj)}
        note(request, obj, "deleted", before, None)
        super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        for obj in queryset:
            note(request, obj, "deleted", {"name": str(obj)}, None)
        super().delete_queryset(request, queryset)


def note(
    request: HttpRequest, obj: Model, verb: str, before: Any, after: dict[str, Any] | None
) -> None:
    record_act(
        action=f"{obj._meta.model_name}.{verb}",
        cause=staff_cause(request),
        target=obj,
        user=_subject(obj, User, "user"),
        organization=_subject(obj, Organization, "organization"),
        before=before,
        after=after,
    )


def changes(form: "ModelForm[Any]") -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields that differ, as JSON: what the form showed, and what was sent."""
    before: dict[str, Any] = {}
    after: dict[str, Any] = {}
    for name in form.changed_data:
        if name in form.cleaned_data:
            before[name] = plain(name, form.initial.get(name))
            after[name] = plain(name, form.cleaned_data[name])
    return before, after


def plain(name: str, value: Any) -> Any:
    """A JSON value for people to read; no secret, and no novel."""
    if name in HIDDEN:
        return "[hidden]"
    if isinstance(value, QuerySet | Manager | list | tuple | set):
        items = value.all() if isinstance(value, Manager) else value
        return [plain(name, item) for item in items]
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, User):
        # By number: the trail outlives the person's address.
        return value.pk
    return str(value)[:LONGEST]


def _subject(obj: Model, kind: type[Model], attribute: str) -> Any:
    if isinstance(obj, kind):
        return obj
    related = getattr(obj, attribute, None)
    return related if isinstance(related, kind) else None
