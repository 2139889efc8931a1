"""Run the soaks named, or all of them: see tests/soak/__init__.py."""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from sandbox.binaries import EngineError
from sandbox.engines import Postgres, Valkey, running
from sandbox.reaper import Reaper
from tests.engines import set_environment, temporary_root

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
SUMMARY = re.compile(r"histories: (\d+), divergences: (\d+)\s*")
# Those that can run one seed again; the others meet real time and real faults.
SEEDED = {"billing", "inbox", "keys"}
ALL = sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="tests.soak", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(ALL)}; or all")
    for name in ("histories", "minutes", "seed"):
        parser.add_argument(f"--{name}", default=os.environ.get(name.upper()))
    given = parser.parse_args(argv)
    unknown = set(given.names) - set(ALL)
    if unknown:
        parser.error(f"no soak named {', '.join(unknown)}; there are {', '.join(ALL)}")
    names = given.names or ALL
    if given.seed and (len(names) > 1 or not set(names) <= SEEDED):
        parser.error(f"a seed is one soak's own: name one of {', '.join(sorted(SEEDED))}")
    return run(names, options(histories=given.histories, minutes=given.minutes, seed=given.seed))


def run(names: list[str], arguments: list[str]) -> int:
    """Run the soaks one after the other, on engines of their own."""
    reaper = Reaper()
    folder = Path(tempfile.mkdtemp(prefix="tesslate-soak-", dir=temporary_root()))
    folder.chmod(0o711)
    reaper.remove(folder)
    postgres = Postgres(folder / "postgres", durable=False)
    valkey = Valkey(folder / "valkey", durable=False)
    set_environment()
    os.environ["DJANGO_SETTINGS_MODULE"] = "tesslate.settings"
    os.environ["DATA_DIR"] = str(folder)
    try:
        with running(postgres, valkey):
            outcomes = [
                soak(name, postgres, valkey.url(number), arguments)
                for number, name in enumerate(names)
            ]
    except EngineError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    finally:
        reaper.close()
    if len(outcomes) > 1:
        histories, divergences = (sum(column[i] for column in outcomes) for i in (0, 1))
        print(f"histories: {histories}, divergences: {divergences}")
    return max(code for _, _, code in outcomes)


def options(**given: str | None) -> list[str]:
    """As options of a soak's own."""
    return [word for name, value in given.items() if value for word in (f"--{name}", value)]


def soak(
    name: str, postgres: Postgres, redis_url: str, arguments: list[str]
) -> tuple[int, int, int]:
    """Run one to its end, passing on what it prints: histories, divergences, exit code."""
    print(f"== {name}", flush=True)
    database = f"soak_{name}"
    postgres.ensure_database(database)
    environment = os.environ | {"DATABASE_URL": postgres.url(database), "REDIS_URL": redis_url}
    migrate = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
    migrated = subprocess.run(migrate, cwd=ROOT, env=environment, check=False)
    if migrated.returncode != 0:
        return 0, 0, migrated.returncode
    command = [sys.executable, "-u", "-m", f"tests.soak.{name}", *arguments]
    last = ""
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            last = line
            sys.stdout.write(line)
            sys.stdout.flush()
    summary = SUMMARY.fullmatch(last)
    if summary is None:
        print(f"{name} ended without its summary (exit code {process.returncode})")
        return 0, 0, process.returncode or 1
    histories, divergences = int(summary[1]), int(summary[2])
    return histories, divergences, process.returncode or int(divergences > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
