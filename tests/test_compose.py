"""The compose file, checked without a Docker engine."""

import re
from pathlib import Path

import pytest
import yaml

from tesslate.heartbeat import QUEUES

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


def test_only_the_proxy_is_published_and_grafana_to_this_machine():
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}

    assert set(published) == {"proxy", "grafana"}
    assert all(port.startswith("127.0.0.1:") for port in published["grafana"])


def test_files_that_are_mounted_exist():
    mounted = [
        volume.split(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", [])
        if volume.startswith("./")
    ]

    assert mounted
    for path in mounted:
        assert (ROOT / path).exists(), path


def test_images_are_pinned_to_a_release():
    for name, service in SERVICES.items():
        image = service["image"]
        assert ":" in image, name
        assert not image.endswith(":latest"), name


def test_every_running_service_says_whether_it_is_well():
    for name, service in SERVICES.items():
        if service["restart"] != "no":
            assert "healthcheck" in service, name


def test_prometheus_asks_for_figures_where_they_are_told():
    config = yaml.safe_load((ROOT / "ops" / "prometheus" / "prometheus.yml").read_text())
    asked = {
        (name, found["port"])
        for job in config["scrape_configs"]
        for found in job["dns_sd_configs"]
        for name in found["names"]
    }
    listen = COMPOSE["x-app"]["environment"]["METRICS_LISTEN"].rpartition(":")[2]

    assert {name for name, _ in asked} == {
        "web", "worker", "worker-keys", "worker-bulk", "beat", "litellm"
    }  # fmt: skip
    assert {port for name, port in asked if name.startswith(("worker", "beat"))} == {int(listen)}


@pytest.mark.parametrize(
    "name", ["postgres", "litellm-postgres", "redis", "beat", "migrate", "backup", "prometheus"]
)
def test_what_needs_no_way_out_has_none(name):
    for network in SERVICES[name]["networks"]:
        assert COMPOSE["networks"][network]["internal"] is True


def test_only_litellm_reaches_its_own_database():
    members = [n for n, s in SERVICES.items() if "gateway-db" in s["networks"]]
    assert sorted(members) == ["backup", "litellm", "litellm-postgres"]


def test_every_service_is_bounded_and_restarted():
    for name, service in SERVICES.items():
        if name not in ("migrate", "backup"):
            assert service["restart"] == "unless-stopped", name
            assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory"}, name


def test_containers_are_read_only_and_without_privileges():
    for name, service in SERVICES.items():
        # LiteLLM's image generates its database client when it starts.
        if name != "litellm":
            assert service["read_only"] is True, name
            assert service["cap_drop"] == ["ALL"], name
            assert service["security_opt"] == ["no-new-privileges:true"], name


def test_every_queue_has_a_worker():
    commands = [s["command"] for n, s in SERVICES.items() if n.startswith("worker")]
    served = {command[command.index("--queues") + 1] for command in commands}

    assert served == set(QUEUES)


def test_the_image_holds_everything_that_the_settings_install():
    copied = set(re.findall(r"^COPY (\w+) \1$", (ROOT / "Dockerfile").read_text(), re.M))
    assert {"tesslate", "accounts", "plans", "llmkeys", "chatproxy", "templates"} <= copied
