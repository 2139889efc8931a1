"""The real LiteLLM proxy on this machine, with its database, in front of the stand-in's models.

    python -m sandbox.reallitellm run            start it and say where; Ctrl-C stops it
    python -m sandbox.reallitellm contract …     start it, run the gateway contract tests on it
                                                 (further arguments go to pytest), stop it

It is installed, once, by the script `up.py` of the neighbouring shared folder, found at
LITELLM_UP or ../shared/litellm/up.py beside this repository. Where there is no such script, or no
Node to run its database engine, `contract` says so and succeeds: there is nothing to hold the
stand-in against. LITELLM_INSTALL names a folder where it is installed already.

Its configuration is made from litellm.config.yaml: same models, groups and prices; the provider
behind every model is a stand-in of our own, so that it answers, counts tokens and can be told to
fail. Caches and windows are short, or the tests would wait for minutes.
"""

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import yaml

from sandbox.engines import HOST, Postgres, free_port, running
from sandbox.litellm import Settings, build_app
from sandbox.serving import served

ROOT = Path(__file__).resolve().parent.parent
PRODUCTION = ROOT / "litellm.config.yaml"
DATABASE = "litellm"
START_SECONDS = 300
STOP_SECONDS = 15
# Seconds: of a rate limit's window, of the key cache, between writes of spend, for a provider.
WINDOW, CACHE_TTL, BATCH, PROVIDER_TIMEOUT = 10, 5, 1, 3


class NotHere(Exception):
    """The real proxy cannot be had on this machine; the text says what is missing."""


@dataclass(frozen=True, slots=True)
class Running:
    url: str
    master_key: str
    provider_url: str
    provider_key: str

    def environment(self) -> dict[str, str]:
        """What the contract tests read."""
        return {
            "LITELLM_CONTRACT_URL": self.url,
            "LITELLM_CONTRACT_MASTER_KEY": self.master_key,
            "LITELLM_CONTRACT_PROVIDER_URL": self.provider_url,
            "LITELLM_CONTRACT_PROVIDER_KEY": self.provider_key,
            "LITELLM_CONTRACT_WINDOW": str(WINDOW),
            "LITELLM_CONTRACT_CACHE_TTL": str(CACHE_TTL),
        }


def main(arguments: list[str]) -> int:
    command, *rest = arguments or [""]
    folder = Path(os.environ.get("DATA_DIR", ROOT / ".local")) / "litellm"
    if command not in ("run", "contract"):
        print(__doc__, file=sys.stderr)
        return 2
    try:
        with started(folder) as real:
            if command == "contract":
                return run_contract_tests(real, rest)
            print("LiteLLM is up; Ctrl-C stops it. For the contract tests:")
            for name, value in real.environment().items():
                print(f"export {name}={value}", flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                while True:
                    time.sleep(3600)
            return 0
    except NotHere as reason:
        print(f"No real LiteLLM here, so nothing was held against it: {reason}")
        return 0 if command == "contract" else 1


def run_contract_tests(real: Running, arguments: list[str]) -> int:
    command = [sys.executable, "-m", "pytest", "-n", "0", "-m", "contract", *arguments]
    environment = {**os.environ, **real.environment()}
    where = "tests/contract/gateway"
    done = subprocess.run([*command, where], cwd=ROOT, env=environment, check=False)
    return done.returncode


@contextlib.contextmanager
def started(folder: Path) -> Iterator[Running]:
    """Install where needed, start, and stop on the way out. Raises NotHere."""
    script = find_script()
    folder.mkdir(parents=True, exist_ok=True)
    install = installed(script, folder)
    provider_key, master_key = f"sk-{secrets.token_hex(16)}", f"sk-{secrets.token_hex(16)}"
    models = build_app(Settings(master_key=provider_key, config=PRODUCTION))
    postgres = Postgres(folder / "postgres", durable=False)
    with served(models) as provider_url, running(postgres):
        fresh_database(postgres, script, install)
        port = free_port()
        config = folder / "config.yaml"
        config.write_text(yaml.safe_dump(configuration(provider_url, provider_key, master_key)))
        config.chmod(0o600)
        url = f"http://{HOST}:{port}"
        database_url = postgres.url(DATABASE)
        command = [sys.executable, str(script), "run", str(install)]
        command += ["--database-url", database_url, "--config", str(config), "--port", str(port)]
        with (folder / "litellm.log").open("wb") as log, process(command, log) as proxy:
            wait_until_ready(url, proxy, folder / "litellm.log")
            yield Running(url, master_key, provider_url, provider_key)


def configuration(provider_url: str, provider_key: str, master_key: str) -> dict[str, Any]:
    """Production's configuration with our own provider and shorter memories."""
    config: dict[str, Any] = yaml.safe_load(PRODUCTION.read_text())
    for entry in config["model_list"]:
        params = entry["litellm_params"]
        prices = {name: params[name] for name in params if name.endswith("_cost_per_token")}
        entry["litellm_params"] = {
            "model": f"openai/{entry['model_name']}",
            "api_base": f"{provider_url}/v1",
            "api_key": provider_key,
            **prices,
        }
    config["router_settings"] = {
        "num_retries": 0,
        "disable_cooldowns": True,
        "timeout": PROVIDER_TIMEOUT,
    }
    config["general_settings"] = {
        "master_key": master_key,
        "disable_prisma_schema_update": True,
        "store_model_in_db": True,
        "proxy_batch_write_at": BATCH,
        "user_api_key_cache_ttl": CACHE_TTL,
        "cancel_on_disconnect": config["general_settings"]["cancel_on_disconnect"],
    }
    return config


def find_script() -> Path:
    """Raises NotHere."""
    named = os.environ.get("LITELLM_UP")
    script = Path(named) if named else ROOT.parent / "shared" / "litellm" / "up.py"
    if not script.is_file():
        raise NotHere(f"{named or '../shared/litellm/up.py'} is not there")
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise NotHere("Node is not installed")
    return script


def installed(script: Path, folder: Path) -> Path:
    """The folder it is installed in; installs it there the first time."""
    named = os.environ.get("LITELLM_INSTALL")
    install = Path(named) if named else folder / "install"
    complete = install / "complete"
    if not named and not complete.exists():
        print("Installing LiteLLM, once …", flush=True)
        subprocess.run([sys.executable, str(script), "install", str(install)], check=True)
        complete.touch()
    return install


def fresh_database(postgres: Postgres, script: Path, install: Path) -> None:
    """A database with LiteLLM's tables and nothing in them."""
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS litellm WITH (FORCE)")
    postgres.ensure_database(DATABASE)
    command = [sys.executable, str(script), "migrate", str(install)]
    subprocess.run([*command, "--database-url", postgres.url(DATABASE)], check=True)


@contextlib.contextmanager
def process(command: list[str], log: Any) -> Iterator[subprocess.Popen[bytes]]:
    """The command in a session of its own, ended with everything that it started."""
    environment = {**os.environ, "LITELLM_RATE_LIMIT_WINDOW_SIZE": str(WINDOW)}
    proxy = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield proxy
    finally:
        proxy.terminate()
        try:
            proxy.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            proxy.kill()
        # Its database engine is a process of its own.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(proxy.pid, 9)


def wait_until_ready(url: str, proxy: subprocess.Popen[bytes], log: Path) -> None:
    """Raises RuntimeError, with the end of its log, when it does not come up."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and proxy.poll() is None:
        with contextlib.suppress(OSError, urllib.error.URLError):
            urllib.request.urlopen(f"{url}/health/readiness", timeout=5).close()  # noqa: S310
            return
        time.sleep(0.5)
    tail = log.read_text(errors="replace").splitlines()[-20:]
    raise RuntimeError("\n".join(["LiteLLM did not start:", *tail]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
