"""The operators' own programs, where they are installed; `ops/check` installs them and insists."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OPS = ROOT / "ops"
INSISTS = "OPS_TOOLS_REQUIRED"


def tool(name: str) -> str:
    """Its path. Without it the test is skipped, unless it is known to be wanted."""
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if path is None:
        reason = f"{name} is not installed"
        if os.environ.get(INSISTS):
            pytest.fail(reason)
        pytest.skip(reason)
    return path


def run(*command: str | Path, **options: object) -> str:
    """What it prints; a failure shows all of it."""
    done = subprocess.run(  # type: ignore[call-overload]
        [str(part) for part in command], capture_output=True, text=True, check=False, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return str(done.stdout + done.stderr)
