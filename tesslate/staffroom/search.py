"""One search for everything by which somebody may name a customer, or a thing of theirs."""

import re
import uuid
from collections.abc import Callable, Iterator

from django.db.models import Q
from django.http import HttpRequest
from unfold.dataclasses import SearchResult

from accounts.models import Organization, User
from chatproxy.models import ChatRequest
from llmkeys.models import VirtualKey
from plans.models import Customer, StripeEvent, Subscription
from tesslate.staffroom.links import customer_page, page_of

MOST = 8
LAST_FOUR = re.compile(r"(?:sk-)?[….]*([A-Za-z0-9_-]{4})")
REQUEST_ID = re.compile(r"(?:req_)?([0-9a-f]{32})", re.IGNORECASE)


def search_callback(request: HttpRequest, term: str) -> list[SearchResult]:
    """Unfold's COMMAND search: only what this member of staff may see."""
    return find(term, may_see=request.user.has_perm)


def find(term: str, *, may_see: Callable[[str], bool]) -> list[SearchResult]:
    term = term.strip()
    if len(term) < 3:
        return []
    results: list[SearchResult] = []
    for source, permission in SOURCES:
        if may_see(permission):
            results += source(term)
    return results


def _people(term: str) -> Iterator[SearchResult]:
    """By e-mail address, name, or Firebase uid."""
    found = User.objects.filter(
        Q(email__icontains=term) | Q(display_name__icontains=term) | Q(firebase_uid__iexact=term)
    ).order_by("email")
    for user in found[:MOST]:
        yield _customer(user, user.display_name or "customer")


def _payers(term: str) -> Iterator[SearchResult]:
    """By the id of a customer, subscription or event at Stripe. Ids keep their case at Stripe, and
    Unfold's search has lowered it."""
    if term.startswith("cus_"):
        for payer in Customer.objects.filter(stripe_customer_id__iexact=term)[:MOST]:
            yield from _payer(payer, term)
    elif term.startswith("sub_"):
        rows = Subscription.objects.filter(stripe_subscription_id__iexact=term)
        for row in rows.select_related("customer__user", "customer__organization")[:MOST]:
            yield from _payer(row.customer, f"{row.stripe_subscription_id}, {row.status}")


def _payer(payer: Customer, why: str) -> Iterator[SearchResult]:
    if payer.user is not None:
        yield _customer(payer.user, why)
    elif payer.organization is not None:
        yield _result(payer.organization, why, "domain")


def _events(term: str) -> Iterator[SearchResult]:
    if term.startswith("evt_"):
        for event in StripeEvent.objects.filter(event_id__iexact=term).defer("payload")[:MOST]:
            yield _result(event, event.get_state_display(), "inbox")


def _organizations(term: str) -> Iterator[SearchResult]:
    for organization in Organization.objects.filter(name__icontains=term)[:MOST]:
        yield _result(organization, "organization", "domain")


def _keys(term: str) -> Iterator[SearchResult]:
    """By the last four characters of a key."""
    match = LAST_FOUR.fullmatch(term)
    if match is None:
        return
    keys = VirtualKey.objects.filter(last_four__iexact=match[1]).select_related("user")
    for key in keys[:MOST]:
        yield _customer(key.user, f"key …{key.last_four}, {key.get_lifecycle_display().lower()}")


def _requests(term: str) -> Iterator[SearchResult]:
    match = REQUEST_ID.fullmatch(term.replace("-", ""))
    if match is None:
        return
    for row in ChatRequest.objects.filter(pk=uuid.UUID(match[1])).select_related("user")[:MOST]:
        yield _result(row, f"{row.user}, {row.model}, {row.get_outcome_display()}", "forum")
        yield _customer(row.user, "made this request")


def _customer(user: User, why: str) -> SearchResult:
    return SearchResult(user.email, why, customer_page(user.pk), "person")


def _result(row: Organization | StripeEvent | ChatRequest, why: str, icon: str) -> SearchResult:
    return SearchResult(str(row), why, page_of(row), icon)


SOURCES = (
    (_people, "accounts.view_user"),
    (_payers, "plans.view_customer"),
    (_events, "plans.view_stripeevent"),
    (_keys, "llmkeys.view_virtualkey"),
    (_requests, "chatproxy.view_chatrequest"),
    (_organizations, "accounts.view_organization"),
)
