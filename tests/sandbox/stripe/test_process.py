"""The stand-in as a process of its own: started, killed, started again."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from sandbox.engines import free_port
from tests.sandbox.processes import wait_for

ROOT = Path(__file__).parents[3]
KEY = "sk_test_process"


def environment(port: int, folder: Path, webhook_url: str) -> dict[str, str]:
    return {
        **os.environ,
        "SANDBOX_STRIPE_PORT": str(port),
        "SANDBOX_STRIPE_SECRET_KEY": KEY,
        "SANDBOX_STRIPE_DATA": str(folder),
        "SANDBOX_STRIPE_WEBHOOK_URL": webhook_url,
        "SANDBOX_STRIPE_WEBHOOK_SECRET": "whsec_process",
    }


@contextmanager
def process(variables: dict[str, str]) -> Iterator[tuple[subprocess.Popen[bytes], httpx.Client]]:
    running = subprocess.Popen([sys.executable, "-m", "sandbox.stripe"], env=variables, cwd=ROOT)
    base = f"http://127.0.0.1:{variables['SANDBOX_STRIPE_PORT']}"
    headers = {"Authorization": f"Bearer {KEY}"}
    try:
        with httpx.Client(base_url=base, headers=headers, trust_env=False) as http:

            def answers() -> bool:
                try:
                    return http.get("/healthcheck").status_code == 200
                except httpx.TransportError:
                    return False

            assert wait_for(answers, 30)
            yield running, http
    finally:
        running.kill()
        running.wait(10)


def test_killed_without_warning_it_has_lost_nothing(tmp_path: Path):
    variables = environment(free_port(), tmp_path, "http://127.0.0.1:9/nobody")
    with process(variables) as (running, http):
        made = http.post(
            "/v1/customers", data={"email": "a@b.c"}, headers={"Idempotency-Key": "k"}
        ).json()
        running.send_signal(signal.SIGKILL)
        running.wait(10)
    with process(variables) as (running, http):
        again = http.post(
            "/v1/customers", data={"email": "a@b.c"}, headers={"Idempotency-Key": "k"}
        )
        assert again.json() == made
        assert again.headers["Idempotent-Replayed"] == "true"
        assert http.get(f"/v1/customers/{made['id']}").json() == made
        events = http.get("/v1/events").json()["data"]
        assert [event["type"] for event in events] == ["customer.created"]
        deliveries = http.get("/sandbox/deliveries").json()
        assert [d["event"] for d in deliveries["deliveries"]] == [events[0]["id"]]
        assert deliveries["counts"]["delivered"] == deliveries["counts"]["dropped"] == 0
        running.send_signal(signal.SIGTERM)
        assert running.wait(10) in (0, -signal.SIGTERM)


def test_variable_that_makes_no_sense_is_named_and_stops_the_start(tmp_path: Path):
    variables = environment(free_port(), tmp_path, "") | {"SANDBOX_STRIPE_PORT": "eighty"}
    done = subprocess.run(
        [sys.executable, "-m", "sandbox.stripe"],
        env=variables,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == "SANDBOX_STRIPE_PORT: 'eighty' is no port number\n"
