"""Statements that are written once, where Django would compose the same one at every turn."""

from collections.abc import Mapping, Sequence
from typing import Any

from django.db import connection


def fetch(statement: str, parameters: Sequence[Any] | Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """All that the statement gives."""
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return list(cursor.fetchall())
