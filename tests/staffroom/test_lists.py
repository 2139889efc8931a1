import csv
import io

import pytest
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME

from accounts.models import AuditEntry
from plans.models import StripeEvent
from tesslate.lib import adminlists
from tests.factories import GatewayModelFactory

EVENTS = "/admin/plans/stripeevent/"
MODELS = "/admin/plans/gatewaymodel/"


def select(client, address: str, action: str, rows, **extra):
    data = {"action": action, ACTION_CHECKBOX_NAME: [row.pk for row in rows], **extra}
    return client.post(address, data)


def parsed(response) -> list[list[str]]:
    return list(csv.reader(io.StringIO(b"".join(response.streaming_content).decode())))


def test_an_export_holds_the_lists_columns(staff_client, staff):
    rows = [GatewayModelFactory.create(name="a", provider="acme"), GatewayModelFactory.create()]
    response = select(staff_client, MODELS, "export_csv", rows)
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    head, *lines = parsed(response)
    assert head[:2] == ["name", "title"]
    assert len(lines) == 2
    entry = AuditEntry.objects.get(action="gatewaymodel.exported")
    assert (entry.actor, entry.after) == (staff, {"rows": 2})


@pytest.mark.parametrize("start", ["=", "+", "-", "@"])
def test_a_cell_is_never_a_formula(staff_client, start):
    row = GatewayModelFactory.create(name="a", title=f"{start}HYPERLINK(1)")
    _, line = parsed(select(staff_client, MODELS, "export_csv", [row]))
    assert line[1] == f"'{start}HYPERLINK(1)"


def test_an_action_on_many_asks_first_and_says_on_how_many(staff_client, events):
    page = select(staff_client, EVENTS, "replay_selected", events)
    assert '<strong class="room-numeric">5</strong>' in page.text
    assert StripeEvent.objects.filter(state="dead").count() == 5
    select(staff_client, EVENTS, "replay_selected", events, confirmed="1")
    assert not StripeEvent.objects.filter(state="dead").exists()


def test_an_action_on_one_row_is_done_at_once(staff_client, events):
    select(staff_client, EVENTS, "replay_selected", events[:1])
    assert StripeEvent.objects.filter(state="dead").count() == 4


def test_a_large_list_is_paged_by_an_estimate(staff_client, events, monkeypatch):
    monkeypatch.setattr("tesslate.lib.adminlists.COUNTED_UP_TO", 0)
    monkeypatch.setattr("plans.admin.inbox.StripeEventAdmin.list_per_page", 2)
    # Of a small table PostgreSQL's statistics say now this, now that; an estimate is above a page.
    real = adminlists.estimated_rows
    monkeypatch.setattr(adminlists, "estimated_rows", lambda rows: max(real(rows), 5))
    for page, has_next in (("1", True), ("2", True), ("3", False), ("99", False)):
        html = staff_client.get(EVENTS, {"p": page}).text
        assert f"page {page} of about" in html
        assert (f"p={int(page) + 1}" in html) is has_next
