"""The manifests: valid, consistent with each other, and with what the product does and expects."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from django.urls import resolve

from tesslate.heartbeat import QUEUES
from tests.ops.tools import OPS, ROOT, run, tool

FOLDER = OPS / "kubernetes"
FILES = sorted(path for path in FOLDER.glob("*.yaml") if path.name != "kustomization.yaml")
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
OBJECTS = [item for path in FILES for item in yaml.safe_load_all(path.read_text())]
# The oldest and the newest release that these manifests are meant for.
VERSIONS = ("1.31", "1.34")


def kind(*names: str) -> list[dict[str, Any]]:
    return [item for item in OBJECTS if item["kind"] in names]


WORKLOADS = {item["metadata"]["name"]: item for item in kind("Deployment", "StatefulSet", "Job")}
SERVERS = {name: item for name, item in WORKLOADS.items() if item["kind"] != "Job"}
OURS = set(WORKLOADS) - {"litellm"}


def pod(name: str) -> dict[str, Any]:
    spec: dict[str, Any] = WORKLOADS[name]["spec"]["template"]["spec"]
    return spec


def container(name: str) -> dict[str, Any]:
    [only] = pod(name)["containers"]
    found: dict[str, Any] = only
    return found


def probes(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        if probe in container(name):
            yield probe, container(name)[probe]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_valid(version):
    validate = tool("kubernetes-validate")

    told = run(validate, "--strict", "-k", version, *FILES)

    assert told.count(" passed for resource ") == len(OBJECTS)


def test_every_file_is_part_of_what_is_applied():
    assert sorted(KUSTOMIZATION["resources"]) == [path.name for path in FILES]


def test_kustomize_renders_all_of_it_into_one_namespace():
    rendered = [*yaml.safe_load_all(run(tool("kubectl"), "kustomize", FOLDER))]

    assert len(rendered) == len(OBJECTS)
    assert {item["metadata"]["namespace"] for item in rendered} == {"tesslate"}
    used = {
        found["image"]
        for item in rendered
        for found in item.get("spec", {}).get("template", {}).get("spec", {}).get("containers", [])
    }
    assert all(re.search(r":[\w.-]*\d[\w.-]*$", image) for image in used), used


def test_web_is_restarted_for_itself_alone_and_served_once_it_can_serve():
    asked = {name: probe["httpGet"]["path"] for name, probe in probes("web")}

    assert asked == {
        "startupProbe": "/health/live",
        "livenessProbe": "/health/live",
        "readinessProbe": "/health/ready",
    }
    for path in asked.values():
        resolve(path)


def test_workers_and_beat_are_restarted_when_they_stand_still():
    for name in OURS - {"web", "migrate"}:
        assert dict(probes(name))["livenessProbe"]["httpGet"]["path"] == "/health/live", name


def test_gateway_is_never_asked_to_call_its_providers():
    assert "/health" not in {probe["httpGet"]["path"] for _, probe in probes("litellm")}


def test_probes_and_figures_are_asked_for_at_ports_that_are_there():
    for name, workload in SERVERS.items():
        ports = {port["name"]: port["containerPort"] for port in container(name)["ports"]}
        assert {probe["httpGet"]["port"] for _, probe in probes(name)} <= set(ports), name
        annotations = workload["spec"]["template"]["metadata"]["annotations"]
        assert int(annotations["prometheus.io/port"]) in ports.values(), name


def test_workers_listen_where_they_are_asked():
    [settings] = kind("ConfigMap")
    port = int(settings["data"]["METRICS_LISTEN"].rpartition(":")[2])

    for name in OURS - {"web", "migrate"}:
        assert container(name)["ports"] == [{"name": "metrics", "containerPort": port}]


def test_every_queue_has_workers():
    commands = [container(name)["command"] for name in OURS if name.startswith("worker")]

    assert {command[command.index("--queues") + 1] for command in commands} == set(QUEUES)


def test_beat_is_one_also_while_it_is_replaced():
    assert WORKLOADS["beat"]["spec"]["replicas"] == 1
    assert WORKLOADS["beat"]["spec"]["strategy"]["type"] == "Recreate"


def test_streams_may_end_before_their_process_is_killed():
    pause = int(container("web")["lifecycle"]["preStop"]["exec"]["command"][1])
    command = (ROOT / "Dockerfile").read_text()
    graceful = re.search(r'"--timeout-graceful-shutdown", "(\d+)"', command)
    assert graceful is not None

    assert pause + int(graceful[1]) < pod("web")["terminationGracePeriodSeconds"]


@pytest.mark.parametrize("name", sorted(OURS))
def test_our_containers_are_confined(name):
    assert pod(name)["securityContext"]["runAsNonRoot"] is True
    assert pod(name)["automountServiceAccountToken"] is False
    assert container(name)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert (
        f"--uid {pod(name)['securityContext']['runAsUser']} " in (ROOT / "Dockerfile").read_text()
    )


@pytest.mark.parametrize("name", sorted(WORKLOADS))
def test_every_container_is_bounded(name):
    resources = container(name)["resources"]

    assert {"cpu", "memory"} <= set(resources["requests"])
    assert "memory" in resources["limits"]


def test_names_that_refer_to_each_other_agree():
    labels = {
        name: item["spec"]["template"]["metadata"]["labels"] for name, item in WORKLOADS.items()
    }
    for name, workload in SERVERS.items():
        assert workload["spec"]["selector"]["matchLabels"] == labels[name]
    for item in kind("Service"):
        assert item["spec"]["selector"] in labels.values()
    for item in kind("PodDisruptionBudget"):
        assert item["spec"]["selector"]["matchLabels"] in labels.values()
    for item in kind("HorizontalPodAutoscaler"):
        target = item["spec"]["scaleTargetRef"]
        assert WORKLOADS[target["name"]]["kind"] == target["kind"]
    named = re.findall(r"app: ([\w-]+)|values: \[([^\]]+)\]", (FOLDER / "network.yaml").read_text())
    apps = {name for one, many in named for name in (one, *many.split(", ")) if name}
    assert apps <= set(WORKLOADS)


def test_settings_are_those_that_are_described():
    example = (ROOT / ".env.example").read_text()
    described = set(re.findall(r"^#? ?([A-Z][A-Z0-9_]+)=", example, re.M))
    [settings] = kind("ConfigMap")
    text = (FOLDER / "settings.yaml").read_text()
    secret = set(re.findall(r"[A-Z]+(?:_[A-Z]+)+", text.partition("apiVersion")[0]))

    assert set(settings["data"]) <= described
    assert secret <= described
    assert not secret & set(settings["data"])
