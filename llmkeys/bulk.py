"""Many rows, each with values of its own, in one statement for each set of columns."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from django.db import connection, models
from django.db.models.expressions import Combinable
from psycopg import sql


def update_each(
    model: type[models.Model],
    changes: Mapping[int, Mapping[str, Any]],
    *,
    lease_token: str | None = None,
) -> None:
    """Write each row's changes; with a lease, where it is still ours.

    Django's bulk_update writes a CASE for every column and row; a worker that records dozens of
    keys a second would spend most of its time there. Expressions go the ordinary way.
    """
    together: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for pk, values in changes.items():
        if any(isinstance(value, Combinable) for value in values.values()):
            row = model._default_manager.filter(pk=pk)
            (row if lease_token is None else row.filter(lease_token=lease_token)).update(**values)
        else:
            together[tuple(sorted(values))].append(pk)
    for names, pks in together.items():
        _update(model, names, {pk: changes[pk] for pk in pks}, lease_token)


def _update(
    model: type[models.Model],
    names: tuple[str, ...],
    changes: Mapping[int, Mapping[str, Any]],
    lease_token: str | None,
) -> None:
    by_name = {field.name: field for field in model._meta.concrete_fields}
    fields = [by_name[name] for name in names]
    columns = [sql.Identifier(str(field.column)) for field in fields]
    key = sql.Identifier(str(model._meta.pk.column))
    arrays: list[list[Any]] = [list(changes)]
    types = ["bigint"]
    for field, name in zip(fields, names, strict=True):
        arrays.append([field.get_db_prep_save(row[name], connection) for row in changes.values()])
        types.append(str(field.db_type(connection)))
    statement = sql.SQL(
        "UPDATE {table} AS t SET {sets} FROM unnest({arrays}) AS v(pk, {columns}) "
        "WHERE t.{key} = v.pk AND {leased}"
    ).format(
        table=sql.Identifier(model._meta.db_table),
        sets=sql.SQL(", ").join(sql.SQL("{0} = v.{0}").format(column) for column in columns),
        arrays=sql.SQL(", ").join(sql.SQL(f"%s::{kind}[]") for kind in types),
        columns=sql.SQL(", ").join(columns),
        key=key,
        leased=sql.SQL("true" if lease_token is None else "t.lease_token = %s"),
    )
    with connection.cursor() as cursor:
        cursor.execute(statement, arrays if lease_token is None else [*arrays, lease_token])
