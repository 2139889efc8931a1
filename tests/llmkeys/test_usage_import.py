"""The gateway's spend log on our books: everything once, whatever comes late, twice or broken."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest
from django.core.management import call_command
from django.db.models import Sum
from django.utils import timezone

from llmkeys import usage_import
from llmkeys.litellm_errors import LiteLLMUnavailable
from llmkeys.models import UsageDay, UsageEntry, UsageHour, UsageImport, VirtualKey
from llmkeys.usage_books import Attribution, rebuild_day, write_calls
from llmkeys.usage_import import Report, import_usage
from llmkeys.usage_log import Unreadable, read_row
from plans.models import CurrentEntitlement
from sandbox.litellm.routes_spend import shown
from tests.factories import MembershipFactory
from tests.llmkeys.conftest import entitle
from tests.llmkeys.spendlog import NOON, call_of, log
from tests.llmkeys.standin import StandIn

pytestmark = pytest.mark.django_db
LATER = NOON + timedelta(hours=1)


def run(at: datetime = LATER, since: datetime | None = None) -> Report:
    report = import_usage(at=at, since=since)
    assert report is not None
    return report


@pytest.fixture
def key(standin: StandIn, key: VirtualKey) -> VirtualKey:
    """Alice's key, from before the first call."""
    VirtualKey.objects.update(created_at=NOON - timedelta(hours=1))
    key.refresh_from_db()
    return key


def cost_of(sums: Any = UsageDay) -> Decimal:
    return Decimal(sums.objects.aggregate(dollars=Sum("cost"))["dollars"] or 0)


def sums(table: Any) -> list[dict[str, Any]]:
    rows = list(table.objects.values())
    for row in rows:
        del row["id"]
    return sorted(rows, key=str)


def test_a_call_is_on_the_books_with_whose_it_was(
    standin: StandIn, key: VirtualKey, user: Any
) -> None:
    log(standin, call_of(key, request_id="chatcmpl-1"))
    assert run().added == 1
    entry = UsageEntry.objects.get()
    assert (entry.user, entry.key, entry.plan_code) == (user, key, "free")
    assert (entry.model, entry.provider_model, entry.provider) == (
        "small",
        "openai/small",
        "openai",
    )
    assert (entry.external_id, entry.started_at) == ("chatcmpl-1", NOON)
    assert (entry.prompt_tokens, entry.completion_tokens) == (100, 50)
    assert entry.cost == Decimal("0.001")


def test_the_seat_that_an_organization_pays_for_is_named(
    standin: StandIn, key: VirtualKey, user: Any, pro: Any
) -> None:
    seat = MembershipFactory.create(user=user)
    source = CurrentEntitlement.Source.ORGANIZATION
    entitle(user, pro, source=source, source_id=seat.pk)
    log(standin, call_of(key))
    run()
    assert UsageEntry.objects.get().organization == seat.organization


def test_sums_by_hour_and_day_are_those_of_the_entries(standin: StandIn, key: VirtualKey) -> None:
    log(
        standin,
        call_of(key),
        call_of(key, NOON + timedelta(minutes=59)),
        call_of(key, NOON - timedelta(minutes=30), model_group="large"),
        call_of(key, NOON + timedelta(hours=13), status="failure", input_cost=0, output_cost=0),
    )
    run(NOON + timedelta(days=1))
    hours = UsageHour.objects.order_by("hour").values_list("hour__hour", "requests", "cost")
    assert [row[:2] for row in hours] == [(11, 1), (12, 2), (1, 0)]
    days = UsageDay.objects.order_by("day", "model")
    assert [(row.day.day, row.model, row.requests, row.failed) for row in days] == [
        (10, "large", 1, 0),
        (10, "small", 2, 0),
        (11, "small", 0, 1),
    ]
    assert cost_of(UsageHour) == cost_of(UsageDay) == cost_of(UsageEntry) == Decimal("0.003")


def test_U09_a_row_that_is_read_again_counts_once(standin: StandIn, key: VirtualKey) -> None:
    log(standin, call_of(key))
    run()
    before = sums(UsageDay)
    again = run(LATER + timedelta(seconds=30), since=NOON - timedelta(days=1))
    assert again.read > 0
    assert again.added == 0
    assert UsageEntry.objects.count() == 1
    assert sums(UsageDay) == before


def test_U13_rows_that_arrive_between_pages_leave_no_gap_and_count_once(
    standin: StandIn, key: VirtualKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With every page two new calls arrive: one ahead of all, one in the middle of what is
    being read."""
    monkeypatch.setattr(usage_import, "MAX_PAGE", 5)
    monkeypatch.setattr("llmkeys.litellm_client.MAX_PAGE", 5)
    log(standin, *(call_of(key, NOON + timedelta(seconds=n)) for n in range(23)))
    arriving = 0

    def arrive(request: httpx.Request) -> None:
        nonlocal arriving
        if request.url.path == "/spend/logs/v2" and arriving < 3:
            arriving += 1
            log(standin, call_of(key, NOON + timedelta(seconds=20.5)))
            log(standin, call_of(key, NOON + timedelta(minutes=arriving)))

    standin.after = lambda request: arrive(request)
    run()
    run(LATER + timedelta(seconds=30), since=NOON)
    assert UsageEntry.objects.count() == 23 + 2 * 3
    assert cost_of() == Decimal("0.029")
    assert cost_of(UsageHour) == cost_of()


@pytest.mark.parametrize(
    ("fields", "apart"),
    [
        ({"request_id": "reused", "started": 5.0}, True),
        ({"request_id": "reused", "api_key": "another"}, True),
        ({"request_id": "reused"}, False),
    ],
)
def test_U14_a_request_id_that_a_provider_reuses_names_two_calls(
    fields: dict[str, Any], apart: bool
) -> None:
    """The same id with another start or key is another call. LiteLLM itself keeps one row for an
    id; two gateways, or one whose log was cleaned, tell of two."""
    call = call_of(None, request_id="reused", call_id="call-1")
    other = call_of(None, **{"call_id": "call-1", "request_id": "reused", **fields})
    rows = [read_row(shown(one, zone="Z")) for one in (call, other)]
    added = write_calls([(row, Attribution()) for row in rows], at=NOON)
    assert added.entries == (2 if apart else 1)


def test_U14_a_call_without_a_request_id_is_known_by_its_call_id_or_by_what_it_says() -> None:
    row = {"startTime": "2026-11-10T12:00:00Z", "spend": 0.5, "api_key": "k", "request_id": ""}
    assert read_row({**row, "litellm_call_id": "call-7"}).external_id == "call-7"
    nameless = read_row(row).external_id
    assert nameless == read_row(dict(reversed(row.items()))).external_id
    assert nameless != read_row({**row, "spend": 0.6}).external_id


def test_U10_tokens_without_a_price_are_flagged(standin: StandIn, key: VirtualKey) -> None:
    log(standin, call_of(key, input_cost=0, output_cost=0), call_of(key))
    run()
    assert UsageEntry.objects.filter(is_unpriced=True).count() == 1
    assert UsageDay.objects.get().unpriced == 1


def test_U10_a_cached_answer_and_a_refusal_cost_nothing_by_right() -> None:
    row = {"startTime": "2026-11-10T12:00:00Z", "spend": 0, "prompt_tokens": 5}
    assert read_row(row).is_unpriced
    assert not read_row({**row, "cache_hit": "True"}).is_unpriced
    assert not read_row({**row, "status": "failure"}).is_unpriced


def test_U15_a_late_row_changes_the_day_it_belongs_to(standin: StandIn, key: VirtualKey) -> None:
    log(standin, call_of(key))
    run(NOON + timedelta(days=2))
    log(standin, call_of(key, request_id="late"))
    report = run(NOON + timedelta(days=3, minutes=1))
    assert (report.added, report.days) == (1, {NOON.date()})
    assert UsageDay.objects.get(day=NOON.date()).cost == Decimal("0.002")


def test_a_call_of_a_key_that_is_not_ours_is_nobodys_and_visible(
    standin: StandIn, key: VirtualKey
) -> None:
    log(standin, call_of(None))
    run()
    assert UsageEntry.objects.get().user is None
    assert UsageDay.objects.get().cost == Decimal("0.001")


def test_an_import_that_fails_goes_on_where_it_was(standin: StandIn, key: VirtualKey) -> None:
    log(standin, call_of(key), call_of(key, NOON + timedelta(days=1)))
    end = NOON + timedelta(days=1, hours=1)
    asked = 0

    def die(request: httpx.Request) -> None:
        nonlocal asked
        asked += request.url.path == "/spend/logs/v2"
        if asked == 14:
            raise httpx.ReadTimeout("gone")

    standin.before = lambda request: die(request)
    with pytest.raises(LiteLLMUnavailable):
        run(end)
    state = UsageImport.objects.get()
    assert NOON < state.read_until < end
    assert (state.claimed_until, state.last_error) == (None, "/spend/logs/v2: ReadTimeout")
    assert UsageEntry.objects.count() == 1
    standin.before = None
    assert run(end).added == 1
    assert UsageImport.objects.get().read_until == end


def test_two_workers_do_not_import_at_once(standin: StandIn, key: VirtualKey) -> None:
    run()
    UsageImport.objects.update(claimed_until=timezone.now() + timedelta(minutes=1))
    assert import_usage(at=LATER) is None
    UsageImport.objects.update(claimed_until=timezone.now() - timedelta(seconds=1))
    assert import_usage(at=LATER) is not None


def test_the_watermark_never_moves_back(standin: StandIn, key: VirtualKey) -> None:
    run()
    run(LATER, since=NOON - timedelta(days=1))
    assert UsageImport.objects.get().read_until == LATER


@pytest.mark.parametrize(
    "row",
    [
        {"spend": 1},
        {"startTime": "yesterday", "spend": 1},
        {"startTime": "2026-11-10T12:00:00Z", "spend": None},
        {"startTime": "2026-11-10T12:00:00Z", "spend": "NaN"},
        {"startTime": "2026-11-10T12:00:00Z", "spend": 1e300},
    ],
)
def test_nothing_is_guessed_from_a_row_that_makes_no_sense(row: dict[str, Any]) -> None:
    with pytest.raises(Unreadable):
        read_row(row)


def test_rows_that_make_no_sense_are_counted_and_stop_nothing(
    standin: StandIn, key: VirtualKey
) -> None:
    log(standin, call_of(key))

    def spoil(request: httpx.Request) -> httpx.Response | None:
        if request.url.path != "/spend/logs/v2":
            return None
        return httpx.Response(200, json={"data": [{"request_id": "x"}]}, request=request)

    standin.after = spoil
    run()
    assert UsageImport.objects.get().rows_unreadable > 0
    assert not UsageEntry.objects.exists()


def test_rebuilt_sums_equal_those_that_were_kept(standin: StandIn, key: VirtualKey) -> None:
    log(standin, *(call_of(key, NOON + timedelta(hours=n)) for n in range(30)), call_of(None))
    run(NOON + timedelta(days=2))
    kept = sums(UsageHour), sums(UsageDay)
    UsageDay.objects.update(cost=7)
    UsageHour.objects.filter(hour=NOON).delete()
    call_command("rebuild_usage")
    assert (sums(UsageHour), sums(UsageDay)) == kept


def test_a_day_is_rebuilt_without_touching_others(standin: StandIn, key: VirtualKey) -> None:
    log(standin, call_of(key), call_of(key, NOON + timedelta(days=1)))
    run(NOON + timedelta(days=2))
    UsageDay.objects.update(cost=7)
    rebuild_day(date(2026, 11, 11))
    costs = UsageDay.objects.order_by("day").values_list("cost", flat=True)
    assert list(costs) == [Decimal(7), Decimal("0.001")]


def test_moments_of_the_log_are_read_in_every_shape() -> None:
    for text in ("2026-11-10T12:00:00Z", "2026-11-10T13:00:00+01:00", "2026-11-10 12:00:00"):
        row = read_row({"startTime": text, "spend": 0})
        assert row.started_at == datetime(2026, 11, 10, 12, tzinfo=UTC)
