"""The stand-in as a process of its own: settings, and what survives it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from sandbox.engines import free_port
from sandbox.litellm.records import hash_of
from tests.sandbox.litellm.conftest import CONFIG, MASTER_KEY, VALUE, Client

pytestmark = pytest.mark.usefixtures("socket_enabled")

COMMAND = [sys.executable, "-m", "sandbox.litellm"]


def environment(**changes: str) -> dict[str, str]:
    given = {
        "SANDBOX_LITELLM_PORT": "1",
        "SANDBOX_LITELLM_MASTER_KEY": MASTER_KEY,
        "SANDBOX_LITELLM_CONFIG": str(CONFIG),
    }
    return {**os.environ, **given, **changes}


@contextmanager
def running(data: Path, how: signal.Signals) -> Iterator[Client]:
    """A stand-in that keeps its state in `data`, ended by `how`."""
    port = free_port()
    settings = environment(SANDBOX_LITELLM_PORT=str(port), SANDBOX_LITELLM_DATA=str(data))
    with (
        subprocess.Popen(COMMAND, env=settings) as process,
        Client(f"http://127.0.0.1:{port}") as c,
    ):
        try:
            deadline = time.monotonic() + 20
            while True:
                try:
                    c.get("/health/readiness")
                    break
                except httpx.TransportError:
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
            yield c
        finally:
            process.send_signal(how)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_state_survives_the_process(tmp_path: Path, how: signal.Signals) -> None:
    with running(tmp_path, how) as http:
        http.post("/budget/new", json={"budget_id": "plan-free", "rpm_limit": 3})
        http.post("/team/new", json={"team_id": "plan-free", "models": ["plan-free"]})
        http.post("/user/new", json={"user_id": "u", "auto_create_key": False})
        group = http.post(
            "/v1/access_group", json={"access_group_name": "g", "access_model_names": ["a"]}
        ).json()["access_group_id"]
        fields = {"key": VALUE, "key_alias": "alias", "metadata": {"n": 1}, "max_budget": 2}
        http.post("/key/generate", json={**fields, "budget_id": "plan-free"})
        gone = http.post("/key/generate", json={}).json()["token"]
        http.post("/key/delete", json={"keys": [gone]})
        http.post("/key/update", json={"key": VALUE, "blocked": True})
        http.post("/key/unblock", json={"key": VALUE})
        assert http.chat().status_code == 200
        row = http.get("/key/info", params={"key": VALUE}).json()["info"]
        time.sleep(0.2)  # spend is not committed call by call
    with running(tmp_path, how) as http:
        again = http.get("/key/info", params={"key": VALUE}).json()["info"]
        assert again == row
        assert again["spend"] > 0
        assert http.get("/key/info", params={"key": gone}).json()["info"]["status"] == "deleted"
        assert http.get("/key/list").json()["keys"] == [hash_of(VALUE)]
        assert http.get("/key/list", params={"key_alias": "alias"}).json()["total_count"] == 1
        assert (
            http.post("/budget/info", json={"budgets": ["plan-free"]}).json()[0]["rpm_limit"] == 3
        )
        assert http.get("/team/info", params={"team_id": "plan-free"}).status_code == 200
        assert http.get("/user/info", params={"user_id": "u"}).status_code == 200
        assert http.get(f"/v1/access_group/{group}").status_code == 200
        assert len(http.get("/spend/logs", params={"api_key": VALUE}).json()) == 1
        assert http.chat().headers["x-litellm-key-rpm-limit"] == "3"


def test_management_is_committed_before_it_is_answered(tmp_path: Path) -> None:
    with running(tmp_path, signal.SIGKILL) as http:
        tokens = [http.post("/key/generate", json={}).json()["token"] for _ in range(20)]
    with running(tmp_path, signal.SIGTERM) as http:
        listed = http.get("/key/list", params={"size": 100}).json()["keys"]
    assert set(listed) == set(tokens)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"SANDBOX_LITELLM_MASTER_KEY": ""}, "SANDBOX_LITELLM_MASTER_KEY"),
        ({"SANDBOX_LITELLM_PORT": "many"}, "SANDBOX_LITELLM_PORT"),
        ({"SANDBOX_TOKENS_PER_SECOND": "-1"}, "SANDBOX_TOKENS_PER_SECOND"),
        ({"SANDBOX_LITELLM_CONFIG": "/nowhere.yaml"}, "/nowhere.yaml"),
    ],
)
def test_nonsense_settings_stop_the_start_with_one_line(
    changes: dict[str, str], named: str
) -> None:
    done = subprocess.run(
        COMMAND,
        env=environment(**changes),
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 2
    assert named in done.stderr
    assert len(done.stderr.splitlines()) == 1
