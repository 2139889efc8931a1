"""The compiled requirements say what pyproject.toml says, with hashes and without addresses."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FILES = (
    "requirements.txt",
    "requirements-sentry.txt",
    "requirements-otel.txt",
    "requirements-dev.txt",
)


def compiled(name: str) -> dict[str, list[Requirement]]:
    """What the file pins, by name; some packages are pinned twice, for different systems."""
    text = (ROOT / name).read_text().replace("\\\n", " ")
    pins: dict[str, list[Requirement]] = {}
    for line in text.splitlines():
        line = re.sub(r"\s+--hash=\S+", "", line).partition("#")[0].strip()
        if line:
            pin = Requirement(line)
            pins.setdefault(canonicalize_name(pin.name), []).append(pin)
    return pins


def pinned(requirement: Requirement, pins: dict[str, list[Requirement]]) -> bool:
    found = pins.get(canonicalize_name(requirement.name), [])
    versions = [next(iter(pin.specifier)).version for pin in found]
    return bool(versions) and all(requirement.specifier.contains(v, True) for v in versions)


@pytest.mark.parametrize("wanted", PROJECT["dependencies"])
def test_each_dependency_is_pinned_for_servers_within_its_bounds(wanted):
    assert pinned(Requirement(wanted), compiled("requirements.txt")), "run: make requirements"


@pytest.mark.parametrize("wanted", PROJECT["optional-dependencies"]["dev"])
def test_each_tool_is_pinned_for_developers_within_its_bounds(wanted):
    assert pinned(Requirement(wanted), compiled("requirements-dev.txt")), "run: make requirements"


@pytest.mark.parametrize("extra", ["sentry", "otel"])
def test_image_with_an_extra_holds_what_the_others_do_and_its_packages(extra):
    servers, larger = compiled("requirements.txt"), compiled(f"requirements-{extra}.txt")
    asked = {Requirement(wanted).name for wanted in PROJECT["optional-dependencies"][extra]}

    assert {name: list(map(str, pins)) for name, pins in larger.items() if name in servers} == {
        name: list(map(str, pins)) for name, pins in servers.items()
    }
    assert asked <= larger.keys() - servers.keys()


def test_image_that_reports_to_sentry_holds_nothing_else():
    servers, reporting = compiled("requirements.txt"), compiled("requirements-sentry.txt")

    assert reporting.keys() - servers.keys() == {"sentry-sdk"}


def test_developers_run_what_servers_run():
    servers, developers = compiled("requirements.txt"), compiled("requirements-dev.txt")
    differing = {
        name: developers.get(name)
        for name, pins in servers.items()
        if list(map(str, pins)) != list(map(str, developers.get(name, [])))
    }
    assert differing == {}


@pytest.mark.parametrize("name", FILES)
def test_every_pin_has_a_hash_and_no_address(name):
    text = (ROOT / name).read_text()
    blocks = re.findall(r"^[a-z0-9].*(?:\n {4}--hash.*)*", text, re.M)
    assert all("==" in block and "--hash=sha256:" in block for block in blocks)
    assert not re.search(r"https?://|--index-url|--find-links", text)
