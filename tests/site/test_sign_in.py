import json
import re

import pytest


def config_of(response):
    found = re.search(r'<script id="config" type="application/json">(.*?)</script>', response.text)
    assert found is not None
    return json.loads(found[1])


@pytest.mark.parametrize("path", ["/sign-in", "/sign-up", "/reset-password"])
def test_pages_for_people_who_are_signed_out(client, db, path):
    response = client.get(path)
    assert response.status_code == 200
    assert config_of(response)["firebase_api_key"] == "test-web-api-key"


def test_leads_to_where_the_visitor_was_going(client, db):
    assert config_of(client.get("/sign-in?next=/account"))["next"] == "/account"


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example",
        "javascript:alert(1)",
        "account",
        "",
    ],
)
def test_never_leads_to_another_site(client, db, target):
    assert config_of(client.get("/sign-in", {"next": target}))["next"] == "/playground"


def test_what_an_address_says_cannot_break_out_of_the_page(client, db):
    response = client.get("/reset-password", {"oobCode": "</script><script>alert(1)</script>"})
    assert "<script>alert" not in response.text


def test_link_that_confirms_an_address_is_told_from_one_for_a_new_password(client, db):
    confirming = client.get("/reset-password", {"mode": "verifyEmail", "oobCode": "code-1"})
    resetting = client.get("/reset-password", {"mode": "resetPassword", "oobCode": "code-1"})

    assert 'data-action="verify-email"' in confirming.text
    assert 'name="password"' not in confirming.text
    assert config_of(confirming)["oob_code"] == "code-1"
    assert 'data-action="reset-confirm"' in resetting.text


def test_confirmed_address_is_told_where_one_signs_in(client, db):
    assert "address is confirmed" in client.get("/sign-in?verified=done").text


def test_signed_in_people_go_on(signed_in):
    response = signed_in.get("/sign-in?next=/account")
    assert (response.status_code, response["Location"]) == (302, "/account")


def test_sign_out_needs_a_form_of_ours(signed_in):
    assert signed_in.get("/sign-out").status_code == 405
    assert signed_in.post("/sign-out").status_code == 302
    assert signed_in.get("/account").status_code == 302


def test_says_why_one_is_here_again(client, db):
    assert "Your session has ended" in client.get("/sign-in?expired=1").text
