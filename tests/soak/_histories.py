"""What soaks of a Hypothesis state machine share: options, seeds, batches, processes, progress.

`--histories N`, `--minutes N`, `--jobs N`. Histories run in batches, each under a seed that is
printed; `--seed S` runs that batch again. Each process has a database of its own, copied from the
migrated one that the environment names.
"""

import argparse
import gc
import importlib
import logging
import multiprocessing
import os
import random
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlsplit

import psycopg

BATCH = 25


@dataclass(frozen=True, slots=True)
class Machine:
    """A state machine by its names, so that another process finds it. Its module counts what ran
    in ``histories_run``."""

    module: str
    name: str
    steps: int
    # Loggers that would report what is part of the histories.
    silenced: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Batch:
    """How one batch ended. ``problem`` is the first divergence with its history, or empty."""

    seed: int
    histories: int
    problem: str


def main(argv: list[str], machine: Machine, description: str | None) -> int:
    """Run a soak to its summary line; the exit code is not 0 when anything diverged."""
    options = _options(argv, description)
    seeds = [options.seed] if options.seed is not None else _seeds(options.histories)
    progress = Progress(len(seeds) * BATCH, options.minutes * 60)
    histories = divergences = 0
    for batch in _batches(machine, seeds, options.jobs, progress):
        histories += batch.histories
        divergences += bool(batch.problem)
        outcome = "DIVERGED" if batch.problem else "converged"
        print(
            f"seed {batch.seed}: {batch.histories} histories, {outcome} ({progress.at(histories)})",
            flush=True,
        )
        if batch.problem:
            print(batch.problem, flush=True)
    print(f"histories: {histories}, divergences: {divergences}")
    return int(divergences > 0)


class Progress:
    """How far a soak is. ``seconds`` is the longest that it may take; 0 for as long as it takes."""

    def __init__(self, wanted: int, seconds: float) -> None:
        self.wanted = wanted
        self.seconds = seconds
        self.begun = time.monotonic()

    def is_over(self) -> bool:
        return bool(self.seconds) and time.monotonic() - self.begun >= self.seconds

    def at(self, histories: int) -> str:
        """So many of those wanted, how many a second, and how long the rest will take."""
        elapsed = max(time.monotonic() - self.begun, 0.001)
        rate = histories / elapsed
        left = max(0, self.wanted - histories) / rate if rate else 0.0
        if self.seconds:
            left = min(left, max(0.0, self.seconds - elapsed))
        return f"{histories} of {self.wanted}, {rate:.1f}/s, {timedelta(seconds=round(left))} to go"


def _options(argv: list[str], description: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description, epilog=__doc__)
    parser.add_argument("--histories", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=0, help="begin no batch after this long")
    parser.add_argument("--seed", type=int, help="only this batch")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    return parser.parse_args(argv)


def _seeds(histories: int) -> list[int]:
    chooser = random.SystemRandom()
    return [chooser.randrange(2**32) for _ in range(-(-histories // BATCH))]


def _batches(machine: Machine, seeds: list[int], jobs: int, progress: Progress) -> Iterator[Batch]:
    """Each batch as it ends. When time is up those that run are finished and no other begins."""
    with ProcessPoolExecutor(
        min(jobs, len(seeds)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_enter,
        initargs=(machine,),
    ) as pool:
        for future in as_completed([pool.submit(_run, machine, seed) for seed in seeds]):
            if progress.is_over():
                pool.shutdown(wait=False, cancel_futures=True)
            if not future.cancelled():
                yield future.result()


def _enter(machine: Machine) -> None:
    """Make this process ready: its own database, and settings as pytest has them."""
    os.environ["DATABASE_URL"] = _own_database(os.environ["DATABASE_URL"])

    import django
    from django.conf import settings

    django.setup()
    # With it Django writes down every statement, parameters and all.
    settings.DEBUG = False
    for name in machine.silenced:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # Most of what a history makes is gone at its end; looking through all the rest costs a tenth.
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def _own_database(url: str) -> str:
    """Copy the migrated database, so that processes do not wait for each other's rows."""
    parts = urlsplit(url)
    template, own = parts.path.strip("/"), f"{parts.path.strip('/')}_{os.getpid()}"
    with psycopg.connect(parts._replace(path="/postgres").geturl(), autocommit=True) as admin:
        # Two processes must not copy one template at the same time.
        admin.execute("SELECT pg_advisory_lock(1)")
        admin.execute(f'CREATE DATABASE "{own}" TEMPLATE "{template}"')
    return parts._replace(path=f"/{own}").geturl()


def _run(machine: Machine, seed: int) -> Batch:
    from hypothesis import HealthCheck, Phase, settings
    from hypothesis import seed as seeded
    from hypothesis.stateful import run_state_machine_as_test

    module = importlib.import_module(machine.module)
    before = module.histories_run
    problem = ""
    try:
        run_state_machine_as_test(
            # Each batch needs a class of its own: the seed is written into it.
            seeded(seed)(type("Seeded", (getattr(module, machine.name),), {})),
            settings=settings(
                max_examples=BATCH,
                stateful_step_count=machine.steps,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
    except Exception:  # noqa: BLE001 - every failure is a divergence, told with its history
        problem = traceback.format_exc()
    return Batch(seed, module.histories_run - before, problem)
