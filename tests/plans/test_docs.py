"""docs/billing.md says what the code does."""

import re
from fnmatch import fnmatch
from pathlib import Path

from plans.access import ACCESS_BY_STATUS, MEANINGS
from plans.handlers import HANDLERS
from plans.inbox import MAX_FAILURES
from plans.models import Plan, StripeEvent

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "billing.md").read_text()
NUMBERS = {8: "eight"}


def rows_under(heading: str) -> list[list[str]]:
    """The cells of the first table under a heading."""
    section = PAGE.split(f"## {heading}\n", 1)[1]
    table = re.search(r"(?:^\|.*\n)+", section, re.MULTILINE)
    assert table is not None
    lines = table[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_table_of_statuses_is_the_one_that_decides() -> None:
    documented = [
        (status.strip("`"), access, text)
        for status, access, text in rows_under("From a status to access")
    ]
    assert documented == [
        (status, str(access), MEANINGS[status]) for status, access in ACCESS_BY_STATUS.items()
    ]


def test_grace_is_as_long_as_the_page_says() -> None:
    days = Plan._meta.get_field("grace_days").default
    percent = Plan._meta.get_field("grace_limit_percent").default
    assert f"({days} unless changed)" in PAGE
    assert f"({percent} % unless changed)" in PAGE


def test_every_event_that_is_handled_is_asked_for() -> None:
    section = PAGE.split("## Events\n", 1)[1].split("An event is stored", 1)[0]
    patterns = re.findall(r"`([a-z_.]+\.\*)`", section)
    missing = [kind for kind in HANDLERS if not any(fnmatch(kind, each) for each in patterns)]
    assert missing == []
    needless = [each for each in patterns if not any(fnmatch(kind, each) for kind in HANDLERS)]
    assert needless == []


def test_every_state_of_an_event_is_explained() -> None:
    states = [state.strip("`") for state, _ in rows_under("Events")]
    assert states == list(StripeEvent.State.values)
    assert f"failed {NUMBERS[MAX_FAILURES]} times" in PAGE
