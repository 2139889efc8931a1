"""What lists of the admin are made of, in every app: day ranges, and counts that cost nothing."""

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from typing import Any

from django.contrib import admin
from django.core.paginator import Page, Paginator
from django.db.models import DateTimeField, Field, Model, QuerySet
from django.http import HttpRequest
from django.utils import timezone

# Up to this many rows a list is counted exactly.
COUNTED_UP_TO = 20_000
# Among this many of the newest rows a filter looks for values to offer.
LOOKED_AT = 2_000


class DaysFilter(admin.FieldListFilter):
    """From one day to another, both included, in UTC. A day that is none filters nothing."""

    template = "staffroom/filter_days.html"

    def __init__(
        self,
        field: DateTimeField[Any, Any],
        request: HttpRequest,
        params: dict[str, Any],
        model: type[Model],
        model_admin: Any,
        field_path: str,
    ) -> None:
        self.names = (f"{field_path}_from", f"{field_path}_to")
        super().__init__(field, request, params, model, model_admin, field_path)

    def expected_parameters(self) -> list[str | None]:
        return [*self.names]

    def has_output(self) -> bool:
        return True

    def given(self, name: str) -> date | None:
        values: Any = self.used_parameters.get(name) or ""
        try:
            return date.fromisoformat(values[-1] if isinstance(values, list) else values)
        except ValueError:
            return None

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        first, last = (self.given(name) for name in self.names)
        if first is not None:
            queryset = queryset.filter(**{f"{self.field_path}__gte": _midnight(first)})
        # No year 10000: the last day of the calendar has no day after it.
        if last is not None and last < date.max:
            end = _midnight(last + timedelta(days=1))
            queryset = queryset.filter(**{f"{self.field_path}__lt": end})
        return queryset

    def choices(self, changelist: Any) -> Iterator[Any]:
        """One for each shortcut; the first also carries the two fields."""
        today = timezone.now().date()
        chosen = tuple(self.given(name) for name in self.names)
        shortcuts = (
            ("Any time", None, None),
            ("Today", today, today),
            ("7 days", today - timedelta(days=6), today),
            ("30 days", today - timedelta(days=29), today),
        )
        for label, first, last in shortcuts:
            values = dict(zip(self.names, (first, last), strict=True))
            kept = {name: str(value) for name, value in values.items() if value}
            yield {
                "display": label,
                "selected": chosen == (first, last),
                "query_string": changelist.get_query_string(kept, [*self.names]),
                "fields": list(zip(("From", "To"), self.names, chosen, strict=True)),
            }


class RecentValuesFilter(admin.AllValuesFieldListFilter):
    """Django's filter by a column's values, of which it offers those among the newest rows.

    Which values there are in millions of rows takes a scan; an older one still filters by address.
    """

    def __init__(
        self,
        field: Field[Any, Any],
        request: HttpRequest,
        params: dict[str, Any],
        model: type[Model],
        model_admin: Any,
        field_path: str,
    ) -> None:
        super().__init__(field, request, params, model, model_admin, field_path)
        newest = model._default_manager.order_by("-pk").values_list(field_path, flat=True)
        self.lookup_choices: Any = sorted({str(value) for value in newest[:LOOKED_AT] if value})


class EstimatingPaginator(Paginator[Any]):
    """Counts exactly where that is cheap; beyond, takes PostgreSQL's estimate.

    An estimated list has no page numbers, only a next and a previous page.
    """

    @cached_property
    def estimate(self) -> int | None:
        """None where the count is exact."""
        if not isinstance(self.object_list, QuerySet):
            return None
        estimated = estimated_rows(self.object_list)
        return estimated if estimated > COUNTED_UP_TO else None

    @cached_property
    def count(self) -> int:
        return super().count if self.estimate is None else self.estimate

    @property
    def template_name(self) -> str | None:
        return None if self.estimate is None else "staffroom/pagination_estimated.html"

    def validate_number(self, number: Any) -> int:
        """Past the estimate there may well be rows; a page without any is an empty page."""
        if self.estimate is None:
            return super().validate_number(number)
        return max(1, int(number))

    def page(self, number: Any) -> Any:
        if self.estimate is None:
            return super().page(number)
        number = self.validate_number(number)
        start = (number - 1) * self.per_page
        return Page(self.object_list[start : start + self.per_page], number, self)


def estimated_rows(queryset: QuerySet[Any]) -> int:
    """What PostgreSQL expects a query to find, from its statistics; nothing is read."""
    explained = queryset.order_by().explain(format="json")
    if not explained:
        # Django knows that nothing can match, and asks nobody.
        return 0
    plan = json.loads(explained)
    return int(plan[0]["Plan"]["Plan Rows"])


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time.min, UTC)
