"""The real LiteLLM on this machine, with its database, in front of models of our own.

    python -m sandbox.real_litellm                  run it and say how to use it, until Ctrl-C
    python -m sandbox.real_litellm COMMAND …        run a command that holds the stand-in against it

Its configuration is made from litellm.config.yaml: same models, groups and prices. Behind every
model is a stand-in, so that it answers, counts tokens and can be told to fail.

A command finds what tests/contract/gateway reads in its environment, and a proxy with short
memories and windows, or the tests would wait for minutes. Where LITELLM_CONTRACT_URL is set
already, or where LiteLLM cannot be had, the command runs all the same, against what there is.

LiteLLM is installed once, in .tools/litellm (900 MB), by the script up.py of the neighbouring
shared folder: LITELLM_UP or ../shared/litellm/up.py beside this repository. It needs Node.
"""

import hashlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sandbox.binaries import EngineError
from sandbox.datafolder import ROOT, write_private
from sandbox.engines import HOST, Postgres, Valkey, free_port, running, stop
from sandbox.litellm import Settings, build_app
from sandbox.reaper import Reaper
from sandbox.serving import served
from sandbox.stack import TOKENS_PER_SECOND, answers

PRODUCTION = ROOT / "litellm.config.yaml"
INSTALLED = ROOT / ".tools" / "litellm"
DATABASE = "litellm"
# Under a minute on a quiet machine; several times that beside a full test run.
READY_SECONDS = 420
STOP_SECONDS = 15
# For contract tests, in seconds: of a rate limit's window, of the key cache, between writes of
# spend, for a provider.
WINDOW, CACHE_TTL, BATCH, PROVIDER_TIMEOUT = 10, 5, 1, 3


class NotHere(RuntimeError):
    """The real proxy cannot be had on this machine. The message says what is missing."""


class Failed(RuntimeError):
    """It could not be installed or started. The message ends with its last lines."""


@dataclass(frozen=True, kw_only=True)
class Proxy:
    """One LiteLLM to be: where it listens, and who may ask whom."""

    url: str
    port: int
    master_key: str
    provider_url: str
    provider_key: str

    def contract_environment(self) -> dict[str, str]:
        return {
            "LITELLM_CONTRACT_URL": self.url,
            "LITELLM_CONTRACT_MASTER_KEY": self.master_key,
            "LITELLM_CONTRACT_PROVIDER_URL": self.provider_url,
            "LITELLM_CONTRACT_PROVIDER_KEY": self.provider_key,
            "LITELLM_CONTRACT_WINDOW": str(WINDOW),
            "LITELLM_CONTRACT_CACHE_TTL": str(CACHE_TTL),
        }


def main(command: list[str]) -> int:
    if command and os.environ.get("LITELLM_CONTRACT_URL"):
        return run(command)
    try:
        script = find_script()
    except NotHere as reason:
        print(f"No real LiteLLM here, so nothing is held against it: {reason}", flush=True)
        return run(command) if command else 1
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        install(script)
        return with_litellm(script, command)
    except (Failed, EngineError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def with_litellm(script: Path, command: list[str]) -> int:
    """Start it, run the command (or wait for Ctrl-C), stop it."""
    reaper = Reaper()
    folder = Path(tempfile.mkdtemp(prefix="tesslate-litellm-"))
    folder.chmod(0o711)
    reaper.remove(folder)
    postgres = Postgres(folder / "postgres", durable=False)
    valkey = Valkey(folder / "valkey", durable=False)
    provider_key, master_key = f"sk-{secrets.token_hex(24)}", f"sk-{secrets.token_hex(24)}"
    pace = 0.0 if command else float(TOKENS_PER_SECOND)
    models = build_app(Settings(master_key=provider_key, config=PRODUCTION, tokens_per_second=pace))
    try:
        with served(models) as provider_url, running(postgres, valkey):
            postgres.ensure_database(DATABASE)
            port = int(os.environ.get("PORT") or free_port())
            proxy = Proxy(
                url=f"http://{HOST}:{port}",
                port=port,
                master_key=master_key,
                provider_url=provider_url,
                provider_key=provider_key,
            )
            made = for_contracts(proxy) if command else as_in_production(proxy)
            process = start(script, folder, proxy, made, postgres, valkey)
            reaper.watch(process.pid, signal.SIGTERM)
            try:
                wait_until_ready(proxy.url, process, folder / "litellm.log")
                return use(proxy, command)
            finally:
                stop(process, signal.SIGTERM, timeout=STOP_SECONDS)
                reaper.forget(process.pid)
    finally:
        reaper.close()


def use(proxy: Proxy, command: list[str]) -> int:
    if command:
        return run(command, proxy.contract_environment())
    print(
        "LiteLLM is up; Ctrl-C stops it. In another terminal:\n\n"
        f"  make run GATEWAY={proxy.url} GATEWAY_MASTER_KEY={proxy.master_key}\n",
        flush=True,
    )
    signal.pause()
    return 0


def run(command: list[str], environment: Mapping[str, str] | None = None) -> int:
    return subprocess.run(
        command, env={**os.environ, **(environment or {})}, check=False
    ).returncode


def as_in_production(proxy: Proxy) -> dict[str, Any]:
    """Production's configuration, except for the providers. Spend is written every two seconds."""
    config = with_our_models(proxy)
    config["general_settings"] |= {
        "disable_prisma_schema_update": True,
        "proxy_batch_write_at": 2,
    }
    return config


def for_contracts(proxy: Proxy) -> dict[str, Any]:
    """One process that tries once, remembers briefly and shares nothing."""
    config = with_our_models(proxy, timeout=PROVIDER_TIMEOUT)
    config["router_settings"] = {"num_retries": 0, "disable_cooldowns": True}
    config["general_settings"] = {
        "master_key": proxy.master_key,
        "disable_prisma_schema_update": True,
        "store_model_in_db": True,
        "proxy_batch_write_at": BATCH,
        "user_api_key_cache_ttl": CACHE_TTL,
        "cancel_on_disconnect": config["general_settings"]["cancel_on_disconnect"],
    }
    return config


def with_our_models(proxy: Proxy, **more: Any) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(PRODUCTION.read_text())
    for entry in config["model_list"]:
        params = entry["litellm_params"]
        prices = {name: params[name] for name in params if name.endswith("_cost_per_token")}
        entry["litellm_params"] = {
            "model": f"openai/{entry['model_name']}",
            "api_base": f"{proxy.provider_url}/v1",
            "api_key": proxy.provider_key,
            **more,
            **prices,
        }
    return config


def start(
    script: Path,
    folder: Path,
    proxy: Proxy,
    config: dict[str, Any],
    postgres: Postgres,
    valkey: Valkey,
) -> "subprocess.Popen[bytes]":
    database_url = postgres.url(DATABASE)
    call(script, "migrate", INSTALLED, "--database-url", database_url)
    config_path = folder / "config.yaml"
    write_private(config_path, yaml.safe_dump(config))
    environment = {
        **os.environ,
        "LITELLM_MASTER_KEY": proxy.master_key,
        "DATABASE_URL": database_url,
        "STORE_MODEL_IN_DB": "True",
        "REDIS_HOST": HOST,
        "REDIS_PORT": str(valkey.port),
        "REDIS_PASSWORD": valkey.password,
    }
    if "coordination_redis" not in config["general_settings"]:
        environment["LITELLM_RATE_LIMIT_WINDOW_SIZE"] = str(WINDOW)
    command = [sys.executable, str(script), "run", str(INSTALLED), "--port", str(proxy.port)]
    command += ["--database-url", database_url, "--config", str(config_path)]
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


def wait_until_ready(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Raises Failed."""
    ready = answers(url, "/health/readiness")
    deadline = time.monotonic() + READY_SECONDS
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
            raise Failed(f"LiteLLM did not start:\n{tail}")
        time.sleep(0.2)


def find_script() -> Path:
    """Raises NotHere."""
    named = os.environ.get("LITELLM_UP")
    script = Path(named) if named else ROOT.parent / "shared" / "litellm" / "up.py"
    if not script.is_file():
        raise NotHere(f"{named or '../shared/litellm/up.py'} is not there")
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise NotHere("Node is not installed")
    return script


def install(script: Path) -> None:
    """Install LiteLLM once for each version of the script. Raises Failed."""
    marker = INSTALLED / ".installed"
    version = hashlib.sha256(script.read_bytes()).hexdigest()
    if marker.exists() and marker.read_text() == version:
        return
    print(f"Installing LiteLLM, once, in {INSTALLED} …", flush=True)
    call(script, "install", INSTALLED)
    marker.write_text(version)


def call(script: Path, action: str, *arguments: object) -> None:
    """Raises Failed with what the script said."""
    command = [sys.executable, str(script), action, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
        raise Failed(f"LiteLLM: {action} failed:\n{said}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
