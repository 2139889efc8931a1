"""The buttons of the front page: they count first, then work in the background."""

import pytest
from django.utils import timezone

from llmkeys.models import VirtualKey
from plans.entitlements import refresh_entitlements
from plans.models import StripeEvent
from tesslate.lib.cause import Cause
from tesslate.staffroom import jobs
from tesslate.staffroom.attention import attention_for
from tesslate.staffroom.mending import MENDS
from tesslate.staffroom.models import Job


def button(user, what: str) -> str:
    (item,) = (item for item in attention_for(user) if item.what == what)
    return item.mend.url if item.mend else ""


def test_dead_events_are_replayed_after_their_number_was_said(staff_client, staff, events):
    url = button(staff, "Stripe events failed for good")
    assert '<strong class="room-numeric">5</strong>' in staff_client.get(url).text
    assert StripeEvent.objects.filter(state="dead").count() == 5
    response = staff_client.post(url, {"submission": "once"})
    staff_client.post(url, {"submission": "once"})
    assert response["Location"] == f"/admin/jobs/{Job.objects.get().pk}"
    jobs.run_next()
    assert not StripeEvent.objects.filter(state="dead").exists()
    assert "nothing left to mend" in staff_client.get(url).text


def test_keys_that_were_given_up_are_tried_again(staff_client, staff, user, free_plan):
    refresh_entitlements([user.pk], cause=Cause.system("test"))
    VirtualKey.objects.filter(user=user).update(parked_at=timezone.now())
    staff_client.post(button(staff, "Keys given up after errors"))
    jobs.run_next()
    assert Job.objects.get().state == "done"
    assert VirtualKey.objects.get(user=user).parked_at is None


@pytest.mark.parametrize("name", sorted(MENDS))
def test_every_button_leads_to_an_action_of_its_list(staff_client, free_plan, name):
    from django.contrib import admin

    assert staff_client.get(f"/admin/mend/{name}").status_code == 200
    model = MENDS[name].rows(timezone.now()).model
    assert hasattr(admin.site.get_model_admin(model), MENDS[name].action)


def test_who_may_only_look_sees_no_button_and_opens_none(colleague, events):
    client = colleague("auditor")
    page = client.get("/admin/")
    assert [item.mend for item in page.context["items"]] == [None]
    assert client.get("/admin/mend/dead-events").status_code == 403
    assert client.post("/admin/mend/dead-events").status_code == 403
