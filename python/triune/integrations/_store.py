"""The table behind the adapters.

.. code-block:: sql

    CREATE TABLE name (id VARCHAR PRIMARY KEY, text VARCHAR, metadata JSON, embedding VECTOR(n))

It is made with the first rows, whose vectors say what ``n`` is; every statement about it is ordinary SQL.
"""

from __future__ import annotations

import json
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple

from .._names import qualified
from .._values_sql import literal
from ..errors import ProgrammingError, _interface

COLUMNS = ("id", "text", "metadata", "embedding")
METRICS = ("cosine", "l2", "ip")

#: Operators of filters, as SQL writes them.
COMPARISONS = {"$eq": "=", "$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}

# (id, text, metadata, embedding)
Row = Tuple[str, str, Dict[str, Any], List[float]]


class Store:
    """Texts with metadata and vectors in one table."""

    def __init__(self, connection: Any, table: str, metric: str) -> None:
        if metric not in METRICS:
            raise _interface(f"the metric {metric!r} is unknown; accepted are {', '.join(METRICS)}")
        self.connection, self.table, self.metric = connection, table, metric
        self._known = False
        self.exists()

    def exists(self) -> bool:
        """Whether the table is there; one with other columns is an error."""
        if self._known:
            return True
        connection = self.connection
        try:
            # Asked of the session, so that a variable of the table's name is not taken for it.
            with connection._lock:
                fields = connection._session.schema_of(f"SELECT * FROM {qualified(self.table)}").fields()
        except ProgrammingError as error:
            if error.kind != "not found":
                raise
            return False
        missing = [name for name in COLUMNS if name not in [field for field, _, _ in fields]]
        if missing:
            raise _interface(f"the table {self.table} is no store of texts and vectors: it lacks {', '.join(missing)}")
        self._known = True
        return True

    def put(self, rows: Iterable[Row]) -> None:
        """Writes rows, in place of those of the same ids; of two with one id the later counts."""
        latest = {row[0]: row for row in rows}
        if not latest:
            return
        if not self.exists():
            width = len(next(iter(latest.values()))[3])
            self.connection._run(
                f"CREATE TABLE IF NOT EXISTS {qualified(self.table)} (id VARCHAR PRIMARY KEY, text VARCHAR NOT NULL, "
                f"metadata JSON, embedding VECTOR({width}) NOT NULL)"
            )
            self.exists()
        data = [
            {"id": id, "text": text, "metadata": _json(id, metadata), "embedding": [float(x) for x in vector]}
            for id, text, metadata, vector in latest.values()
        ]
        self.connection.write(self.table, data, mode="upsert")

    def get(self, ids: Optional[Sequence[str]] = None, where: str = "", params: Optional[Dict[str, Any]] = None) -> List[Row]:
        """The rows of ids that there are, in the ids' order; or those for which a condition holds, by their ids."""
        if not self.exists() or (ids is not None and not ids):
            return []
        params = dict(params or {})
        conditions = [where] if where else []
        if ids is not None:
            conditions.append("id = ANY($_ids)")
            params["_ids"] = list(ids)
        text = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        sql = f"SELECT id, text, metadata, embedding FROM {qualified(self.table)}{text} ORDER BY id"
        found = [_row(row) for row in self.connection._run(sql, params or None).fetch()]
        if ids is None:
            return found
        by_id = {row[0]: row for row in found}
        return [by_id[id] for id in dict.fromkeys(ids) if id in by_id]

    def delete(self, where: str = "", params: Optional[Dict[str, Any]] = None) -> int:
        """Deletes rows, and says how many; without a condition all."""
        if not self.exists():
            return 0
        text = f" WHERE {where}" if where else ""
        return int(self.connection._run(f"DELETE FROM {qualified(self.table)}{text}", params).written or 0)

    def search(self, vector: Sequence[float], k: int, where: str = "",
               params: Optional[Dict[str, Any]] = None) -> List[Tuple[Row, float]]:
        """The ``k`` nearest rows for which a condition holds, with their distances."""
        if k < 1 or not self.exists():
            return []
        search = self.connection.table(self.table).search([float(x) for x in vector], "embedding", metric=self.metric)
        if where:
            search = search.where(where, **(params or {}))
        rows = search.select("id, text, metadata, embedding, _distance").limit(k).fetchall()
        return [(_row(row), float(row[4])) for row in rows]


def _json(id: str, metadata: Dict[str, Any]) -> str:
    try:
        return json.dumps(metadata, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise _interface(f"the metadata of {id!r} cannot be kept as JSON: {error}") from error


def _row(row: Sequence[Any]) -> Row:
    metadata = json.loads(row[2]) if isinstance(row[2], str) else row[2]
    return row[0], row[1], metadata or {}, list(row[3])


class Condition:
    """A condition on metadata, put together with parameters."""

    def __init__(self) -> None:
        self.params: Dict[str, Any] = {}

    def _param(self, value: Any) -> str:
        name = f"_m{len(self.params)}"
        self.params[name] = value
        return f"${name}"

    def compare(self, key: str, operator: str, value: Any) -> str:
        """``operator`` is one of those of :data:`COMPARISONS`, ``$ne``, ``$in`` or ``$nin``. A number is compared with
        numbers, a text with texts; a value of another kind, or none, is unequal to it."""
        if operator in ("$in", "$nin"):
            if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
                raise _interface(f"the filter {key} {operator} needs a list, not {value!r}")
            any_of = " OR ".join(self.compare(key, "$eq", one) for one in value) or "FALSE"
            return f"({any_of})" if operator == "$in" else f"NOT ({any_of})"
        if operator == "$ne":
            return f"NOT ({self.compare(key, '$eq', value)})"
        sign = COMPARISONS.get(operator)
        if sign is None:
            accepted = ", ".join([*COMPARISONS, "$ne", "$in", "$nin"])
            raise _interface(f"the operator {operator!r} of the filter on {key!r} is unknown; accepted are {accepted}")
        text, kind = f"(metadata->>{literal(key)})", f"CAST((metadata->{literal(key)}) AS VARCHAR)"
        if value is None:
            if sign != "=":
                raise _interface(f"the filter on {key!r} compares with None by {operator}")
            return f"({text} IS NULL)"
        if isinstance(value, bool):
            if sign != "=":
                raise _interface(f"the filter on {key!r} compares with {value} by {operator}")
            return f"COALESCE({kind} = '{str(value).lower()}', FALSE)"
        if isinstance(value, str):
            return f"COALESCE({kind} LIKE '\"%' AND {text} {sign} {self._param(value)}, FALSE)"
        if isinstance(value, (int, float)):
            number = "BIGINT" if isinstance(value, int) and abs(value) > 2**53 else "DOUBLE"
            compared = f"TRY_CAST({text} AS {number}) {sign} {self._param(value)}"
            return f"COALESCE({kind} NOT LIKE '\"%' AND {compared}, FALSE)"
        raise _interface(f"the filter on {key!r} compares with {value!r}; accepted are texts, numbers, True, False and None")

    def of_dict(self, wanted: Dict[str, Any]) -> str:
        """``{"lang": "en", "year": {"$gte": 2020}}``: all of it holds."""
        if not isinstance(wanted, dict):
            raise _interface(f"a filter is a dict such as {{'lang': 'en', 'year': {{'$gte': 2020}}}}, not {wanted!r}")
        parts = []
        for key, value in wanted.items():
            if isinstance(value, dict):
                parts += [self.compare(key, operator, one) for operator, one in value.items()]
            else:
                parts.append(self.compare(key, "$eq", value))
        return " AND ".join(parts)


__all__ = ["Condition", "Row", "Store"]
