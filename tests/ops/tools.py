"""The operators' own programs, where they are installed; `ops/tools` fetches them."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OPS = ROOT / "ops"
# Where `ops/tools` puts what it fetches, and where Debian keeps servers.
PLACES = (str(ROOT / ".tools" / "ops" / "bin"), "/usr/sbin")


def tool(name: str) -> str:
    """Its path; without it the test is skipped."""
    path = shutil.which(name, path=os.pathsep.join([*PLACES, os.environ.get("PATH", "")]))
    if path is None:
        pytest.skip(f"{name} is not installed: see ops/tools")
    return path


def run(*command: str | Path, **options: object) -> str:
    """What it prints; a failure shows all of it."""
    done = subprocess.run(  # type: ignore[call-overload]
        [str(part) for part in command], capture_output=True, text=True, check=False, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return str(done.stdout + done.stderr)
