"""axe-core (Deque, MPL-2.0), fetched by npm when a test needs it and kept out of the tree."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

from tests.e2e.browser import do_without

VERSION = "4.10.3"
FOLDER = Path(__file__).resolve().parents[2] / ".tools" / "axe"
SERIOUS = {"serious", "critical"}


def source() -> str:
    """The script, in a folder that Git ignores."""
    script = FOLDER / "node_modules" / "axe-core" / "axe.min.js"
    if not script.exists():
        npm = shutil.which("npm")
        if npm is None:
            do_without("The accessibility checks need npm, once, to fetch axe-core.")
        FOLDER.mkdir(parents=True, exist_ok=True)
        quietly = ("--no-audit", "--no-fund", "--silent")
        command = [npm, "install", "--prefix", str(FOLDER), *quietly, f"axe-core@{VERSION}"]
        subprocess.run(command, check=True, timeout=120)
    return script.read_text()


def violations(page: Page, axe: str) -> list[str]:
    """What is seriously wrong with the page as it is now, one line for each rule and place."""
    # Evaluated, not loaded: the page's own policy stays in force for the page.
    page.evaluate(axe)
    found: list[dict[str, Any]] = page.evaluate(
        "async () => (await axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a',"
        " 'wcag21aa', 'wcag22aa']})).violations"
    )
    return [
        f"{rule['id']} ({rule['impact']}): {node['target']} {node['failureSummary']}"
        for rule in found
        if rule["impact"] in SERIOUS
        for node in rule["nodes"][:5]
    ]
