"""`python -m sandbox.litellm`: serve until told to stop."""

import gc
import sys

from sandbox import serving
from sandbox.litellm.app import build_app
from sandbox.litellm.catalogue import CatalogueError
from sandbox.litellm.settings import SettingsError, from_environment, port_from_environment


def main() -> int:
    try:
        app, port = build_app(from_environment()), port_from_environment()
    except (SettingsError, CatalogueError) as error:
        print(error, file=sys.stderr)
        return 2
    # A hundred thousand keys that stay: looking through them again would stall every stream.
    gc.freeze()
    serving.run(app, port=port)
    return 0


if __name__ == "__main__":
    sys.exit(main())
