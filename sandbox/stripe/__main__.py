"""Serve the stand-in until SIGINT or SIGTERM. Variables: see settings.py."""

import sys

from sandbox import serving
from sandbox.stripe.app import build_app
from sandbox.stripe.settings import BadSetting, Settings


def main() -> int:
    try:
        settings, port = Settings.from_environment()
    except BadSetting as problem:
        print(problem, file=sys.stderr)
        return 2
    serving.run(build_app(settings), port=port)
    return 0


if __name__ == "__main__":
    sys.exit(main())
