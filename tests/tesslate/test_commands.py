"""How commands behave at their edges: arguments that make no sense, and readers who leave."""

import os
import sys
import warnings

import pytest
from django.core import management
from django.core.management import CommandError, call_command

import manage
from tesslate import doctor


@pytest.mark.parametrize(
    "command",
    [
        "read_revenue --since x",
        "import_usage --since x",
        "rebuild_usage --from x",
        "rebuild_usage --to 2026-13-01",
    ],
)
def test_what_is_no_date_is_told_what_one_looks_like(command: str):
    with pytest.raises(CommandError, match=r"is not a date \(YYYY-MM-DD\)"):
        call_command(*command.split())


def test_reader_who_leaves_is_no_fault(monkeypatch: pytest.MonkeyPatch):
    """As in `manage.py show_usage | head`."""
    reading, writing = os.pipe()
    os.close(reading)
    monkeypatch.setattr(management, "execute_from_command_line", lambda argv: sys.stdout.write("x"))
    with os.fdopen(writing, "w") as gone, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", gone)
        with pytest.raises(SystemExit) as ended:
            manage.main()

    assert ended.value.code == 1


def test_pipe_that_breaks_elsewhere_stays_a_fault(monkeypatch: pytest.MonkeyPatch):
    def lose_a_neighbour(argv: list[str]) -> None:
        raise BrokenPipeError("a socket")

    monkeypatch.setattr(management, "execute_from_command_line", lose_a_neighbour)

    with pytest.raises(BrokenPipeError, match="a socket"):
        manage.main()


def test_doctor_on_a_stopped_copy_prints_nothing_but_findings(monkeypatch: pytest.MonkeyPatch):
    def complain(*args: object, **kwargs: object) -> None:
        warnings.warn(
            "Got an error checking a consistent migration history", RuntimeWarning, stacklevel=1
        )

    monkeypatch.setattr(doctor, "call_command", complain)
    monkeypatch.setattr(doctor, "CHECKUPS", {"Schema": doctor.CHECKUPS["Schema"]})

    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        [found] = doctor.diagnose()

    assert (found.state, shown) == (doctor.OK, [])
