"""Usage as CSV, for spreadsheets."""

import csv
from collections.abc import Mapping
from io import StringIO
from typing import Any

from rest_framework.renderers import BaseRenderer, JSONRenderer


class UsageCsv(BaseRenderer):
    """One row a group, the totals last. Errors stay JSON: nobody looks for them in a table."""

    media_type = "text/csv"
    format = "csv"
    charset = "utf-8"

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> bytes:
        if not isinstance(data, Mapping) or "data" not in data:
            return bytes(JSONRenderer().render(data))
        group = data["group_by"]
        names = [group, *data["total"]]
        text = StringIO()
        writer = csv.DictWriter(text, names)
        writer.writeheader()
        for row in data["data"]:
            writer.writerow({**row, group: harmless(str(row[group]))})
        writer.writerow({group: "total", **data["total"]})
        return text.getvalue().encode()


def harmless(text: str) -> str:
    """Spreadsheets run what begins like a formula; names are not ours to choose."""
    return f"'{text}" if text[:1] in tuple("=+-@\t\r") else text
