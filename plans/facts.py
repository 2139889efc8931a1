"""The facts behind an entitlement, read from our rows: who somebody is, what is paid for them, what
staff gave or took.

Every event about a subscription comes through here, so whatever everybody has is read by fixed
statements, and what few have (seats, grants, throttles) only where there is any.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from plans.access import is_known
from plans.decision import Facts, GrantFacts, Seat, SubscriptionFacts, ThrottleFacts
from plans.models import Plan, PlanGrant, Throttle
from plans.windows import Window as Period
from tesslate.lib.sql import fetch

_PEOPLE = """
    SELECT id, date_joined, deleted_at IS NOT NULL,
        EXISTS (SELECT FROM accounts_membership WHERE user_id = person.id),
        EXISTS (SELECT FROM plans_plangrant WHERE user_id = person.id AND revoked_at IS NULL),
        EXISTS (SELECT FROM plans_throttle WHERE user_id = person.id AND lifted_at IS NULL)
    FROM accounts_user AS person WHERE id = ANY(%s)
"""

_SUBSCRIPTIONS = """
    SELECT customer.user_id, customer.organization_id, subscription.id, status, last_good_status,
        price.plan_id, last_good_price.plan_id, quantity, current_period_start, current_period_end,
        trial_end, cancel_at, cancel_at_period_end, past_due_since, awaits_payment
    FROM plans_subscription AS subscription
        JOIN plans_customer AS customer ON customer.id = subscription.customer_id
        LEFT JOIN plans_price AS price ON price.id = subscription.price_id
        LEFT JOIN plans_price AS last_good_price
            ON last_good_price.id = subscription.last_good_price_id
    WHERE customer.user_id = ANY(%s) OR customer.organization_id = ANY(%s)
    ORDER BY subscription.id
"""

# Who is asked about is chosen outside: within, the condition would hold before the counting, and
# make everybody who is looked at alone the first.
_SEATS = """
    SELECT user_id, organization_id, membership_id, name, position FROM (
        SELECT person.id AS user_id, organization.id AS organization_id, organization.name,
            membership.id AS membership_id, row_number() OVER (
                PARTITION BY organization.id ORDER BY membership.joined_at, membership.id
            ) AS position
        FROM accounts_membership AS membership
            JOIN accounts_user AS person ON person.id = membership.user_id
            JOIN accounts_organization AS organization
                ON organization.id = membership.organization_id
        WHERE person.deleted_at IS NULL AND person.is_active AND organization.id IN (
            SELECT organization_id FROM accounts_membership WHERE user_id = ANY(%s)
        )
    ) AS numbered
    WHERE user_id = ANY(%s) ORDER BY organization_id
"""

_GRANTS = """
    SELECT * FROM plans_plangrant
    WHERE revoked_at IS NULL AND (user_id = ANY(%s) OR organization_id = ANY(%s)) ORDER BY id
"""


class _Person(NamedTuple):
    id: int
    joined_at: datetime
    is_closed: bool
    is_member: bool
    has_grants: bool
    has_throttles: bool


class _Subscription(NamedTuple):
    user_id: int | None
    organization_id: int | None
    id: int
    status: str
    last_good_status: str
    plan_id: int | None
    last_good_plan_id: int | None
    quantity: int
    period_start: datetime | None
    period_end: datetime | None
    trial_end: datetime | None
    cancel_at: datetime | None
    cancel_at_period_end: bool
    past_due_since: datetime | None
    awaits_payment: bool


def default_plan() -> Plan:
    """The plan that everyone has. Seeded; the database allows only one."""
    return Plan.objects.get(is_default=True)


def facts_for(user_ids: Sequence[int]) -> dict[int, Facts]:
    """The rows that decide, for many users in a handful of queries."""
    people = _people(user_ids)
    seats = _seats([person.id for person in people if person.is_member])
    organization_ids = {seat[0] for user_seats in seats.values() for seat in user_seats}
    of_users, of_organizations = _subscriptions(user_ids, organization_ids)
    user_grants, organization_grants = _grants(
        [person.id for person in people if person.has_grants], organization_ids
    )
    throttles = _throttles([person.id for person in people if person.has_throttles])
    # After the rows that name them: a plan made meanwhile is among these, and none is ever removed
    # that something names.
    plans = {plan.pk: plan for plan in Plan.objects.raw("SELECT * FROM plans_plan")}
    default = next((plan for plan in plans.values() if plan.is_default), None) or default_plan()
    facts: dict[int, Facts] = {}
    for person in people:
        subscriptions = [_subscription_facts(row, plans) for row in of_users[person.id]]
        grants = [_grant_facts(row, plans) for row in user_grants[person.id]]
        for organization_id, seat in seats[person.id]:
            subscriptions += [
                _subscription_facts(row, plans, seat) for row in of_organizations[organization_id]
            ]
            grants += [
                _grant_facts(row, plans, seat.organization)
                for row in organization_grants[organization_id]
            ]
        facts[person.id] = Facts(
            default_plan=default,
            joined_at=person.joined_at,
            subscriptions=tuple(subscriptions),
            grants=tuple(grants),
            throttles=tuple(throttles[person.id]),
            account_closed=person.is_closed,
        )
    return facts


def _people(user_ids: Sequence[int]) -> list[_Person]:
    return [_Person(*row) for row in fetch(_PEOPLE, [list(user_ids)])]


def _subscription_facts(
    row: _Subscription, plans: Mapping[int, Plan], seat: Seat | None = None
) -> SubscriptionFacts:
    """What a mirrored subscription says, with the last good word where the new one is unknown."""
    known = is_known(row.status)
    plan_id = row.plan_id or row.last_good_plan_id
    period = None
    if row.period_start and row.period_end:
        period = Period(row.period_start, row.period_end)
    return SubscriptionFacts(
        id=row.id,
        status=row.status if known else row.last_good_status,
        unknown_status="" if known else row.status,
        plan=None if plan_id is None else plans[plan_id],
        price_is_mapped=row.plan_id is not None,
        quantity=row.quantity,
        period=period,
        trial_end=row.trial_end if row.status == "trialing" else None,
        ends_at=row.cancel_at or (row.period_end if row.cancel_at_period_end else None),
        past_due_since=row.past_due_since,
        awaits_payment=row.awaits_payment,
        seat=seat,
    )


def _seats(user_ids: Sequence[int]) -> defaultdict[int, list[tuple[int, Seat]]]:
    """Each user's organizations with the place they take there; closed accounts take none."""
    places: defaultdict[int, list[tuple[int, Seat]]] = defaultdict(list)
    if user_ids:
        found = fetch(_SEATS, [list(user_ids), list(user_ids)])
        for user_id, organization_id, membership_id, name, position in found:
            places[user_id].append((organization_id, Seat(membership_id, name, position)))
    return places


def _subscriptions(
    user_ids: Sequence[int], organization_ids: Iterable[int]
) -> tuple[defaultdict[int, list[_Subscription]], defaultdict[int, list[_Subscription]]]:
    of_users: defaultdict[int, list[_Subscription]] = defaultdict(list)
    of_organizations: defaultdict[int, list[_Subscription]] = defaultdict(list)
    for values in fetch(_SUBSCRIPTIONS, [list(user_ids), list(organization_ids)]):
        row = _Subscription(*values)
        if row.user_id is not None:
            of_users[row.user_id].append(row)
        elif row.organization_id is not None:
            of_organizations[row.organization_id].append(row)
    return of_users, of_organizations


def _grants(
    user_ids: Sequence[int], organization_ids: set[int]
) -> tuple[defaultdict[int, list[PlanGrant]], defaultdict[int, list[PlanGrant]]]:
    of_users: defaultdict[int, list[PlanGrant]] = defaultdict(list)
    of_organizations: defaultdict[int, list[PlanGrant]] = defaultdict(list)
    if not user_ids and not organization_ids:
        return of_users, of_organizations
    for row in PlanGrant.objects.raw(_GRANTS, [list(user_ids), list(organization_ids)]):
        if row.user_id is not None:
            of_users[row.user_id].append(row)
        elif row.organization_id is not None:
            of_organizations[row.organization_id].append(row)
    return of_users, of_organizations


def _throttles(user_ids: Sequence[int]) -> defaultdict[int, list[ThrottleFacts]]:
    of_users: defaultdict[int, list[ThrottleFacts]] = defaultdict(list)
    if user_ids:
        for row in Throttle.objects.filter(user_id__in=user_ids, lifted_at=None):
            facts = ThrottleFacts(row.pk, row.percent, row.ends_at, row.reason)
            of_users[row.user_id].append(facts)
    return of_users


def _grant_facts(row: PlanGrant, plans: Mapping[int, Plan], organization: str = "") -> GrantFacts:
    return GrantFacts(
        id=row.pk,
        plan=plans[row.plan_id],
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        reason=row.reason,
        organization=organization,
    )
