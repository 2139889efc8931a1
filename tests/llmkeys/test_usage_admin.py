"""Staff read usage and give credits."""

from decimal import Decimal

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import User
from llmkeys.models import UsageDay, UsageEntry
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db

ADD = "admin:llmkeys_usageentry_add"


def test_U16_staff_give_usage_back(
    staff_client: Client, staff: User, user: User, free_plan: object
) -> None:
    assert staff_client.get(reverse(ADD)).status_code == 200
    form = {"user": user.pk, "credited": "12.50", "reason": "Outage of 3 November"}
    assert staff_client.post(reverse(ADD), form).status_code == 302
    entry = UsageEntry.objects.get()
    assert (entry.source, entry.credited, entry.plan_code) == ("credit", Decimal("12.5"), "free")
    assert (entry.credited_by, entry.reason) == (staff, "Outage of 3 November")
    assert UsageDay.objects.get().credited == Decimal("12.5")
    page = reverse("admin:llmkeys_usageentry_change", args=[entry.pk])
    assert "Outage of 3 November" in staff_client.get(page).content.decode()
    assert (
        "Outage of 3 November"
        in staff_client.get(reverse("admin:llmkeys_usageentry_changelist")).content.decode()
    )


@pytest.mark.parametrize("form", [{"credited": "0"}, {"credited": "-5"}, {"reason": ""}])
def test_U16_nonsense_gives_nothing_back(
    staff_client: Client, user: User, free_plan: object, form: dict[str, str]
) -> None:
    given = {"user": user.pk, "credited": "1", "reason": "x", **form}
    assert staff_client.post(reverse(ADD), given).status_code == 200
    assert not UsageEntry.objects.exists()


def test_entries_are_not_edited_or_deleted(
    staff_client: Client, user: User, free_plan: object
) -> None:
    staff_client.post(reverse(ADD), {"user": user.pk, "credited": "1", "reason": "x"})
    entry = UsageEntry.objects.get()
    for what in ("change", "delete"):
        url = reverse(f"admin:llmkeys_usageentry_{what}", args=[entry.pk])
        answer = staff_client.post(url, {"credited": "99", "post": "yes"})
        assert answer.status_code == 403
    assert UsageEntry.objects.get().credited == 1


def test_support_sees_usage_and_gives_none_back(
    client: Client, user: User, settings: object
) -> None:
    from django.contrib.auth.models import Group

    settings.STAFF_TWO_FACTOR_REQUIRED = False  # type: ignore[attr-defined]
    helper = UserFactory.create(is_staff=True)
    helper.groups.add(Group.objects.get(name="support"))
    client.force_login(helper)
    assert client.get(reverse("admin:llmkeys_usageentry_changelist")).status_code == 200
    assert client.get(reverse(ADD)).status_code == 403
