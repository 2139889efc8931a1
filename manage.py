#!/usr/bin/env python
"""Run the project's management commands."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tesslate.settings")
    from django.core.management import execute_from_command_line

    try:
        execute_from_command_line(sys.argv)
        sys.stdout.flush()
    except BrokenPipeError:
        if not _reader_has_left():
            raise
        sys.exit(1)


def _reader_has_left() -> bool:
    """Whoever reads our output wants no more of it (`| head`), which is no fault."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # What is left to say goes nowhere, or Python would complain once more as it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


if __name__ == "__main__":
    main()
