"""Pictures of every page, light at a desk and dark on a phone.

    python -m tests.e2e.screenshots [--only TEXT] [--output FOLDER]

Looks at the copy that runs in DATA_DIR (.local) and writes into its folder screenshots. What some
pages show is made there first: two organizations, one of which pays for seats, and paid overage in
the pro plan.
"""

import argparse
import os
import sys
from pathlib import Path

from tests.e2e.browser import chromium
from tests.e2e.pages import SITE, STAFF, STAFF_DOORS, Visitors, addresses
from tests.e2e.product import ROOT, Product, product_in

LOOKS = (("light", 1280), ("dark", 390))
SETTLE_MS = 500


def main() -> int:
    copy = ROOT / os.environ.get("DATA_DIR", ".local")
    arguments = parse(sys.argv[1:], copy)
    product = product_in(copy)
    if product is None:
        sys.exit("Nothing runs there: start the product first (make run).")
    arguments.output.mkdir(parents=True, exist_ok=True)
    take(product, arguments.output, arguments.only)
    return 0


def parse(words: list[str], copy: Path) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="names that contain this text")
    parser.add_argument("--output", type=Path, default=copy / "screenshots")
    return parser.parse_args(words)


def take(product: Product, output: Path, only: str = "") -> None:
    with chromium() as browser:
        for scheme, width in LOOKS:
            visitors = Visitors(browser, product, width, scheme)
            ids = addresses(visitors)
            for place in [*SITE, *STAFF_DOORS, *STAFF]:
                if only not in place.name:
                    continue
                page = visitors.of(place.who).new_page()
                page.goto(place.path.format(**ids))
                place.act(page)
                page.wait_for_timeout(SETTLE_MS)
                path = output / f"{place.name}-{width}-{scheme}.png"
                page.screenshot(path=str(path), full_page=True)
                sys.stdout.write(f"{path}\n")
                page.close()
            visitors.close()


if __name__ == "__main__":
    sys.exit(main())
