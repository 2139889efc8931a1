"""Chatting: what is asked again, stopped, refused or broken off, and what this tab remembers."""

import re

import pytest
from playwright.sync_api import Page, Request, Route, expect

from tests.e2e.people import ask, choose_model, say, sign_up
from tests.e2e.product import Product

pytestmark = pytest.mark.browser

CHAT = "POST /v1/chat/completions"
PRO_MODEL = "groq-llama-3.1-405b"


def messages_of(request: Request) -> list[dict[str, str]]:
    body = request.post_data_json
    assert body is not None
    return list(body["messages"])


def sent_by(page: Page, text: str) -> list[dict[str, str]]:
    """Ask, and give back the messages that went out."""
    with page.expect_request("**/api/proxy/chat") as request:
        ask(page, text)
    return messages_of(request.value)


def test_a_conversation_is_sent_whole_and_survives_a_reload(page: Page, newcomer):
    sign_up(page, *newcomer)
    ask(page, "First question")
    page.reload()
    expect(page.locator(".turn--user .turn__text")).to_have_text(["First question"])
    roles = [message["role"] for message in sent_by(page, "Second question")]
    assert roles == ["user", "assistant", "user"]


def test_a_new_conversation_begins_empty_even_while_an_answer_comes(
    page: Page, product: Product, newcomer
):
    sign_up(page, *newcomer)
    with product.gateway_fault(route=CHAT, kind="silence", after_chunks=3, times=1):
        say(page, "Never to be finished")
        expect(page.locator(".turn--assistant .turn__text")).not_to_be_empty()
        page.get_by_role("button", name="New conversation").click()
    expect(page.get_by_text("What shall we talk about?")).to_be_visible()
    expect(page.locator(".turn")).to_have_count(0)
    assert [m["content"] for m in sent_by(page, "Fresh start")] == ["Fresh start"]


def test_a_stopped_answer_shows_what_it_cost_and_stays_in_the_conversation(
    page: Page, product: Product, newcomer
):
    sign_up(page, *newcomer)
    with product.gateway_fault(route=CHAT, kind="silence", after_chunks=4, times=1):
        say(page, "Tell me much")
        answer = page.locator(".turn--assistant")
        expect(answer.locator(".turn__text")).not_to_be_empty()
        page.get_by_role("button", name="Stop").click()
    expect(answer).to_contain_text("Stopped by you.")
    expect(answer.locator(".turn__foot")).to_contain_text("out tokens")
    assert len(sent_by(page, "Go on")) == 3


def test_a_broken_answer_can_be_asked_again_and_counts_once(page: Page, product: Product, newcomer):
    sign_up(page, *newcomer)
    with product.gateway_fault(route=CHAT, kind="stream_break", after_chunks=3, times=1):
        say(page, "Break off")
        expect(page.get_by_role("alert")).to_contain_text("broke off")
    with page.expect_request("**/api/proxy/chat") as request:
        page.get_by_role("button", name="Try again").click()
    assert len(messages_of(request.value)) == 1
    expect(page.locator(".turn--user")).to_have_count(1)
    expect(page.locator(".turn--assistant .turn__foot")).to_contain_text("$")


def test_a_refused_question_can_be_asked_of_another_model(page: Page, newcomer):
    sign_up(page, *newcomer)
    choose_model(page, PRO_MODEL)
    say(page, "Who are you?")
    expect(page.get_by_role("link", name="Upgrade to Pro")).to_have_attribute("href", "/#pro")
    choose_model(page, "basic-chat")
    page.get_by_role("button", name="Ask again").click()
    expect(page.locator(".turn--assistant .turn__foot")).to_contain_text("out tokens")
    expect(page.locator(".turn--user")).to_have_count(1)


def test_models_stay_where_they_are_while_the_usage_arrives(page: Page, newcomer):
    sign_up(page, *newcomer)
    held: list[Route] = []
    page.route("**/api/me", lambda route: held.append(route))
    with page.expect_request("**/api/me"):
        page.reload()
    model = page.locator(f'.choice:has(input[value="{PRO_MODEL}"])')
    before = model.bounding_box()
    usage = page.locator("[data-usage]")
    usage.evaluate("region => region.firstElementChild.dataset.early = ''")
    while held:
        held.pop().continue_()
    expect(usage.locator("[data-early]")).to_have_count(0)
    assert model.bounding_box() == before


def test_access_that_is_still_being_set_up_is_waited_for(page: Page, newcomer):
    sign_up(page, *newcomer)
    refusals = iter([409, 409])

    def be_slow(route, request: Request) -> None:
        if next(refusals, None) is None:
            route.continue_()
            return
        error = {"type": "conflict_error", "code": "key_not_ready", "message": "Later."}
        route.fulfill(status=409, json={"error": error}, headers={"Retry-After": "1"})

    page.route("**/api/proxy/chat", be_slow)
    say(page, "Are you there?")
    expect(page.get_by_text("Your access is being set up")).to_be_visible()
    expect(page.locator(".turn--assistant .turn__foot")).to_contain_text("out tokens")


def test_limits_say_how_much_and_how_long(page: Page, newcomer):
    sign_up(page, *newcomer)
    page.get_by_label("Longest answer").fill("1")
    again = page.get_by_role("button", name=re.compile("Try again"))
    for _ in range(25):
        ask(page, "Again")
        if again.count():
            break
    expect(page.get_by_role("alert")).to_contain_text("It allows 20 a minute.")
    expect(again).to_be_disabled()
    expect(again).to_have_text(re.compile(r"Try again in \d+ s"))
    expect(page.get_by_role("link", name="Upgrade to Plus")).to_be_visible()


def test_a_session_that_ended_costs_no_word(page: Page, newcomer):
    sign_up(page, *newcomer)
    ask(page, "Before")
    page.context.clear_cookies()
    say(page, "A long and careful question")
    expect(page.get_by_text("Your session has ended")).to_be_visible()
    page.get_by_label("E-mail address").fill(newcomer[0])
    page.get_by_label("Password").fill(newcomer[1])
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.wait_for_url("**/playground")
    expect(page.get_by_label("Message")).to_have_value("A long and careful question")
    expect(page.locator(".turn--user .turn__text")).to_have_text(["Before"])


def test_a_csrf_token_from_before_another_sign_in_is_renewed(page: Page, newcomer):
    sign_up(page, *newcomer)
    page.evaluate("document.querySelector('meta[name=csrf-token]').content = 'x'.repeat(64)")
    ask(page, "Still there?")
    expect(page.locator(".turn--assistant .turn__foot")).to_contain_text("out tokens")


def test_a_page_of_somebody_else_does_nothing(page: Page, newcomer):
    """Another tab signed in as another user: this one must not act for them unseen."""
    sign_up(page, *newcomer)
    page.evaluate("document.querySelector('meta[name=csrf-token]').content = 'x'.repeat(64)")
    page.evaluate("document.querySelector('meta[name=user]').content = '0'")
    with page.expect_navigation():
        say(page, "For whom?")


def test_what_a_model_writes_stays_text(page: Page, newcomer):
    sign_up(page, *newcomer)
    shown = page.evaluate(
        """async () => {
          const { prose } = await import("/static/site/prose.js");
          const box = document.createElement("div");
          box.append(...prose([
            "<img src=x onerror=alert(1)> <script>alert(2)</script>",
            "[good](https://example.com/a?b=1) [bad](javascript:alert(3)) [data](data:text/html,x)",
            "> quoted *words*",
            "",
            "| a | b |",
            "|---|--:|",
            "| 1 | `2` |",
            "",
            "3. three",
            "4. four",
          ].join("\\n")));
          return box.innerHTML;
        }"""
    )
    assert "<img" not in shown
    assert "<script" not in shown
    assert 'href="https://example.com/a?b=1"' in shown
    assert 'rel="noopener noreferrer nofollow"' in shown
    assert 'href="javascript' not in shown
    assert 'href="data' not in shown
    assert "<blockquote><p>quoted <em>words</em></p></blockquote>" in shown
    assert "<td>1</td><td><code>2</code></td>" in shown
    assert '<ol start="3"><li>three</li><li>four</li></ol>' in shown
