"""How much is left to chance: with EFFORT=n, n times as many random cases as `make test` takes.

Each run takes other ones (but for the API's fuzzing), so what a quick run leaves out comes up in
the next; CI takes more at once, and `make soak` tens of thousands.
"""

import os

EFFORT = max(1, int(os.environ.get("EFFORT", "1")))
