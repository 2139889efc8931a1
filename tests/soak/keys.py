"""Random histories of keys: see tests/llmkeys/histories.py."""

import sys

from tests.soak import _histories

# Outages are what this is about; each would be reported.
KEYS = _histories.Machine("tests.llmkeys.histories", "Histories", steps=25, silenced=("llmkeys",))

if __name__ == "__main__":
    sys.exit(_histories.main(sys.argv[1:], KEYS, __doc__))
