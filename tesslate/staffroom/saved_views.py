"""Lists with their filters, kept under a name."""

from django.apps import apps
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect
from django.views.decorators.http import require_POST

from tesslate.staffroom.caller import staff_user
from tesslate.staffroom.customers_views import require
from tesslate.staffroom.links import list_of
from tesslate.staffroom.models import SavedView

LONGEST_NAME = 60
LONGEST_QUERY = 2000
MOST_VIEWS = 30
# Which page of a list one happened to look at is no part of a view.
PASSING = ("p", "all", "e")


def kept(query: str) -> str:
    """What of a list's address is worth keeping."""
    values = QueryDict(query, mutable=True)
    for name in PASSING:
        values.pop(name, None)
    return values.urlencode()


@require_POST
def save(request: HttpRequest, label: str) -> HttpResponse:
    """Keep the filters under a name; the same name again replaces what it stood for."""
    user = staff_user(request)
    address = list_of(label) if _is_model(label) else ""
    if not address:
        messages.error(request, "There is no such list.")
        return redirect("admin:index")
    app, model = label.split(".")
    require(request, f"{app}.view_{model}")
    name, query = request.POST.get("name", "").strip(), kept(request.POST.get("query", ""))
    back = redirect(f"{address}?{query}")
    if not name or len(name) > LONGEST_NAME:
        messages.error(request, f"A name has 1 to {LONGEST_NAME} characters.")
    elif not query or len(query) > LONGEST_QUERY:
        messages.error(request, "There are no filters to keep, or too many.")
    elif SavedView.objects.filter(owner=user, model=label).count() >= MOST_VIEWS:
        messages.error(request, f"{MOST_VIEWS} views of one list are enough: remove one first.")
    else:
        SavedView.objects.update_or_create(
            owner=user,
            model=label,
            name=name,
            defaults={"query": query, "is_shared": "shared" in request.POST},
        )
        messages.success(request, f"Kept as “{name}”.")
    return back


@require_POST
def remove(request: HttpRequest, view_id: int) -> HttpResponse:
    view = get_object_or_404(SavedView, pk=view_id, owner=staff_user(request))
    view.delete()
    messages.success(request, f"“{view.name}” is gone.")
    return redirect(list_of(view.model))


def _is_model(label: str) -> bool:
    try:
        apps.get_model(label)
    except (LookupError, ValueError):
        return False
    return True
