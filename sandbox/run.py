"""`make run`: the whole product on this machine, until Ctrl-C.

Variables: PORT (8000; the other services take the ports after it), DATA_DIR (.local), GATEWAY and
GATEWAY_MASTER_KEY (a real LiteLLM instead of the stand-in).
"""

import json
import signal
import sys
import time
from collections.abc import Mapping
from types import FrameType
from typing import Any

from sandbox.binaries import EngineError
from sandbox.datafolder import DataFolder, FolderError
from sandbox.screen import welcome
from sandbox.stack import DATABASE, BadOption, Options, Stack, answers, check_ports_free, log_folder
from sandbox.supervisor import Console, StartFailed, StopRequested, Supervisor

GATEWAY_SECONDS = 10


class Run:
    """One `make run`, from the first check to the last process gone."""

    def __init__(self, options: Options, folder: DataFolder) -> None:
        self.options = options
        self.folder = folder
        self.stack = Stack(options, folder)
        self.console = Console()
        self.demo: dict[str, Any] | None = None
        folder.remove_endpoints()
        self.supervisor = Supervisor(
            logs=log_folder(folder),
            console=self.console,
            on_change=self._processes_changed,
            announcement=folder.endpoints,
        )

    def go(self) -> int:
        """Returns the exit code."""
        for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(name, self._asked_to_stop)
        begun = time.monotonic()
        code = 0
        try:
            self._start()
            self.supervisor.say(f"Everything is up after {time.monotonic() - begun:.1f} s.")
            self.console.write(welcome(self.stack, self.demo or {}))
            self.supervisor.watch()
        except StopRequested:
            pass
        except (StartFailed, EngineError, BadOption) as failure:
            for line in str(failure).splitlines():
                self.supervisor.say(line)
            code = 1
        self._stop()
        return code

    def _start(self) -> None:
        stack, supervisor = self.stack, self.supervisor
        stack.forget_figures()
        supervisor.start(*stack.engines())
        stack.postgres.ensure_database(DATABASE)
        self.folder.write_environment(stack.settings())
        self._check_gateway()
        supervisor.start(*stack.stand_ins())
        supervisor.run_once(stack.step("migrate", "manage.py", "migrate", "--verbosity", "0"))
        supervisor.run_once(stack.step("plans", "manage.py", "seed_plans"))
        supervisor.start(stack.web(), *stack.workers(), stack.beat())
        supervisor.run_once(stack.step("plans", "manage.py", "publish_plans", "--apply"))
        demo = self.folder.path / "demo.json"
        supervisor.run_once(stack.step("seed", "-m", "sandbox.seed", "--output", str(demo)))
        self.demo = json.loads(demo.read_text())
        self._write_endpoints()

    def _check_gateway(self) -> None:
        """A stand-in is ours to wait for; a gateway that was named has to be there."""
        if self.options.gateway is None:
            return
        answering = answers(self.options.gateway, "/health/readiness")
        deadline = time.monotonic() + GATEWAY_SECONDS
        while not answering():
            if time.monotonic() > deadline:
                raise BadOption(f"GATEWAY: {self.options.gateway} does not answer")
            self.supervisor.wait(0.5)

    def _stop(self) -> None:
        self.supervisor.say("Stopping …")
        self.folder.remove_endpoints()
        self.supervisor.stop()
        self.folder.note_processes({})
        self.supervisor.say("Stopped.")

    def _asked_to_stop(self, number: int, frame: FrameType | None) -> None:
        self.supervisor.request_stop()

    def _processes_changed(self, processes: Mapping[str, tuple[int, signal.Signals]]) -> None:
        self.folder.note_processes(processes)
        if self.demo is not None and not self.supervisor.stopping:
            self._write_endpoints()

    def _write_endpoints(self) -> None:
        if self.demo is not None:
            pids = {name: one.process.pid for name, one in self.supervisor.running.items()}
            self.folder.write_endpoints(self.stack.endpoints(self.demo, pids))


def main() -> int:
    try:
        options = Options.from_environment()
        folder = DataFolder(options.data_dir)
        folder.open()
        stale = folder.end_stale()
        check_ports_free(options)
    except (BadOption, FolderError) as error:
        print(error, file=sys.stderr)
        return 2
    if stale:
        print(f"Ended {stale} processes that an earlier run had left behind.")
    try:
        return Run(options, folder).go()
    except EngineError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        folder.close()


if __name__ == "__main__":
    sys.exit(main())
