"""Long random histories: what a property test does, for hours, against real engines.

`make soak [ONLY=name] [HISTORIES=n] [MINUTES=n]` runs every module in this folder, or the one
named; `make soak ONLY=name SEED=n` runs again what that seed stood for when it was printed. Such a
module (its name begins with no `_`) runs as `python -m tests.soak.NAME [--histories N]
[--minutes N]`, with a PostgreSQL database of its own, migrated and empty, a Valkey database of its
own, and the settings of the tests in its environment. Its last line is
`histories: N, divergences: N`; its exit code is not 0 when there was a divergence.
"""
