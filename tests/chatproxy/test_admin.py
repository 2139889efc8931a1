"""Staff pages of prompts and of the ledger."""

import re
import uuid

import pytest
from django.urls import reverse
from django.utils import timezone

from chatproxy.exchange import new_exchange
from chatproxy.models import ChatRequest, SystemPrompt
from chatproxy.prompt_admin import PromptForm
from chatproxy.publishing import opened_state
from tests.factories import GatewayModelFactory, PlanFactory

FORM = {
    "name": "Manners",
    "category": "base",
    "position": "10",
    "is_enabled": "on",
    "text": "Be kind to {{ user_name }}.",
    "note": "first",
    "percent": "100",
    "starts_at_0": "",
    "starts_at_1": "",
    "ends_at_0": "",
    "ends_at_1": "",
}


@pytest.fixture
def prompt(signed_in_staff):
    response = signed_in_staff.post(reverse("admin:chatproxy_systemprompt_add"), FORM)
    assert response.status_code == 302, response.content.decode()[:3000]
    return SystemPrompt.objects.get()


@pytest.fixture
def signed_in_staff(staff_client):
    return staff_client


def change(client, prompt, **fields):
    url = reverse("admin:chatproxy_systemprompt_change", args=[prompt.pk])
    response = client.post(url, {**FORM, "opened": opened_state(prompt), **fields})
    assert response.status_code == 302
    prompt.refresh_from_db()


def test_adding_a_prompt_publishes_its_first_version(prompt, staff):
    assert prompt.published.text == "Be kind to {{ user_name }}."
    assert prompt.published.created_by == staff


def test_editing_the_text_makes_a_version(prompt, signed_in_staff):
    change(signed_in_staff, prompt, text="Be brief.\r\nBe kind.", note="shorter")
    assert prompt.published.number == 2
    assert prompt.published.text == "Be brief.\nBe kind."


def test_editing_anything_else_does_not(prompt, signed_in_staff):
    change(signed_in_staff, prompt, position="20")
    assert prompt.position == 20
    assert prompt.versions.count() == 1


def test_a_share_of_users_starts_a_split(prompt, signed_in_staff):
    change(signed_in_staff, prompt, text="Try this.", percent="25")
    assert prompt.published.number == 1
    assert (prompt.challenger.number, prompt.challenger_percent) == (2, 25)


@pytest.mark.parametrize("in_use", ["Be kind to {{ user_name }}.", " Be kind.\r\n\r\nAlways.\n"])
def test_editing_anything_else_leaves_a_trial_alone(prompt, signed_in_staff, in_use):
    prompt.versions.update(text=in_use)
    change(signed_in_staff, prompt, text="Try this.", percent="25")
    page = signed_in_staff.get(reverse("admin:chatproxy_systemprompt_change", args=[prompt.pk]))
    shown = page.context["adminform"].form["text"].initial
    change(signed_in_staff, prompt, position="20", text=shown.replace("\r\n", "\n"))
    assert (prompt.position, prompt.versions.count()) == (20, 2)
    assert (prompt.published.number, prompt.challenger_percent) == (1, 25)


def test_an_unknown_variable_is_refused(prompt, signed_in_staff):
    url = reverse("admin:chatproxy_systemprompt_change", args=[prompt.pk])
    response = signed_in_staff.post(url, {**FORM, "text": "{{ secret }}"})
    assert response.status_code == 200
    assert "Unknown variables: secret" in response.content.decode()


def test_an_old_version_is_compared_and_put_back(prompt, signed_in_staff):
    change(signed_in_staff, prompt, text="Be rude.")
    url = reverse("admin:chatproxy_systemprompt_versions", args=[prompt.pk])
    page = signed_in_staff.get(url).content.decode()
    assert "-Be kind to {{ user_name }}." in page
    assert "+Be rude." in page
    first = prompt.versions.get(number=1)
    data = {"version": first.pk, "opened": opened_state(prompt)}
    assert signed_in_staff.post(url, data).status_code == 302
    prompt.refresh_from_db()
    assert prompt.published == first


def test_nobody_saves_over_anothers_change(prompt, signed_in_staff):
    opened = opened_state(prompt)
    change(signed_in_staff, prompt, text="Mine.")
    url = reverse("admin:chatproxy_systemprompt_change", args=[prompt.pk])
    for stale in (opened, "", "nonsense"):
        page = signed_in_staff.post(url, {**FORM, "opened": stale, "text": "Theirs."})
        assert "Somebody changed this prompt meanwhile" in page.text
    prompt.refresh_from_db()
    assert prompt.published.text == "Mine."
    assert prompt.versions.count() == 2


@pytest.mark.parametrize("number", ["²", "9" * 5000])
def test_a_version_that_is_none_is_not_found(prompt, signed_in_staff, number):
    url = reverse("admin:chatproxy_systemprompt_versions", args=[prompt.pk])
    assert signed_in_staff.post(url, {"version": number}).status_code == 404


def test_nobody_puts_a_version_into_use_over_anothers_choice(prompt, signed_in_staff):
    opened, first = opened_state(prompt), prompt.published
    change(signed_in_staff, prompt, text="Mine.")
    url = reverse("admin:chatproxy_systemprompt_versions", args=[prompt.pk])
    data = {"version": first.pk, "opened": opened}
    assert "Somebody changed" in signed_in_staff.post(url, data, follow=True).text
    prompt.refresh_from_db()
    assert prompt.published.text == "Mine."


def test_a_trial_is_ended_in_favour_of_what_is_in_use(prompt, signed_in_staff):
    change(signed_in_staff, prompt, text="Try this.", percent="25")
    url = reverse("admin:chatproxy_systemprompt_versions", args=[prompt.pk])
    assert "End the trial, keep this one" in signed_in_staff.get(url).text
    signed_in_staff.post(url, {"version": prompt.published_id, "opened": opened_state(prompt)})
    prompt.refresh_from_db()
    assert (prompt.published.number, prompt.challenger) == (1, None)


class TestTheEditor:
    URL = "/admin/chatproxy/systemprompt/draft"

    @pytest.fixture(autouse=True)
    def catalogue(self, db):
        self.gold = PlanFactory.create(code="gold", name="Gold")
        self.basic = GatewayModelFactory.create(name="basic")

    def draft(self, client, prompt, **fields):
        data = {
            **FORM,
            "preview_prompt": prompt.pk,
            "preview_plan": "gold",
            "preview_model": "basic",
            "preview_user": "Bob",
        }
        return client.post(self.URL, {**data, **fields})

    def test_shows_the_difference_and_what_they_would_get(self, prompt, signed_in_staff):
        page = self.draft(signed_in_staff, prompt, text="Be brief, {{ user_name }}.").text
        assert "-Be kind to {{ user_name }}." in page
        assert "+Be brief, {{ user_name }}." in page
        assert ">Be brief, Bob.<" in page
        prompt.refresh_from_db()
        assert prompt.versions.count() == 1

    def test_goes_together_with_the_other_prompts_in_their_order(self, prompt, signed_in_staff):
        page = signed_in_staff.post(
            self.URL,
            {
                **FORM,
                "text": "Afterwards.",
                "position": "20",
                "preview_plan": "gold",
                "preview_model": "basic",
                "preview_user": "Bob",
            },
        )
        assert page.context["rendered"].text == "Be kind to Bob.\n\nAfterwards."

    def test_has_no_field_that_the_prompt_has_too(self, prompt, signed_in_staff):
        """It stands inside the form: a name of its own would be saved as the prompt's."""
        page = signed_in_staff.get(f"/admin/chatproxy/systemprompt/{prompt.pk}/change/").text
        names = re.findall(r'name="([a-z_0-9]+)"', page.split('id="editor-heading"')[1])
        fields = {*PromptForm.base_fields}
        assert {"preview_plan", "preview_user"} <= {*names}
        assert not fields & {*names}

    def test_says_when_it_is_not_for_them(self, prompt, signed_in_staff):
        other = PlanFactory.create(code="other")
        page = self.draft(signed_in_staff, prompt, plans=[other.pk])
        assert "This prompt is not for them" in page.text

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("{{ secret }}", "Unknown variables: secret"),
            (" ", "A prompt says something"),
            ("x" * 100_001, "At most 100000 characters"),
        ],
    )
    def test_says_what_is_wrong_before_saving(self, prompt, signed_in_staff, text, problem):
        assert problem in self.draft(signed_in_staff, prompt, text=text).text

    def test_bears_nonsense(self, prompt, signed_in_staff):
        page = self.draft(
            signed_in_staff,
            prompt,
            position="x",
            category="none",
            plans=["a", "9" * 40],
            preview_user="<script>",
            preview_plan="",
        )
        assert page.status_code == 200
        assert "Choose a plan and a model" in page.text

    def test_is_for_those_who_may_see_prompts(self, prompt, client, user):
        client.force_login(user)
        assert self.draft(client, prompt).status_code in {302, 403}


def test_the_preview_shows_what_a_plan_and_model_get(prompt, signed_in_staff):
    PlanFactory.create(code="gold")
    GatewayModelFactory.create(name="basic")
    url = reverse("admin:chatproxy_systemprompt_preview")
    assert signed_in_staff.get(url).status_code == 200
    page = signed_in_staff.get(
        url, {"preview_plan": "gold", "preview_model": "basic", "preview_user": "Bob"}
    )
    assert "Be kind to Bob." in page.content.decode()


def test_lists_and_pages_open(prompt, signed_in_staff):
    for name, args in (("changelist", []), ("add", []), ("change", [prompt.pk])):
        url = reverse(f"admin:chatproxy_systemprompt_{name}", args=args)
        assert signed_in_staff.get(url).status_code == 200


@pytest.fixture
def request_row(user):
    exchange = new_exchange("chat")
    return ChatRequest.objects.create(
        id=uuid.UUID(exchange.id),
        started_at=timezone.now(),
        user=user,
        plan_code="free",
        model="basic",
        client="chat",
        outcome="completed",
        status=200,
        duration_ms=5,
        decision={"rule": "x"},
    )


def test_the_ledger_is_listed_searched_and_read_but_not_changed(signed_in_staff, request_row, user):
    url = reverse("admin:chatproxy_chatrequest_changelist")
    for query in ({}, {"q": user.email}, {"q": "nobody@example.com"}, {"q": "gibberish"}):
        assert signed_in_staff.get(url, query).status_code == 200
    detail = reverse("admin:chatproxy_chatrequest_change", args=[request_row.pk])
    page = signed_in_staff.get(detail)
    assert request_row.public_id in page.content.decode()
    assert signed_in_staff.post(detail, {"status": "500"}).status_code == 403
    request_row.refresh_from_db()
    assert request_row.status == 200


def test_customers_see_none_of_it(client, user):
    client.force_login(user)
    for name in ("systemprompt_changelist", "chatrequest_changelist", "systemprompt_preview"):
        response = client.get(reverse(f"admin:chatproxy_{name}"))
        assert response.status_code in (302, 403)
