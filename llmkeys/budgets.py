"""Several keys, one budget.

LiteLLM counts money per key. While a user has more than one (a rotation's overlap, or a plan that
allows several), each gets a part, so that what all of them can spend in a window is never more than
the budget: *the sum over all keys of what they have spent and what they may still spend equals the
budget*, keys that are gone included. Parts are worked out anew only when something other than
spending changes (``basis``), or when a key has spent more than its part, as it can until it is
lowered; they are lowered at the gateway before others are raised.
"""

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal

from django.db import transaction

from llmkeys import marking
from llmkeys.desired import budget_of, entitlement_of, window_of
from llmkeys.litellm_client import LiteLLMClient
from llmkeys.models import VirtualKey
from llmkeys.spec import MONEY_TOLERANCE, State, Window, money, observe_key, spend_of, window_in
from plans.models import CurrentEntitlement
from tesslate.lib.cause import Cause
from tesslate.lib.sql import fetch

# The share of what is left that goes to a key: one that is being replaced needs little.
WEIGHTS = {VirtualKey.Lifecycle.ACTIVE: 4, VirtualKey.Lifecycle.RETIRING: 1}
MICRO = Decimal("0.000001")


@dataclass(frozen=True, slots=True)
class Part:
    """One live key: what it has spent itself in this window, and its claim on what is left."""

    key_id: int
    spent: Decimal
    weight: int


def split(
    budget: Decimal, parts: Sequence[Part], *, spent_elsewhere: Decimal
) -> dict[int, Decimal]:
    """What each key may have spent by the end of the window. Sums to the budget, or to what has
    been spent where that is more."""
    left = max(Decimal(0), budget - spent_elsewhere - sum(part.spent for part in parts))
    total = sum(part.weight for part in parts)
    return {
        part.key_id: part.spent + (left * part.weight / total).quantize(MICRO, ROUND_DOWN)
        for part in parts
    }


def raises_budget(desired: State | None, observed: State | None) -> bool:
    """Whether bringing the key into step lets it spend more than before."""
    if desired is None:
        return False
    before = money((observed or {}).get("max_budget")) or Decimal(0)
    return (money(desired["max_budget"]) or Decimal(0)) > before


def outspends(desired: State | None, spend: Decimal | None) -> bool:
    """Whether a key turns out to have spent more than it was to be lowered to."""
    allowed = None if desired is None else money(desired["max_budget"])
    return allowed is not None and spend is not None and spend > allowed + MONEY_TOLERANCE


def settle(
    client: LiteLLMClient, keys: Sequence[VirtualKey], *, in_doubt: Collection[int] = ()
) -> tuple[list[VirtualKey], set[int]]:
    """Give each of these keys its part of its user's budget, where the parts are out of date.

    ``in_doubt``: those that an earlier worker may have changed without writing it down.
    Returns the keys, and the ids of those that must wait until another key has been lowered.
    Raises LiteLLMError when spend cannot be read.
    """
    families = _families(keys)
    mine = {key.pk: key for key in keys}
    waiting: set[int] = set()
    for user_id, family in families.items():
        claimed = [key for key in keys if key.user_id == user_id]
        together = [mine.get(key.pk, key) for key in family]
        for key in together:
            doubtful = key.pk in in_doubt if key.pk in mine else key.in_doubt
            if doubtful and key.observed is None:
                _look(client, key)
        _settle_family(client, together, claimed)
        if _must_wait([key for key in family if key.pk not in mine]):
            waiting |= {key.pk for key in claimed if key.budget_cap is not None and _grows(key)}
    return list(keys), waiting


_SEVERAL = """
    SELECT user_id FROM llmkeys_virtualkey
    WHERE user_id = ANY(%s)
        AND NOT (lifecycle = 'retired' AND spend = 0 AND removed_at IS NOT NULL)
    GROUP BY user_id HAVING count(*) > 1 OR count(budget_cap) > 0
"""


def _families(keys: Iterable[VirtualKey]) -> dict[int, list[VirtualKey]]:
    """All keys that count in the present window, for each user who has several, or had."""
    several = [pk for (pk,) in fetch(_SEVERAL, [[key.user_id for key in keys]])]
    families: dict[int, list[VirtualKey]] = defaultdict(list)
    if not several:
        return families
    counting = (
        VirtualKey.objects.filter(user_id__in=several)
        .exclude(lifecycle=VirtualKey.Lifecycle.RETIRED, spend=0, removed_at__isnull=False)
        .select_related("user__current_entitlement__plan", "user__spend_limit")
        .order_by("pk")
    )
    for key in counting:
        families[key.user_id].append(key)
    return families


def _look(client: LiteLLMClient, key: VirtualKey) -> None:
    """Take over what the gateway holds of a key that nobody saw being made: its spend counts."""
    row = client.get_key(key.key_hash)
    if row is None:
        return
    key.observed, key.spend = observe_key(row), spend_of(row)
    window = window_in(key.observed)
    if window is not None:
        key.window, key.window_start = str(window), window.start
    VirtualKey.objects.filter(pk=key.pk, observed=None).update(
        observed=key.observed, spend=key.spend, window=key.window, window_start=key.window_start
    )


def _settle_family(
    client: LiteLLMClient, family: Sequence[VirtualKey], claimed: Sequence[VirtualKey]
) -> None:
    entitlement = entitlement_of(family[0])
    live = [key for key in family if key.lifecycle != VirtualKey.Lifecycle.RETIRED]
    if entitlement is None or not live:
        return
    window = str(_put_in_one_window(live, family, entitlement))
    gone = [
        key
        for key in family
        if key.lifecycle == VirtualKey.Lifecycle.RETIRED and key.window == window
    ]
    if len(live) == 1 and not gone:
        if live[0].budget_cap is not None:
            _store(live[0], cap=None, basis="", carried=live[0].carried_spend)
        return
    budget = budget_of(entitlement)
    basis = _basis(window, budget, live, gone)
    if all(key.budget_basis == basis and not _has_outspent(key, window) for key in live):
        return
    parts = [Part(key.pk, _own_spend(client, key, window), WEIGHTS[_role(key)]) for key in live]
    spent = {part.key_id: part.spent for part in parts}
    caps = split(budget, parts, spent_elsewhere=sum((_final(key) for key in gone), Decimal(0)))
    for key in live:
        carried = _carried(key, window, spent)
        _store(key, cap=caps[key.pk] + carried, basis=basis, carried=carried)
    others = {key.pk for key in live} - {key.pk for key in claimed}
    if others:
        with transaction.atomic():
            marking.mark_keys(
                VirtualKey.objects.filter(pk__in=others), cause=Cause.system("budget split")
            )


def _put_in_one_window(
    live: Iterable[VirtualKey], family: Iterable[VirtualKey], entitlement: CurrentEntitlement
) -> Window:
    """The furthest that any key of theirs was in, one that is gone included: a worker may have died
    after it took one of them on."""
    windows = [window_of(key, entitlement) for key in family]
    furthest = Window(max(w.start for w in windows), max(w.resets for w in windows))
    for key in live:
        if window_of(key, entitlement) != furthest:
            key.window_start, key.spend_resets = furthest.start, furthest.resets
            VirtualKey.objects.filter(pk=key.pk).update(
                window_start=key.window_start, spend_resets=key.spend_resets
            )
    return furthest


def _basis(
    window: str, budget: Decimal, live: Iterable[VirtualKey], gone: Iterable[VirtualKey]
) -> str:
    facts = [
        window,
        str(budget),
        *(f"{key.pk} {key.lifecycle}" for key in live),
        *(f"{key.pk} spent {_final(key)}" for key in gone),
    ]
    return hashlib.sha256("|".join(facts).encode()).hexdigest()


def _has_outspent(key: VirtualKey, window: str) -> bool:
    part = key.budget_cap
    return part is not None and key.window == window and key.spend > part + MONEY_TOLERANCE


def _role(key: VirtualKey) -> VirtualKey.Lifecycle:
    return VirtualKey.Lifecycle(key.lifecycle)


def _own_spend(client: LiteLLMClient, key: VirtualKey, window: str) -> Decimal:
    """What this key has spent in the window, without what it took over."""
    if key.observed is None:
        return (
            max(Decimal(0), key.spend - key.carried_spend) if key.window == window else Decimal(0)
        )
    row = client.get_key(key.key_hash)
    if row is None:
        spend, seen = key.spend, key.window
    else:
        spend, seen = spend_of(row), observe_key(row)["metadata"].get("window")
    return max(Decimal(0), spend - key.carried_spend) if seen == window else Decimal(0)


def _final(key: VirtualKey) -> Decimal:
    """What a key that must go has spent; until it is gone, what it could still spend counts."""
    spend = key.spend
    if key.removed_at is None and key.observed is not None:
        spend = max(spend, money(key.observed_value.get("max_budget")) or Decimal(0))
    return max(Decimal(0), spend - key.carried_spend)


def _carried(key: VirtualKey, window: str, spent: dict[int, Decimal]) -> Decimal:
    """The spend that a key shows besides its own: that of the key which it replaces.

    Fixed when the key is about to be made, gone with the window.
    """
    if key.observed is None and key.window == "" and key.replaces_id is not None:
        return spent.get(key.replaces_id, Decimal(0))
    return key.carried_spend if key.window == window else Decimal(0)


def _store(key: VirtualKey, *, cap: Decimal | None, basis: str, carried: Decimal) -> None:
    key.budget_cap, key.budget_basis, key.carried_spend = cap, basis, carried
    VirtualKey.objects.filter(pk=key.pk).update(
        budget_cap=cap, budget_basis=basis, carried_spend=carried
    )


def _must_wait(unclaimed: Iterable[VirtualKey]) -> bool:
    """Whether a key that nobody works on here may still spend more than its part."""
    for key in unclaimed:
        if key.lifecycle == VirtualKey.Lifecycle.RETIRED or key.observed is None:
            continue
        allowed = money(key.observed_value.get("max_budget"))
        if key.budget_cap is not None and (
            allowed is None or allowed > key.budget_cap + MONEY_TOLERANCE
        ):
            return True
    return False


def _grows(key: VirtualKey) -> bool:
    before = money(key.observed_value.get("max_budget")) or Decimal(0)
    return key.budget_cap is not None and key.budget_cap > before
