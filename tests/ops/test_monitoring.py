"""Alerts, their receivers and the dashboard: well-formed, tried out, and of figures that exist."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from django.test import Client
from django.utils import timezone

from llmkeys.models import AuditRun, GatewayState
from plans.models import BillingProblem, CurrentEntitlement
from tesslate import health
from tesslate.health import CHECKS, Finding
from tests.factories import GatewayModelFactory, UserFactory
from tests.ops.tools import OPS, ROOT, run, tool

PROMETHEUS = OPS / "prometheus"
RULES = yaml.safe_load((PROMETHEUS / "tesslate.rules.yml").read_text())
TEST_FILES = sorted(PROMETHEUS.glob("*.test.yml"))
TESTS = [test for file in TEST_FILES for test in yaml.safe_load(file.read_text())["tests"]]
ALERTMANAGER = yaml.safe_load((OPS / "alertmanager" / "alertmanager.yml").read_text())
DASHBOARD = json.loads((OPS / "grafana" / "dashboards" / "tesslate.json").read_text())

ALL_RULES = [rule for group in RULES["groups"] for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in ALL_RULES if "alert" in rule}
RECORDED = {rule["record"] for rule in ALL_RULES if "record" in rule}
METRIC = re.compile(r"\b(?:tesslate|litellm)[:_]\w+(?::\w+)*")


def panels() -> Iterator[dict[str, Any]]:
    for panel in DASHBOARD["panels"]:
        yield panel
        yield from panel.get("panels", [])


def queries() -> list[str]:
    asked = [target["expr"] for panel in panels() for target in panel.get("targets", [])]
    asked += [note["expr"] for note in DASHBOARD["annotations"]["list"]]
    return [expr.replace("$__rate_interval", "5m") for expr in asked]


# Alerts


def test_rules_are_well_formed():
    assert "SUCCESS" in run(tool("promtool"), "check", "rules", PROMETHEUS / "tesslate.rules.yml")


def test_every_alert_fires_when_it_should_and_not_when_it_should_not():
    said = run(tool("promtool"), "test", "rules", *TEST_FILES, cwd=PROMETHEUS)
    assert said.count("SUCCESS") == len(TEST_FILES)


def test_every_alert_is_tried_both_ways():
    tried = [case for test in TESTS for case in test["alert_rule_test"]]
    firing = {case["alertname"] for case in tried if case["exp_alerts"]}
    quiet = {case["alertname"] for case in tried if not case["exp_alerts"]}

    assert firing == set(ALERTS)
    assert quiet == set(ALERTS) - {"Watchdog"}


def test_prometheus_and_alertmanager_read_their_files():
    run(tool("promtool"), "check", "config", "--syntax-only", PROMETHEUS / "prometheus.yml")
    run(tool("amtool"), "check-config", OPS / "alertmanager" / "alertmanager.yml")


def test_alerts_that_are_held_back_or_routed_exist():
    text = json.dumps([ALERTMANAGER["inhibit_rules"], ALERTMANAGER["route"]])
    matched = re.findall(r"alertname =~? \W*([\w|]+)", text)

    named = {name for names in matched for name in names.split("|")}
    assert "GatewayDown" in named
    assert named <= set(ALERTS)


def test_severities_are_the_ones_that_are_routed():
    assert {rule["labels"]["severity"] for rule in ALERTS.values()} == {
        "critical",
        "warning",
        "info",
        "none",
    }


@pytest.mark.parametrize("alert", sorted(set(ALERTS) - {"Watchdog"}))
def test_operators_are_told_what_to_do_about_each_alert(alert):
    page, _, anchor = ALERTS[alert]["annotations"]["runbook"].partition("#")
    headings = re.findall(r"^#+ (.+)$", (ROOT / page).read_text(), re.M)

    assert anchor in [heading.lower() for heading in headings]


# Dashboard


def test_panels_have_ids_and_places_of_their_own():
    ids = [panel["id"] for panel in panels()]
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels()]

    assert len(ids) == len(set(ids))
    assert len(places) == len(set(places))


def test_panels_stay_within_the_grid():
    for panel in panels():
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24, panel["title"]


def test_prometheus_understands_every_query(tmp_path):
    rules = [{"record": f"query{n}", "expr": expr} for n, expr in enumerate(queries())]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))

    assert f"{len(rules)} rules found" in run(tool("promtool"), "check", "rules", file)


def test_dashboard_asks_the_datasource_that_is_provisioned():
    provisioned = yaml.safe_load(
        (OPS / "grafana" / "provisioning" / "datasources" / "prometheus.yml").read_text()
    )["datasources"]
    asked = {panel["datasource"]["uid"] for panel in panels() if "datasource" in panel}

    assert asked == {source["uid"] for source in provisioned}


# What all of them are about


@pytest.fixture
def exposed(client: Client, staff, free_plan, monkeypatch, empty_cache) -> str:
    """/metrics of a product that has something to tell of everything."""
    now = timezone.now()
    GatewayModelFactory.create(name="basic-chat")
    CurrentEntitlement.objects.create(
        user=UserFactory.create(),
        plan=free_plan,
        source="default",
        period_start=now,
        period_end=now,
        decided_at=now,
    )
    BillingProblem.objects.create(kind="dispute", subject="dp_1", summary="x")
    AuditRun.objects.create(state="finished", finished_at=now, counts={"in step": 1})
    GatewayState.objects.update_or_create(defaults={"converged_at": now})

    class Found:
        def report(self) -> dict[str, Finding]:
            found = {name: Finding("ok") for name in CHECKS}
            return found | {"redis": Finding("ok", details={"queues": {"keys": 1}})}

    monkeypatch.setattr(health, "reporter", Found())
    return client.get("/metrics").content.decode()


def exposed_names(text: str) -> set[str]:
    names = {line.split("{")[0].split(" ")[0] for line in text.splitlines() if line[:1] != "#"}
    # Families whose labels nobody has used yet are announced, without samples.
    for family, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M):
        names |= {family}
        if kind == "histogram":
            names |= {f"{family}_{part}" for part in ("bucket", "sum", "count")}
    return names


@pytest.mark.django_db
def test_every_figure_that_is_asked_for_is_told(exposed):
    asked = {
        name
        for expr in [*queries(), *(rule["expr"] for rule in ALL_RULES)]
        for name in METRIC.findall(expr)
    }

    assert len(asked) > 30
    assert asked - RECORDED <= exposed_names(exposed)


@pytest.mark.django_db
def test_every_figure_that_is_tried_out_is_told(exposed):
    tried = {
        name
        for test in TESTS
        for series in test.get("input_series", [])
        for name in METRIC.findall(series["series"])
    }

    assert tried
    assert tried <= exposed_names(exposed)


@pytest.mark.django_db
def test_prometheus_finds_nothing_wrong_with_the_figures(exposed):
    run(tool("promtool"), "check", "metrics", input=exposed)


def test_neighbours_that_alerts_name_are_looked_at():
    text = " ".join(rule["expr"] for rule in ALERTS.values())
    named = re.findall(r'neighbour=~?"([\w|]+)"', text)

    assert {name for names in named for name in names.split("|")} <= set(CHECKS)
