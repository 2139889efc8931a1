"""The compose file, checked without a Docker engine."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE = yaml.safe_load(TEXT)
SERVICES = COMPOSE["services"]
DOCUMENTED = set(re.findall(r"^#? ?([A-Z][A-Z0-9_]+)=", (ROOT / ".env.example").read_text(), re.M))


def test_every_dependency_is_a_service():
    for name, service in SERVICES.items():
        assert set(service.get("depends_on", {})) <= set(SERVICES), name


def test_a_service_that_is_waited_for_has_the_check_that_is_waited_for():
    for service in SERVICES.values():
        for name, need in service.get("depends_on", {}).items():
            if need["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[name], name
            else:
                assert SERVICES[name]["restart"] == "no", name


def test_every_variable_is_described_in_the_example():
    used = set(re.findall(r"(?<!\$)\$\{([A-Z0-9_]+)", TEXT))
    assert used
    assert used <= DOCUMENTED


def test_no_secret_has_a_default():
    for name, default in re.findall(r"\$\{([A-Z0-9_]+):?-([^}]*)\}", TEXT):
        assert not re.search(r"PASSWORD|SECRET|_KEY", name), f"{name} defaults to {default!r}"


def test_only_web_is_published():
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["web"]


@pytest.mark.parametrize("name", ["postgres", "litellm-postgres", "redis", "beat"])
def test_what_needs_no_way_out_has_none(name):
    for network in SERVICES[name]["networks"]:
        assert COMPOSE["networks"][network]["internal"] is True


def test_only_litellm_reaches_its_own_database():
    members = [n for n, s in SERVICES.items() if "gateway-db" in s["networks"]]
    assert sorted(members) == ["litellm", "litellm-postgres"]


def test_every_service_is_bounded_and_restarted():
    for name, service in SERVICES.items():
        if name != "migrate":
            assert service["restart"] == "unless-stopped", name
            assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory"}, name


def test_our_own_containers_are_read_only_and_without_privileges():
    for name in ("web", "worker", "worker-keys", "worker-bulk", "beat", "migrate"):
        assert SERVICES[name]["read_only"] is True
        assert SERVICES[name]["cap_drop"] == ["ALL"]


def test_the_image_holds_everything_that_the_settings_install():
    copied = set(re.findall(r"^COPY (\w+) \1$", (ROOT / "Dockerfile").read_text(), re.M))
    assert {"tesslate", "accounts", "plans", "llmkeys", "chatproxy", "templates"} <= copied
