"""`.env.example` and the settings file name the same variables."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = (ROOT / ".env.example").read_text()
DOCUMENTED = set(re.findall(r"^#? ?([A-Z][A-Z0-9_]+)=", EXAMPLE, re.M))
READ = set(
    re.findall(r"env\.\w+\(\s*\"([A-Z0-9_]+)\"", (ROOT / "tesslate" / "settings.py").read_text())
) | {"DEBUG"}


def test_every_variable_that_is_read_is_described():
    assert READ
    assert not READ - DOCUMENTED


def test_every_variable_that_is_described_is_read_somewhere():
    compose = (ROOT / "docker-compose.yml").read_text()
    in_compose = set(re.findall(r"(?:\$\{|\{environment: )([A-Z0-9_]+)", compose))
    assert not DOCUMENTED - READ - in_compose


def test_every_variable_has_a_comment():
    lines = EXAMPLE.splitlines()
    variable = re.compile(r"^#? ?[A-Z][A-Z0-9_]+=")
    for number, line in enumerate(lines):
        if variable.match(line):
            above = next(x for x in reversed(lines[:number]) if not variable.match(x))
            assert above.startswith("#"), line
