"""Random lives of paying customers: see tests/plans/lives.py."""

import sys

from tests.soak import _histories

LIVES = _histories.Machine("tests.plans.lives", "Lives", steps=30)

if __name__ == "__main__":
    sys.exit(_histories.main(sys.argv[1:], LIVES, __doc__))
