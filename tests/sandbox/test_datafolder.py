"""The folder of `make run`: whose it is, what it remembers, and what it leaves behind."""

import os
import signal
import stat
import subprocess
import sys

import pytest

from sandbox.datafolder import ROOT, DataFolder, FolderError, begun
from tests.sandbox.processes import is_running, needs_proc


@pytest.fixture
def folder(tmp_path):
    folder = DataFolder(str(tmp_path / "data"))
    folder.open()
    yield folder
    folder.close()


def sleeper() -> "subprocess.Popen[bytes]":
    return subprocess.Popen(["/bin/sleep", "60"], start_new_session=True)


def test_a_relative_name_is_meant_below_the_project():
    assert DataFolder(".local2").path == ROOT / ".local2"


def test_git_does_not_see_it(folder):
    assert "\n*\n" in (folder.path / ".gitignore").read_text()


def test_a_second_run_on_the_same_folder_is_refused_and_told_how(folder):
    with pytest.raises(FolderError, match=rf"process {os.getpid()}.*DATA_DIR=\.local-2"):
        DataFolder(str(folder.path)).open()


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(FolderError, match="DATA_DIR"):
        DataFolder(str(tmp_path)).open()
    with pytest.raises(FolderError, match="not removing"):
        DataFolder(str(tmp_path)).remove()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_secrets_are_made_once_and_for_this_user_only(folder):
    first = folder.secrets()
    assert folder.secrets() == first
    assert len(set(first.values())) == len(first)
    assert stat.S_IMODE((folder.path / "secrets.json").stat().st_mode) == 0o600


def test_manage_py_reads_the_environment_of_the_running_copy(folder):
    folder.write_environment({"DEBUG": "true", "LITELLM_URL": "http://127.0.0.1:4321"})
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in {"DEBUG", "LITELLM_URL", "DATA_DIR"}
    }
    done = subprocess.run(
        [sys.executable, "-c", "from tesslate import settings; print(settings.LITELLM_URL)"],
        cwd=ROOT,
        env=environment | {"DATA_DIR": str(folder.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "http://127.0.0.1:4321"
    assert stat.S_IMODE((folder.path / "env").stat().st_mode) == 0o600


class TestStaleProcesses:
    @needs_proc
    def test_what_an_earlier_run_left_is_ended(self, folder):
        left = sleeper()
        folder.note_processes({"web": (left.pid, signal.SIGTERM)})
        assert folder.end_stale() == 1
        assert not is_running(left.pid)
        assert left.wait() == -signal.SIGTERM
        assert folder.end_stale() == 0

    def test_another_process_with_the_same_number_is_left_alone(self, folder):
        other = sleeper()
        folder.note_processes({"web": (other.pid, signal.SIGTERM)})
        noted = (folder.path / "processes.json").read_text()
        (folder.path / "processes.json").write_text(noted.replace(str(begun(other.pid)), "1"))
        try:
            assert folder.end_stale() == 0
            assert other.poll() is None
        finally:
            other.kill()
            other.wait()

    @needs_proc
    def test_what_ignores_its_signal_is_killed(self, folder, monkeypatch):
        monkeypatch.setattr("sandbox.datafolder.STALE_GRACE_SECONDS", 0.2)
        stubborn = subprocess.Popen(
            ["/bin/sh", "-c", 'trap "" TERM; echo ready; while :; do sleep 1; done'],
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert stubborn.stdout is not None
        stubborn.stdout.readline()
        folder.note_processes({"web": (stubborn.pid, signal.SIGTERM)})
        assert folder.end_stale() == 1
        stubborn.communicate()
        assert stubborn.returncode == -signal.SIGKILL


class TestClean:
    def test_removes_the_folder_and_what_it_put_elsewhere(self, folder, tmp_path):
        elsewhere = tmp_path / "elsewhere"
        (elsewhere / "data").mkdir(parents=True)
        (folder.path / "postgres").mkdir()
        (folder.path / "postgres" / "within-reach").symlink_to(elsewhere)
        folder.close()
        DataFolder(str(folder.path)).remove()
        assert not folder.path.exists()
        assert not elsewhere.exists()

    def test_a_folder_in_use_is_refused(self, folder):
        with pytest.raises(FolderError, match="Another `make run`"):
            DataFolder(str(folder.path)).remove()
        assert folder.path.exists()

    def test_nothing_there_is_nothing_to_do(self, tmp_path):
        DataFolder(str(tmp_path / "absent")).remove()
