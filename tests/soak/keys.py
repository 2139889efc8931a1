"""Random histories of keys: see tests/llmkeys/histories.py. `--histories N`, `--minutes N`.

Histories run in batches, each under a seed that is printed; `--seed S` runs that batch again. Each
process has a database of its own, copied from the migrated one that the environment names.
"""

import argparse
import gc
import multiprocessing
import os
import random
import sys
import time
import traceback
from urllib.parse import urlsplit

import psycopg

BATCH = 25
STEPS = 25


def main(argv: list[str]) -> int:
    options = _options(argv)
    seeds = [options.seed] if options.seed is not None else _seeds(options.histories)
    ends_at = time.monotonic() + options.minutes * 60 if options.minutes else None
    histories = divergences = 0
    with multiprocessing.get_context("spawn").Pool(options.jobs, _enter_own_database) as pool:
        for seed, ran, problem in pool.imap_unordered(run_batch, seeds):
            histories += ran
            divergences += bool(problem)
            print(f"seed {seed}: {ran} histories, {'DIVERGED' if problem else 'converged'}")
            if problem:
                print(problem)
            if ends_at is not None and time.monotonic() > ends_at:
                pool.terminate()
                break
    print(f"histories: {histories}, divergences: {divergences}")
    return int(divergences > 0)


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--histories", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=0, help="stop after this long")
    parser.add_argument("--seed", type=int, help="only this batch")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    return parser.parse_args(argv)


def _seeds(histories: int) -> list[int]:
    chooser = random.SystemRandom()
    return [chooser.randrange(2**32) for _ in range(-(-histories // BATCH))]


def _enter_own_database() -> None:
    """Copy the migrated database, so that processes do not wait for each other's rows."""
    parts = urlsplit(os.environ["DATABASE_URL"])
    template, own = parts.path.strip("/"), f"{parts.path.strip('/')}_{os.getpid()}"
    with psycopg.connect(parts._replace(path="/postgres").geturl(), autocommit=True) as admin:
        # Two processes must not copy one template at the same time.
        admin.execute("SELECT pg_advisory_lock(1)")
        admin.execute(f'CREATE DATABASE "{own}" TEMPLATE "{template}"')
    os.environ["DATABASE_URL"] = parts._replace(path=f"/{own}").geturl()

    import logging

    import django

    django.setup()
    # Outages are what this is about; each would be reported.
    logging.getLogger("llmkeys").setLevel(logging.CRITICAL)
    # Most of what a history makes is gone at its end; looking through all the rest costs a tenth.
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def run_batch(seed: int) -> tuple[int, int, str]:
    """Run one batch; gives its seed, how many histories ran, and the first divergence."""
    from hypothesis import HealthCheck, Phase, settings
    from hypothesis import seed as seeded
    from hypothesis.stateful import run_state_machine_as_test

    from tests.llmkeys import histories

    before = histories.histories_run
    problem = ""
    try:
        run_state_machine_as_test(
            seeded(seed)(type("Seeded", (histories.Histories,), {})),
            settings=settings(
                max_examples=BATCH,
                stateful_step_count=STEPS,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
    except Exception:  # noqa: BLE001 - every failure is a divergence, told with its history
        problem = traceback.format_exc()
    return seed, histories.histories_run - before, problem


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
