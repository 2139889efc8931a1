"""/metrics tells Prometheus, and nobody else."""

import os
import subprocess
import sys
from datetime import datetime

import pytest
from django.core.cache import cache
from django.db import OperationalError
from django.test import Client
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families
from redis.exceptions import ConnectionError as CacheDown

from accounts.models import User
from llmkeys.models import VirtualKey
from plans.models import BillingProblem, CurrentEntitlement, Plan
from plans.selectors import current_entitlement
from tesslate import health, metrics
from tesslate.health import Reporter
from tests.factories import GatewayModelFactory, UserFactory
from tests.tesslate.test_health import make_event

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("free_plan")]


@pytest.fixture(autouse=True)
def quiet_neighbours(monkeypatch):
    monkeypatch.setattr(health, "reporter", Reporter({}))


def figures(client: Client) -> dict[str, float]:
    response = client.get("/metrics")
    assert response.status_code == 200
    return {
        sample.name + "".join(f",{k}={v}" for k, v in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(response.content.decode())
        for sample in family.samples
    }


def test_backlogs_are_told_by_kind_of_work(client: Client):
    make_event("evt_1")
    make_event("evt_2", state="dead")

    told = figures(client)

    assert told["tesslate_backlog,work=inbox"] == 1
    assert told["tesslate_backlog_stuck,work=inbox"] == 1
    assert told["tesslate_backlog_oldest_seconds,work=inbox"] >= 0
    assert told["tesslate_backlog,work=key_sync"] == 0


def test_figures_of_keys_database_and_neighbours_are_there(client: Client, monkeypatch):
    monkeypatch.setattr(
        health,
        "reporter",
        Reporter({"litellm": dict, "stripe": lambda: 1 / 0}),  # type: ignore[dict-item, return-value]
    )

    told = figures(client)

    assert told["tesslate_keys_parked"] == 0
    assert 0 < told["tesslate_database_connections"] < told["tesslate_database_connections_max"]
    assert told["tesslate_neighbour_up,neighbour=litellm"] == 1
    assert told["tesslate_neighbour_up,neighbour=stripe"] == 0


def test_database_that_is_down_hides_nothing_else(client: Client, monkeypatch):
    def fail(self: object) -> None:
        raise OperationalError

    monkeypatch.setattr(metrics.DatabaseFigures, "collect", fail)
    monkeypatch.setattr(health, "reporter", Reporter({"postgres": dict}))

    told = figures(client)

    assert told["tesslate_neighbour_up,neighbour=postgres"] == 1
    assert "tesslate_database_connections" not in told


def test_open_billing_problems_are_counted_by_kind(client: Client):
    BillingProblem.objects.create(kind="dispute", subject="dp_1", summary="x")

    told = figures(client)

    assert told["tesslate_billing_problems_open,kind=dispute"] == 1


def test_users_are_counted_by_plan_and_source(client: Client, user: User, stranger: User):
    current_entitlement(user)
    current_entitlement(stranger)

    assert figures(client)["tesslate_users,plan=free,source=default"] == 2


def test_models_are_told_with_their_provider(client: Client):
    GatewayModelFactory.create(name="basic-chat", provider="Our own brand")
    GatewayModelFactory.create(name="not-in-the-file")

    told = figures(client)

    assert told["tesslate_model_info,model=basic-chat,provider=meta_llama"] == 1
    assert told["tesslate_model_info,model=not-in-the-file,provider=unknown"] == 1


def test_messages_that_wait_are_counted_by_queue(client: Client, monkeypatch):
    def answer() -> dict[str, dict[str, int]]:
        return {"queues": {"keys": 3}}

    monkeypatch.setattr(health, "reporter", Reporter({"redis": answer}))

    assert figures(client)["tesslate_queue_depth,queue=keys"] == 3


@pytest.mark.usefixtures("empty_cache")
class TestSpend:
    def test_spend_is_told_by_who_pays_for_it(self, client: Client, free_plan):
        for source, grace, dollars in [
            ("subscription", None, "3.50"),
            ("organization", None, "1.50"),
            ("subscription", timezone.now(), "4"),
            ("grant", None, "2"),
            ("default", None, "0.25"),
        ]:
            spender(free_plan, source=source, grace=grace, dollars=dollars)

        told = figures(client)

        assert told["tesslate_spend_dollars,paid_by=customer"] == 5
        assert told["tesslate_spend_dollars,paid_by=overdue"] == 4
        assert told["tesslate_spend_dollars,paid_by=grant"] == 2
        assert told["tesslate_spend_dollars,paid_by=free_plan"] == 0.25

    def test_spend_is_counted_once_a_minute(self, client: Client, free_plan):
        first = figures(client)["tesslate_spend_dollars,paid_by=grant"]
        spender(free_plan, source="grant", grace=None, dollars="2")

        assert figures(client)["tesslate_spend_dollars,paid_by=grant"] == first == 0

    def test_cache_that_is_down_hides_nothing_else(self, client: Client, monkeypatch):
        def fail(*args: object) -> None:
            raise CacheDown

        monkeypatch.setattr(cache, "get_or_set", fail)

        told = figures(client)

        assert not [name for name in told if name.startswith("tesslate_spend")]
        assert "tesslate_database_connections" in told


def spender(plan: Plan, *, source: str, grace: datetime | None, dollars: str) -> None:
    user = UserFactory.create()
    CurrentEntitlement.objects.create(
        user=user,
        plan=plan,
        source=source,
        grace_ends_at=grace,
        period_start=timezone.now(),
        period_end=timezone.now(),
        decided_at=timezone.now(),
    )
    VirtualKey.objects.create(
        user=user, alias=f"a-{user.pk}", key_hash=f"h-{user.pk}", last_four="0000", spend=dollars
    )


def test_counters_of_the_apps_are_there(client: Client):
    assert "tesslate_webhooks_total" in client.get("/metrics").content.decode()


def test_every_family_has_help_and_the_prefix(client: Client):
    content = client.get("/metrics").content.decode()

    for line in content.splitlines():
        if line.startswith("# HELP"):
            assert line.split()[2].startswith(("tesslate_", "python_", "process_"))


@pytest.mark.parametrize("address", ["127.0.0.1", "10.1.2.3", "172.16.0.9", "192.168.1.1", "::1"])
def test_private_network_may_read(client: Client, address):
    assert client.get("/metrics", REMOTE_ADDR=address).status_code == 200


@pytest.mark.parametrize("address", ["8.8.8.8", "2001:4860::1", "", "nonsense"])
def test_everybody_else_may_not(client: Client, address):
    assert client.get("/metrics", REMOTE_ADDR=address).status_code == 403


def test_private_proxy_does_not_make_its_callers_private(client: Client):
    response = client.get(
        "/metrics", REMOTE_ADDR="10.0.0.1", headers={"X-Forwarded-For": "127.0.0.1"}
    )

    assert response.status_code == 403


def test_with_a_token_only_its_bearer_may_read(client: Client, settings):
    settings.METRICS_TOKEN = "a-token"

    assert client.get("/metrics").status_code == 403
    assert client.get("/metrics", headers={"Authorization": "Bearer wrong"}).status_code == 403
    response = client.get(
        "/metrics", REMOTE_ADDR="8.8.8.8", headers={"Authorization": "Bearer a-token"}
    )
    assert response.status_code == 200


def test_several_processes_are_added_up_and_the_dead_say_nothing_of_the_present(tmp_path):
    """prometheus_client decides at import, so this needs processes of its own."""
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    count = (
        "from prometheus_client import Counter, Gauge; Counter('tesslate_x', 'X').inc(2)\n"
        "Gauge('tesslate_y', 'Y', multiprocess_mode='livesum').set(5)"
    )
    for _ in range(2):
        subprocess.run([sys.executable, "-c", count], env=environment, check=True)
    read = (
        "import django; django.setup()\n"
        "from tesslate.metrics import process_figures, generate_latest\n"
        "print(generate_latest(process_figures()).decode())"
    )
    done = subprocess.run(
        [sys.executable, "-c", read],
        env={**environment, "DJANGO_SETTINGS_MODULE": "tesslate.settings"},
        check=True,
        capture_output=True,
        text=True,
    )
    assert "tesslate_x_total 4.0" in done.stdout
    assert "tesslate_y" not in done.stdout
