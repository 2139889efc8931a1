"""`python -m bench [NAME]`: run the benches in this folder, one JSON object a line.

Each module's ``results()`` yields Result; NAME picks one module.
"""

import importlib
import json
import pkgutil
import signal
import sys
from dataclasses import asdict

import bench


def main(arguments: list[str]) -> int:
    # Told to stop, leave by the ordinary way out: engines and programs are ended on it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    names = [module.name for module in pkgutil.iter_modules(bench.__path__)]
    names = [name for name in names if name != "lib" and not name.startswith("_")]
    wanted = arguments or names
    if unknown := set(wanted) - set(names):
        print(f"No bench {', '.join(sorted(unknown))}; there are {', '.join(names)}")
        return 2
    for name in wanted:
        for result in importlib.import_module(f"bench.{name}").results():
            print(json.dumps(asdict(result)), flush=True)
    return 0


sys.exit(main(sys.argv[1:]))
