"""The customer page and what can be done from it."""

from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.models import Organization, User
from llmkeys.explain import explain_access, is_allowed
from llmkeys.limits import side_by_side
from plans.models import GatewayModel
from tesslate.lib.errors import ApiError
from tesslate.lib.reauthentication import password_problem
from tesslate.lib.staffactions import staff_cause
from tesslate.site.account import account_page
from tesslate.staffroom.caller import staff_user
from tesslate.staffroom.customer_actions import ACTIONS, Action, actions_for
from tesslate.staffroom.customers import customer_page, requests_list
from tesslate.staffroom.links import list_of
from tesslate.staffroom.models import CustomerNote
from tesslate.staffroom.once import is_first, new_submission
from tesslate.staffroom.organizations import organization_page

LONGEST_NOTE = 5000


def require(request: HttpRequest, permission: str) -> None:
    if not request.user.has_perm(permission):
        raise PermissionDenied


def staff_page(request: HttpRequest, template: str, **context: Any) -> HttpResponse:
    return render(request, f"staffroom/{template}", {**admin.site.each_context(request), **context})


@require_safe
def customer(request: HttpRequest, user_id: int) -> HttpResponse:
    require(request, "accounts.view_user")
    subject = get_object_or_404(User, pk=user_id)
    return staff_page(
        request,
        "customer.html",
        title=subject.display_name or f"Customer {subject.pk}",
        page=customer_page(subject),
        actions=actions_for(staff_user(request), subject),
        requests_url=requests_list(subject),
        may_note=request.user.has_perm("staffroom.add_customernote"),
    )


@require_safe
def access(request: HttpRequest, user_id: int) -> HttpResponse:
    """Why may, or may not, this customer call a model; and their limits, side by side.

    Looking asks the gateway, and tries the key.
    """
    require(request, "llmkeys.view_virtualkey")
    subject = get_object_or_404(User, pk=user_id)
    models = list(GatewayModel.objects.order_by("name").values_list("name", flat=True))
    asked = request.GET.get("model", "")
    links = explain_access(subject, asked) if asked else []
    return staff_page(
        request,
        "access.html",
        title="Access explained",
        subtitle=str(subject),
        subject=subject,
        models=models,
        asked=asked,
        links=links,
        allowed=is_allowed(links),
        limits=[
            {
                name: ", ".join(value) or "none" if isinstance(value, list) else value
                for name, value in row
            }
            for row in map(dict.items, side_by_side(subject))
        ],
    )


@require_safe
def organization(request: HttpRequest, organization_id: int) -> HttpResponse:
    require(request, "accounts.view_organization")
    subject = get_object_or_404(Organization, pk=organization_id)
    page = organization_page(subject)
    stripe_id = page.payer.stripe_customer_id if page.payer else None
    return staff_page(
        request,
        "organization.html",
        title=subject.name,
        page=page,
        events_url=list_of("plans.stripeevent", f"q={stripe_id}") if stripe_id else "",
    )


@require_safe
def view_as(request: HttpRequest, user_id: int) -> HttpResponse:
    """The account page as this customer sees it. Nobody's session changes; nothing on it works."""
    require(request, "accounts.view_user")
    subject = get_object_or_404(User, pk=user_id)
    return render(
        request,
        "site/account.html",
        {
            "page": account_page(subject),
            "viewed": subject,
            "api_base": f"{settings.PUBLIC_URL}/api/proxy/v1",
            "config": {"activating": False},
        },
    )


@require_POST
def add_note(request: HttpRequest, user_id: int) -> HttpResponse:
    require(request, "staffroom.add_customernote")
    subject = get_object_or_404(User, pk=user_id)
    text = request.POST.get("text", "").strip()
    if not text:
        messages.error(request, "The note is empty.")
    elif len(text) > LONGEST_NOTE:
        messages.error(request, f"A note has at most {LONGEST_NOTE:,} characters.")
    else:
        CustomerNote.objects.create(user=subject, author=staff_user(request), text=text)
    return redirect("admin:customer", user_id=subject.pk)


@sensitive_post_parameters("password")
@require_http_methods(["GET", "POST"])
def act(request: HttpRequest, user_id: int, name: str) -> HttpResponse:
    """Say what will happen; on the form's return, do it."""
    action = ACTIONS.get(name)
    if action is None:
        raise Http404
    require(request, action.permission)
    subject = get_object_or_404(User, pk=user_id)
    if not action.is_for(subject):
        messages.info(request, "There is nothing to do: somebody was faster.")
        return redirect("admin:customer", user_id=subject.pk)
    form = action.form(request.POST if request.method == "POST" else None, customer=subject)
    problem = ""
    if request.method == "POST" and form.is_valid():
        problem = password_problem(request) if action.is_grave else ""
        problem = problem or _run(request, action, subject, form.cleaned_data)
        if not problem:
            return redirect("admin:customer", user_id=subject.pk)
    return staff_page(
        request,
        "confirm.html",
        title=action.label,
        subtitle=str(subject),
        action=action,
        warnings=action.warnings(subject),
        subject=subject,
        form=form,
        problem=problem,
        submission=new_submission(),
    )


def _run(request: HttpRequest, action: Action, subject: User, data: dict[str, Any]) -> str:
    if not is_first(request):
        messages.info(request, "This was sent before, and done then.")
        return ""
    try:
        done = action.run(subject, data, staff_cause(request))
    except ApiError as error:
        return error.message
    messages.success(request, done)
    return ""
