from datetime import timedelta

import pytest
from django.utils import timezone

from llmkeys.models import Rollout, UsageDay
from plans.entitlements import refresh_entitlements
from plans.models import Plan
from tesslate.lib.cause import Cause
from tests.factories import GatewayModelFactory


@pytest.fixture
def plan(free_plan: Plan, user) -> Plan:
    """Free, with two models and one customer."""
    free_plan.gateway_models.set(GatewayModelFactory.create(name=name) for name in ("one", "two"))
    refresh_entitlements([user.pk], cause=Cause.system("test"))
    return free_plan


def fields(plan: Plan, **changes):
    return {
        "opened": plan.version,
        "rpm": plan.rpm,
        "tpm": plan.tpm,
        "max_parallel_requests": plan.max_parallel_requests,
        "budget_cents": plan.budget_cents,
        "gateway_models": [model.pk for model in plan.gateway_models.all()],
        **changes,
    }


def send(client, plan, **changes):
    return client.post(f"/admin/plans/{plan.pk}/limits", fields(plan, **changes))


def test_the_preview_says_whom_it_touches_and_changes_nothing(plan, staff_client):
    page = send(staff_client, plan, rpm=999, gateway_models=[plan.gateway_models.first().pk])
    assert page.context["impact"].users == 1
    assert page.context["impact"].models_lost == ["two"]
    assert "They lose two." in page.text
    plan.refresh_from_db()
    assert plan.rpm == 20
    assert not Rollout.objects.exists()


def test_the_preview_says_who_used_lately_what_they_lose(plan, staff_client, user, stranger):
    kept = [plan.gateway_models.first().pk]
    assert (
        "None of them used it in the last 30 days"
        in send(staff_client, plan, gateway_models=kept).text
    )

    today = timezone.now().date()
    for who, days_ago in ((user, 2), (user, 5), (stranger, 1)):
        UsageDay.objects.create(
            day=today - timedelta(days=days_ago),
            user=who,
            model="two",
            plan_code="free",
            provider="p",
            requests=3,
        )
    page = send(staff_client, plan, gateway_models=kept)
    assert page.context["impact"].lost_but_used == [("two", 1, today - timedelta(days=2))]
    assert "1 of them used it in the last 30 days" in page.text


def test_confirmed_it_becomes_a_rollout_with_a_page(plan, staff_client):
    response = send(staff_client, plan, rpm=999, confirmed="1")
    rollout = Rollout.objects.get()
    assert response["Location"] == f"/admin/rollouts/{rollout.pk}"
    assert "999" in staff_client.get(response["Location"]).text
    plan.refresh_from_db()
    assert plan.rpm == 999


def test_somebody_elses_change_is_not_overwritten(plan, staff_client):
    opened = plan.version
    Plan.objects.filter(pk=plan.pk).update(rpm=77, version=opened + 1)
    page = send(staff_client, plan, rpm=999, opened=opened, confirmed="1")
    assert "Somebody changed this plan meanwhile" in page.text
    assert not Rollout.objects.exists()


def test_nothing_to_change_is_no_rollout(plan, staff_client):
    assert "Nothing would change" in send(staff_client, plan, confirmed="1").text
    assert not Rollout.objects.exists()


@pytest.mark.parametrize("wrong", [{"rpm": "0"}, {"rpm": "-1"}, {"tpm": "many"}])
def test_nonsense_is_refused_with_the_reason(plan, staff_client, wrong):
    assert send(staff_client, plan, confirmed="1", **wrong).status_code == 200
    assert not Rollout.objects.exists()


def test_a_finished_rollout_can_be_rolled_back(plan, staff_client):
    send(staff_client, plan, rpm=999, confirmed="1")
    rollout = Rollout.objects.get()
    assert rollout.state == "done"
    staff_client.post(f"/admin/rollouts/{rollout.pk}/roll_back")
    plan.refresh_from_db()
    assert plan.rpm == 20


def test_a_step_that_does_not_fit_is_told(plan, staff_client):
    send(staff_client, plan, rpm=999, confirmed="1")
    rollout = Rollout.objects.get()
    page = staff_client.post(f"/admin/rollouts/{rollout.pk}/resume", follow=True)
    assert "is not paused" in page.text
    assert staff_client.post(f"/admin/rollouts/{rollout.pk}/explode").status_code == 404


def test_support_may_look_but_not_edit(plan, staff_client, colleague):
    send(staff_client, plan, rpm=999, confirmed="1")
    rollout = Rollout.objects.get()
    support = colleague("support")
    assert support.get(f"/admin/rollouts/{rollout.pk}").status_code == 200
    assert support.get(f"/admin/plans/{plan.pk}/limits").status_code == 403
    assert support.post(f"/admin/rollouts/{rollout.pk}/roll_back").status_code == 403
