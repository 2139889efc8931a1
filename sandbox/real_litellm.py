"""The real LiteLLM, with its database and Valkey, on models that answer by themselves.

    python -m sandbox.real_litellm                  run it and say how to use it, until Ctrl-C
    python -m sandbox.real_litellm COMMAND …        run the command against it, then end both

The command finds LITELLM_CONTRACT_URL and LITELLM_CONTRACT_MASTER_KEY in its environment. Where
LITELLM_CONTRACT_URL is set already the command simply runs. Otherwise LiteLLM is installed by
../shared/litellm/up.py (about 900 MB, into .tools/litellm); without that script there is nothing
to run against, which is said, and is no failure.

It runs with the project's litellm.config.yaml: only each model's provider is replaced by a canned
answer, at the prices the file states, and spend is written every two seconds. LITELLM_CONFIG names
another file, which is then used as it is; PORT another port.
"""

import hashlib
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from sandbox.binaries import EngineError
from sandbox.datafolder import ROOT, write_private
from sandbox.engines import HOST, Postgres, Valkey, free_port, running, stop
from sandbox.reaper import Reaper
from sandbox.stack import answers

LAUNCHER = ROOT.parent / "shared" / "litellm" / "up.py"
INSTALLED = ROOT / ".tools" / "litellm"
DATABASE = "litellm"
# Under a minute on a quiet machine; several times that beside a full test run.
READY_SECONDS = 420
ANSWER = "The canned answer of a model that has no provider behind it."


class RealUnavailable(RuntimeError):
    """LiteLLM could not be installed or started. The message is for a person."""


def main(command: list[str]) -> int:
    if command and os.environ.get("LITELLM_CONTRACT_URL"):
        return subprocess.run(command, check=False).returncode
    if not LAUNCHER.exists():
        print(f"No real LiteLLM here ({LAUNCHER} is missing): not held against it.")
        return 0
    try:
        return with_litellm(command)
    except (RealUnavailable, EngineError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def with_litellm(command: list[str]) -> int:
    """Install where needed, start, run the command (or wait for Ctrl-C), stop."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    install()
    reaper = Reaper()
    folder = Path(tempfile.mkdtemp(prefix="tesslate-litellm-"))
    folder.chmod(0o711)
    reaper.remove(folder)
    postgres = Postgres(folder / "postgres", durable=False)
    valkey = Valkey(folder / "valkey", durable=False)
    master_key = f"sk-{secrets.token_hex(24)}"
    port = int(os.environ.get("PORT") or free_port())
    url = f"http://{HOST}:{port}"
    try:
        with running(postgres, valkey):
            postgres.ensure_database(DATABASE)
            process = start(folder, port, postgres, valkey, master_key)
            reaper.watch(process.pid, signal.SIGTERM)
            try:
                wait_until_ready(url, process, folder / "litellm.log")
                return use(url, master_key, command)
            finally:
                stop(process, signal.SIGTERM)
                reaper.forget(process.pid)
    finally:
        reaper.close()


def install() -> None:
    """Install LiteLLM once for each version of its launcher."""
    marker = INSTALLED / ".installed"
    version = hashlib.sha256(LAUNCHER.read_bytes()).hexdigest()
    if marker.exists() and marker.read_text() == version:
        return
    print(f"Installing LiteLLM in {INSTALLED} …", flush=True)
    call_launcher("install", INSTALLED)
    marker.write_text(version)


def start(
    folder: Path, port: int, postgres: Postgres, valkey: Valkey, master_key: str
) -> "subprocess.Popen[bytes]":
    database_url = postgres.url(DATABASE)
    call_launcher("migrate", INSTALLED, "--database-url", database_url)
    given = os.environ.get("LITELLM_CONFIG")
    config = Path(given) if given else folder / "config.yaml"
    if not given:
        production = yaml.safe_load((ROOT / "litellm.config.yaml").read_text())
        write_private(config, yaml.safe_dump(without_providers(production)))
    environment = {
        **os.environ,
        "LITELLM_MASTER_KEY": master_key,
        "DATABASE_URL": database_url,
        "STORE_MODEL_IN_DB": "True",
        "REDIS_HOST": HOST,
        "REDIS_PORT": str(valkey.port),
        "REDIS_PASSWORD": valkey.password,
    }
    command = [sys.executable, str(LAUNCHER), "run", str(INSTALLED), "--port", str(port)]
    command += ["--database-url", database_url, "--config", str(config)]
    with (folder / "litellm.log").open("wb") as log:
        return subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def without_providers(config: dict[str, Any]) -> dict[str, Any]:
    """The production configuration, its models answering by themselves at their own prices."""
    for model in config["model_list"]:
        params = model["litellm_params"]
        kept = {name: value for name, value in params.items() if "cost_per_token" in name}
        model["litellm_params"] = {
            "model": "openai/canned",
            "api_key": "sk-none",
            "mock_response": ANSWER,
            **kept,
        }
    config["general_settings"] |= {
        "disable_prisma_schema_update": True,
        "proxy_batch_write_at": 2,
    }
    return config


def wait_until_ready(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    ready = answers(url, "/health/readiness")
    deadline = time.monotonic() + READY_SECONDS
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
            raise RealUnavailable(f"LiteLLM did not start:\n{tail}")
        time.sleep(0.2)


def use(url: str, master_key: str, command: list[str]) -> int:
    if not command:
        print(f"LiteLLM is ready. In another terminal:\n\n  {how_to_use(url, master_key)}\n")
        signal.pause()
    environment = {
        "LITELLM_CONTRACT_URL": url,
        "LITELLM_CONTRACT_MASTER_KEY": master_key,
    }
    return subprocess.run(command, env={**os.environ, **environment}, check=False).returncode


def how_to_use(url: str, master_key: str) -> str:
    return f"make run GATEWAY={url} GATEWAY_MASTER_KEY={master_key}"


def call_launcher(action: str, *arguments: object) -> None:
    """Raises RealUnavailable with what the launcher said."""
    command = [sys.executable, str(LAUNCHER), action, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
        raise RealUnavailable(f"LiteLLM: {action} failed:\n{said}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
