"""Content-Security-Policy: strict where our own pages are, relaxed for Unfold and the API page."""

import re

import pytest

SITE = ["/", "/sign-in", "/sign-up", "/reset-password", "/account", "/playground"]


def directives(policy: str) -> dict[str, str]:
    """Sources by directive; the order in which django-csp writes them is not fixed."""
    return dict(part.strip().split(" ", 1) for part in policy.split(";"))


@pytest.mark.parametrize("path", SITE)
def test_the_site_allows_no_inline_code_and_no_eval(signed_in, path):
    policy = signed_in.get(path)["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert directives(policy)["script-src"] == "'self'"


@pytest.mark.parametrize("path", SITE)
def test_the_site_has_no_inline_script_or_style(signed_in, path):
    html = signed_in.get(path).content.decode()
    assert " style=" not in html
    assert "<style" not in html
    assert not re.findall(r" on[a-z]+=", html)
    for attributes in re.findall(r"<script\b([^>]*)>", html):
        assert 'src="/static/' in attributes or 'type="application/json"' in attributes


@pytest.mark.parametrize("path", SITE)
def test_nothing_comes_from_elsewhere(signed_in, path):
    html = signed_in.get(path).content.decode()
    for address in re.findall(r'(?:src|href)="([^"]*)"', html):
        assert address.startswith(("/", "#", "?")), address


def test_the_admin_may_evaluate_but_loads_nothing_foreign(staff_client, free_plan):
    policy = staff_client.get("/admin/")["Content-Security-Policy"]
    assert directives(policy)["script-src"] == "'self' 'unsafe-eval'"


def test_a_path_that_only_begins_like_the_admin_stays_strict(client, db):
    assert "unsafe" not in client.get("/administer")["Content-Security-Policy"]
