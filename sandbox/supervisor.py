"""Keeps a set of programs running, shows what they say, and stops them in order.

Every program leads a session of its own, so that a Ctrl-C at the terminal reaches only the
supervisor, and so that the program's whole family can be ended with it. Should the supervisor die
without a chance to clean up, its reaper (see reaper.py) ends them.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sandbox.reaper import Reaper

TICK_SECONDS = 0.05
TAIL_LINES = 20
# A program that ran this long before it ended starts its backoff afresh.
STEADY_SECONDS = 30.0
BACKOFF_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)

COLOURS = (36, 32, 33, 35, 34, 96, 92, 93, 95, 94)


class StartFailed(RuntimeError):
    """A program ended or stayed silent at its start. The message holds its last lines."""


class StopRequested(Exception):
    """Raised out of every wait once somebody asked to stop."""


@dataclass(kw_only=True)
class Service:
    """A program to keep running. `spawn` starts it, its output going to the descriptor it is given,
    as the leader of a session of its own."""

    name: str
    spawn: Callable[[int], "subprocess.Popen[bytes]"]
    is_ready: Callable[[], bool] = lambda: True
    stop_signal: signal.Signals = signal.SIGTERM
    # Services of the lowest phase are stopped first, together; then the next.
    stop_phase: int = 0
    # Killed when still there so long after the stop began, the phases before it included.
    stop_within: float = 10.0
    start_seconds: float = 60.0


@dataclass
class Running:
    service: Service
    process: "subprocess.Popen[bytes]"
    since: float
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL_LINES))
    pump: threading.Thread | None = None
    failures: int = 0
    restart_at: float | None = None


class Console:
    """Lines on the terminal, each with the coloured name of who said it."""

    def __init__(self, width: int = 11) -> None:
        self._width = width
        self._coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self._colours: dict[str, int] = {}
        self._lock = threading.Lock()

    def line(self, name: str, text: str) -> None:
        prefix = f"{name:>{self._width}} │ "
        if self._coloured:
            colour = self._colours.setdefault(name, COLOURS[len(self._colours) % len(COLOURS)])
            prefix = f"\x1b[{colour}m{prefix}\x1b[0m"
        self.write(f"{prefix}{text}\n")

    def write(self, text: str) -> None:
        # The terminal may be gone (SIGHUP); that is no reason to stop halfway through stopping.
        with self._lock, contextlib.suppress(OSError, ValueError):
            sys.stdout.write(text)
            sys.stdout.flush()


class Supervisor:
    """Starts, watches and stops services. `on_change` hears of every process that came or went.

    `announcement` is a file that says it is running: it goes when the supervisor goes, however.
    """

    def __init__(
        self,
        *,
        logs: Path,
        console: Console,
        on_change: Callable[[Mapping[str, tuple[int, signal.Signals]]], None],
        announcement: Path | None = None,
    ) -> None:
        self.running: dict[str, Running] = {}
        self._logs = logs
        self._console = console
        self._on_change = on_change
        self._reaper = Reaper()
        if announcement is not None:
            self._reaper.remove(announcement)
        self._requests = 0

    def request_stop(self) -> None:
        """Ask for an orderly stop; asked again, kill everything now. Safe in a signal handler."""
        self._requests += 1
        if self._requests > 1:
            self.kill()

    @property
    def stopping(self) -> bool:
        return self._requests > 0

    def say(self, text: str) -> None:
        self._console.line("run", text)

    def start(self, *services: Service) -> None:
        """Start the services together and return when all are ready.

        Raises StartFailed, or StopRequested.
        """
        begun = [self._spawn(service) for service in services]
        for one in begun:
            self._await_ready(one)

    def run_once(self, service: Service) -> None:
        """Run a program to its end. Raises StartFailed when that is not exit code 0."""
        one = self._spawn(service)
        while one.process.poll() is None:
            self.check_stop()
            time.sleep(TICK_SECONDS)
        self._ended(one)
        del self.running[service.name]
        if one.process.returncode != 0:
            raise StartFailed(self._post_mortem(one))

    def watch(self) -> None:
        """Restart what ends, until somebody asks to stop."""
        while not self.stopping:
            for one in list(self.running.values()):
                if one.restart_at is not None:
                    if time.monotonic() >= one.restart_at:
                        self._restart(one)
                elif one.process.poll() is not None:
                    self._schedule_restart(one)
            time.sleep(TICK_SECONDS)

    def stop(self) -> None:
        """Stop everything, phase by phase; whatever does not stop in its time is killed."""
        self._requests = max(self._requests, 1)
        begun = time.monotonic()
        for phase in sorted({one.service.stop_phase for one in self.running.values()}):
            group = [one for one in self.running.values() if one.service.stop_phase == phase]
            for one in group:
                if one.process.poll() is None:
                    with contextlib.suppress(ProcessLookupError):
                        one.process.send_signal(one.service.stop_signal)
            for one in group:
                self._await_end(one, begun + one.service.stop_within)
        self._reaper.close()

    def kill(self) -> None:
        for one in self.running.values():
            _kill_session(one.process.pid)

    def check_stop(self) -> None:
        if self.stopping:
            raise StopRequested

    def wait(self, seconds: float) -> None:
        """Sleep. Raises StopRequested as soon as somebody asks to stop."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.check_stop()
            time.sleep(TICK_SECONDS)

    def _spawn(self, service: Service) -> Running:
        self.check_stop()
        reader, writer = os.pipe()
        try:
            process = service.spawn(writer)
        except BaseException:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        self._reaper.watch(process.pid, service.stop_signal)
        one = Running(service, process, time.monotonic())
        one.pump = threading.Thread(
            target=self._pump, args=(reader, one), name=f"output of {service.name}", daemon=True
        )
        one.pump.start()
        self.running[service.name] = one
        self._changed()
        return one

    def _pump(self, reader: int, one: Running) -> None:
        """Pass on what a program prints: to the terminal, to its log file, to its tail."""
        name = one.service.name
        log_path = self._logs / f"{name}.log"
        with open(reader, errors="replace") as lines, log_path.open("a", buffering=1) as log:
            for line in lines:
                text = line.rstrip("\n")
                one.tail.append(text)
                log.write(text + "\n")
                self._console.line(name, text)

    def _await_ready(self, one: Running) -> None:
        deadline = time.monotonic() + one.service.start_seconds
        while not one.service.is_ready():
            self.check_stop()
            if one.process.poll() is not None:
                raise StartFailed(self._post_mortem(one))
            if time.monotonic() > deadline:
                raise StartFailed(
                    f"{one.service.name} is not ready after {one.service.start_seconds:.0f} s"
                )
            time.sleep(TICK_SECONDS)
        if one.process.poll() is not None:
            raise StartFailed(self._post_mortem(one))

    def _schedule_restart(self, one: Running) -> None:
        self._ended(one)
        if time.monotonic() - one.since > STEADY_SECONDS:
            one.failures = 0
        pause = BACKOFF_SECONDS[min(one.failures, len(BACKOFF_SECONDS) - 1)]
        one.failures += 1
        one.restart_at = time.monotonic() + pause
        self.say(f"{one.service.name} ended ({_how(one.process)}); restarting in {pause:g} s")

    def _restart(self, one: Running) -> None:
        try:
            again = self._spawn(one.service)
        except StopRequested:
            return
        except (OSError, RuntimeError) as error:
            self.say(f"{one.service.name} cannot be started: {error}")
            one.restart_at = time.monotonic() + BACKOFF_SECONDS[-1]
            return
        again.failures = one.failures

    def _await_end(self, one: Running, deadline: float) -> None:
        try:
            one.process.wait(max(deadline - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            self.say(f"{one.service.name} does not stop; killing it")
        self._ended(one)

    def _ended(self, one: Running) -> None:
        """Clear up after a process: what it started goes with it, and its last words are read."""
        _kill_session(one.process.pid)
        one.process.wait()
        self._reaper.forget(one.process.pid)
        if one.pump is not None:
            one.pump.join(1)
        self._changed()

    def _changed(self) -> None:
        self._on_change(
            {
                name: (one.process.pid, one.service.stop_signal)
                for name, one in self.running.items()
                if one.process.returncode is None
            }
        )

    def _post_mortem(self, one: Running) -> str:
        if one.pump is not None:
            one.pump.join(1)
        return "\n".join(
            [
                f"{one.service.name} ended ({_how(one.process)}). Its last lines:",
                *(f"    {line}" for line in one.tail),
            ]
        )


def program(
    name: str,
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    folder: Path,
    is_ready: Callable[[], bool] = lambda: True,
    stop_phase: int = 0,
    stop_within: float = 10.0,
) -> Service:
    """A service that is one command."""

    def spawn(output: int) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            command,
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    return Service(
        name=name,
        spawn=spawn,
        is_ready=is_ready,
        stop_phase=stop_phase,
        stop_within=stop_within,
    )


def _kill_session(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _how(process: "subprocess.Popen[bytes]") -> str:
    code = process.returncode
    if code is None or code >= 0:
        return f"exit code {code}"
    return signal.Signals(-code).name
