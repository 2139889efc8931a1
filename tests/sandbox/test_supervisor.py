"""Keeping programs running: order, restarts, last words, and every way to end."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from sandbox.supervisor import (
    Console,
    Service,
    StartFailed,
    StopRequested,
    Supervisor,
    program,
)
from tests.sandbox.processes import is_running, needs_proc, wait_for

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def changes() -> list[dict[str, int]]:
    return []


@pytest.fixture
def supervisor(tmp_path, changes):
    logs = tmp_path / "logs"
    logs.mkdir()

    def on_change(processes):
        changes.append({name: pid for name, (pid, _) in processes.items()})

    supervisor = Supervisor(logs=logs, console=Console(), on_change=on_change)
    yield supervisor
    supervisor.kill()
    supervisor.stop()


@pytest.fixture
def shell(tmp_path):
    """Build a service out of a line of shell."""

    def build(name: str, script: str, **options) -> Service:
        return program(
            name,
            ["/bin/sh", "-c", script],
            environment=dict(os.environ),
            folder=tmp_path,
            **options,
        )

    return build


def watching(supervisor: Supervisor) -> threading.Thread:
    thread = threading.Thread(target=supervisor.watch)
    thread.start()
    return thread


class TestStart:
    def test_returns_once_all_are_ready(self, supervisor, shell, tmp_path):
        flag = tmp_path / "flag"
        slow = shell("slow", f"sleep 0.3; touch {flag}; sleep 60", is_ready=flag.exists)
        supervisor.start(slow, shell("quick", "sleep 60"))
        assert flag.exists()

    def test_a_program_that_ends_at_its_start_shows_its_last_lines(self, supervisor, shell):
        broken = shell("web", "echo no such table >&2; exit 3", is_ready=lambda: False)
        with pytest.raises(StartFailed) as caught:
            supervisor.start(broken)
        assert "web ended (exit code 3)" in str(caught.value)
        assert "no such table" in str(caught.value)

    def test_a_program_that_stays_silent_is_not_waited_for_for_ever(self, supervisor, shell):
        silent = shell("web", "sleep 60", is_ready=lambda: False)
        silent.start_seconds = 0.2
        with pytest.raises(StartFailed, match="web is not ready after"):
            supervisor.start(silent)

    def test_ctrl_c_interrupts_the_wait(self, supervisor, shell):
        threading.Timer(0.2, supervisor.request_stop).start()
        with pytest.raises(StopRequested):
            supervisor.start(shell("web", "sleep 60", is_ready=lambda: False))


class TestSteps:
    def test_a_step_runs_to_its_end_and_leaves_no_process_noted(self, supervisor, shell, changes):
        supervisor.run_once(shell("migrate", "echo done"))
        assert changes[-1] == {}

    def test_a_step_that_fails_says_why(self, supervisor, shell):
        with pytest.raises(StartFailed, match=r"(?s)exit code 2.*unknown column"):
            supervisor.run_once(shell("migrate", "echo unknown column; exit 2"))


class TestOutput:
    def test_each_line_goes_to_the_terminal_and_to_a_log_of_its_own(
        self, supervisor, shell, tmp_path, capsys
    ):
        supervisor.run_once(shell("web", "echo one; printf 'no newline'"))
        assert (tmp_path / "logs" / "web.log").read_text() == "one\nno newline\n"
        assert "        web │ one\n" in capsys.readouterr().out

    def test_bytes_that_are_no_text_do_not_stop_it(self, supervisor, shell, tmp_path):
        supervisor.run_once(shell("web", r"printf '\377\376 odd\n'; echo after"))
        assert (tmp_path / "logs" / "web.log").read_text().endswith("odd\nafter\n")


class TestRestart:
    def test_a_program_that_dies_comes_back_under_a_new_number(
        self, supervisor, shell, changes, capsys
    ):
        supervisor.start(shell("worker", "sleep 60"))
        first = supervisor.running["worker"].process.pid
        thread = watching(supervisor)
        os.kill(first, signal.SIGKILL)
        assert wait_for(lambda: changes[-1].get("worker") not in {None, first})
        supervisor.request_stop()
        thread.join()
        assert "worker ended (SIGKILL); restarting in 0.5 s" in capsys.readouterr().out

    def test_a_program_that_keeps_dying_is_restarted_ever_more_slowly(
        self, supervisor, shell, monkeypatch, capsys
    ):
        monkeypatch.setattr("sandbox.supervisor.BACKOFF_SECONDS", (0.05, 0.1, 0.2))
        supervisor.start(shell("worker", "sleep 0.3; exit 1"))
        thread = watching(supervisor)
        time.sleep(2)
        supervisor.request_stop()
        thread.join()
        said = capsys.readouterr().out
        pauses = [line.rpartition(" in ")[2] for line in said.splitlines() if "restarting" in line]
        assert pauses[:4] == ["0.05 s", "0.1 s", "0.2 s", "0.2 s"]

    @needs_proc
    def test_what_the_dead_program_had_started_goes_with_it(self, supervisor, shell, tmp_path):
        note = tmp_path / "child"
        supervisor.start(shell("worker", f"sleep 60 & echo $! > {note}; wait"))
        assert wait_for(lambda: note.exists() and note.read_text().strip().isdigit())
        child = int(note.read_text())
        thread = watching(supervisor)
        os.kill(supervisor.running["worker"].process.pid, signal.SIGKILL)
        assert wait_for(lambda: not is_running(child))
        supervisor.request_stop()
        thread.join()


class TestStop:
    def test_phases_stop_one_after_the_other(self, supervisor, shell, tmp_path):
        order = tmp_path / "order"

        def saying(name):
            farewell = f"sleep 0.2; echo {name} >> {order}; exit 0"
            return f"trap '{farewell}' TERM; while :; do sleep 0.05; done"

        names = ("postgres", "worker", "web")
        for phase, name in zip((2, 1, 0), names, strict=True):
            supervisor.start(shell(name, saying(name), stop_phase=phase))
        time.sleep(0.2)
        supervisor.stop()
        assert order.read_text().split() == ["web", "worker", "postgres"]

    def test_what_does_not_stop_in_its_time_is_killed(self, supervisor, shell, changes):
        stubborn = shell("web", 'trap "" TERM; while :; do sleep 0.05; done', stop_within=0.3)
        supervisor.start(stubborn)
        time.sleep(0.2)
        begun = time.monotonic()
        supervisor.stop()
        assert time.monotonic() - begun < 2
        assert supervisor.running["web"].process.returncode == -signal.SIGKILL
        assert changes[-1] == {}

    def test_asked_twice_kills_at_once(self, supervisor, shell):
        stubborn = shell("web", 'trap "" TERM; while :; do sleep 0.05; done', stop_within=30)
        supervisor.start(stubborn)
        time.sleep(0.2)
        threading.Timer(0.3, supervisor.request_stop).start()
        supervisor.request_stop()
        begun = time.monotonic()
        supervisor.stop()
        assert time.monotonic() - begun < 5

    @needs_proc
    def test_killed_itself_it_takes_everything_with_it(self, tmp_path):
        script = textwrap.dedent(
            f"""
            import os, pathlib
            from sandbox.supervisor import Console, Supervisor, program
            logs = pathlib.Path({str(tmp_path)!r})
            announcement = logs / "endpoints.json"
            announcement.write_text("here I am")
            supervisor = Supervisor(logs=logs, console=Console(), on_change=lambda _: None,
                                    announcement=announcement)
            supervisor.start(*(
                program(name, ["/bin/sh", "-c", "sleep 60 & wait"],
                        environment=dict(os.environ), folder=logs)
                for name in ("web", "worker")
            ))
            print(*(one.process.pid for one in supervisor.running.values()), flush=True)
            supervisor.watch()
            """
        )
        owner = subprocess.Popen(
            [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert owner.stdout is not None
        pids = [int(word) for word in owner.stdout.readline().split()]
        assert len(pids) == 2
        assert all(map(is_running, pids))
        owner.kill()
        owner.communicate()
        assert wait_for(lambda: not any(map(is_running, pids)))
        assert not (tmp_path / "endpoints.json").exists()
