"""The typed client that the front-end guide hands out says of the API what its schema says."""

import re
from typing import Any

import pytest
from drf_spectacular.generators import SchemaGenerator

from tests.ops.tools import ROOT, run, tool

FOLDER = ROOT / "docs" / "client"
TEXT = (FOLDER / "tesslate.ts").read_text()
# Its interfaces, by the schema component that they describe.
INTERFACES = {
    "User": "User",
    "EntitledPlan": "EntitledPlan",
    "Entitlement": "Entitlement",
    "KeyState": "KeyState",
    "PeriodUsage": "PeriodUsage",
    "Me": "Me",
    "Price": "PriceOut",
    "Plan": "PlanOut",
    "Model": "ModelOut",
    "Totals": "Totals",
    "Message": "MessageRequest",
    "Chat": "ChatRequestRequest",
}
# Streaming is what the client is for.
LEFT_OUT = {("Chat", "stream")}


@pytest.fixture(scope="module")
def components() -> dict[str, Any]:
    schema = SchemaGenerator().get_schema(request=None, public=True)
    found: dict[str, Any] = schema["components"]["schemas"]
    return found


def members(interface: str) -> dict[str, str]:
    """Its members with their types; those that may be missing end in a question mark."""
    body = re.search(rf"export interface {interface} \{{\n(.*?)\n\}}", TEXT, re.S)
    assert body is not None
    return dict(re.findall(r"^  (\w+\??): (.+);$", body[1], re.M))


@pytest.mark.parametrize("interface", INTERFACES)
def test_members_are_those_of_the_schema(components, interface):
    properties = components[INTERFACES[interface]]["properties"]
    left_out = {name for where, name in LEFT_OUT if where == interface}

    assert {name.rstrip("?") for name in members(interface)} == set(properties) - left_out


@pytest.mark.parametrize("interface", INTERFACES)
def test_types_are_those_of_the_schema(components, interface):
    properties = components[INTERFACES[interface]]["properties"]
    for name, written in members(interface).items():
        told = properties[name.rstrip("?")]
        kinds = told.get("type", [])
        kinds = {kinds} if isinstance(kinds, str) else set(kinds)
        if kinds & {"integer", "number"}:
            assert "number" in written, name
        if "string" in kinds:
            assert "string" in written or '"' in written, name
        if "boolean" in kinds:
            assert written == "boolean", name
        if "null" in kinds:
            assert written.endswith("| null"), name


@pytest.mark.parametrize(
    ("interface", "member", "component"),
    [
        ("Entitlement", "source", "EntitlementSourceEnum"),
        ("KeyState", "state", "StateEnum"),
        ("Message", "role", "MessageRoleEnum"),
        ("Price", "interval", "IntervalEnum"),
    ],
)
def test_words_are_those_of_the_schema(components, interface, member, component):
    assert set(re.findall(r'"(\w+)"', members(interface)[member])) == set(
        components[component]["enum"]
    )


def test_paths_exist():
    schema = SchemaGenerator().get_schema(request=None, public=True)
    used = set(re.findall(r'"(/api/[\w/]+)|`(/api/[\w/]+)\?', TEXT))

    assert {path for pair in used for path in pair if path} <= set(schema["paths"])


def test_compiler_finds_nothing_wrong():
    run(tool("tsc"), "--project", FOLDER)
