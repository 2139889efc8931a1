"""`ops/pin-images` writes the digests that the registries tell, all of them or none."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.ops.tools import ROOT

FILES = ("Dockerfile", "docker-compose.yml", "ops/kubernetes/litellm.yaml")
# Tells each image a digest of its own; what is named in UNKNOWN it does not have.
DOCKER = """#!/bin/sh
echo "$*" >> "$CALLS"
[ "$1 $2 $3 $5" = "buildx imagetools inspect --format" ] || exit 64
[ "$4" != "$UNKNOWN" ] || { echo "ERROR: $4: not found" >&2; exit 1; }
echo "sha256:$(printf %s "$4$SALT" | sha256sum | cut -d' ' -f1)"
"""


class Checkout:
    """The files, with a docker beside them that is not one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls = folder / "calls"
        for name in (*FILES, "ops/pin-images"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
        docker = folder / "bin" / "docker"
        docker.parent.mkdir()
        docker.write_text(DOCKER)
        docker.chmod(0o755)

    def pin(self, *files: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.folder / "ops" / "pin-images"), *files],
            env={
                "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
                "CALLS": str(self.calls),
                "UNKNOWN": "",
                "SALT": "",
                **environment,
            },
            capture_output=True,
            text=True,
            check=False,
        )

    def texts(self) -> list[str]:
        return [(self.folder / name).read_text() for name in FILES]

    def images(self) -> set[str]:
        compose = yaml.safe_load((self.folder / "docker-compose.yml").read_text())
        return {service["image"] for service in compose["services"].values()}


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def digest(image: str, salt: str = "") -> str:
    return f"{image}@sha256:{hashlib.sha256((image + salt).encode()).hexdigest()}"


def test_every_image_of_others_gets_its_digest(checkout: Checkout) -> None:
    done = checkout.pin()

    assert done.returncode == 0, done.stderr
    dockerfile = (checkout.folder / "Dockerfile").read_text()
    python = digest("python:3.13-slim-bookworm")
    assert f"FROM {python} AS build\n" in dockerfile
    assert f"FROM {python}\n" in dockerfile
    others = {image for image in checkout.images() if not image.startswith("tesslate:")}
    assert digest("postgres:18-bookworm") in others
    assert all("@sha256:" in image for image in others)
    [litellm] = [image for image in others if "litellm" in image]
    assert litellm.startswith("${LITELLM_IMAGE:-ghcr.io/")
    assert litellm.endswith("}")
    assert "litellm-database" in checkout.texts()[2]
    assert checkout.texts()[2].count("@sha256:") == 1
    assert "tesslate:${TESSLATE_VERSION:-latest}" in checkout.images()


def test_doing_it_again_changes_only_what_moved(checkout: Checkout) -> None:
    checkout.pin()
    before = checkout.texts()

    assert checkout.pin().returncode == 0
    assert checkout.texts() == before
    assert checkout.pin(SALT="moved").returncode == 0
    assert digest("postgres:18-bookworm", "moved") in checkout.images()
    assert digest("postgres:18-bookworm") not in "".join(checkout.texts())


def test_a_registry_that_does_not_answer_leaves_every_file_alone(checkout: Checkout) -> None:
    before = checkout.texts()

    refused = checkout.pin(UNKNOWN="postgres:18-bookworm")

    assert refused.returncode != 0
    assert "postgres:18-bookworm: not found" in refused.stderr
    assert checkout.texts() == before


def test_only_the_named_file_is_pinned(checkout: Checkout) -> None:
    checkout.pin("Dockerfile")

    assert [text.count("@sha256:") for text in checkout.texts()] == [2, 0, 0]
    assert checkout.calls.read_text().splitlines() == [
        "buildx imagetools inspect python:3.13-slim-bookworm --format {{.Manifest.Digest}}"
    ]
