"""Where no browser is to be had, or needed."""

from pathlib import Path

import pytest

from tests.e2e.browser import do_without
from tests.e2e.screenshots import parse

Skipped: type[BaseException] = pytest.skip.Exception
Failed: type[BaseException] = pytest.fail.Exception


def test_a_developer_without_chromium_sees_the_tests_skipped(monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(Skipped, match="No Chromium"):
        do_without("No Chromium")


@pytest.mark.parametrize("value", ["true", "1", "True"])
def test_ci_without_chromium_fails(monkeypatch, value):
    monkeypatch.setenv("CI", value)
    with pytest.raises(Failed, match="No Chromium"):
        do_without("No Chromium")


def test_pictures_stay_with_the_copy_that_they_are_of():
    assert parse([], Path("/copies/.local-2")).output == Path("/copies/.local-2/screenshots")
    assert parse(["--output", "here"], Path("/copies/.local-2")).output == Path("here")
