"""Lazy relations: a query that is not run before its rows are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Optional, Sequence, Tuple, Union

from . import _convert, _params, _show
from ._names import identifier, qualified
from .errors import _interface, _unpicklable

if TYPE_CHECKING:
    from .connection import Connection

Columns = Union[str, Sequence[str]]

_AGGREGATES = (
    "avg", "bit_and", "bit_or", "bit_xor", "bool_and", "bool_or", "max", "median", "min", "stddev", "sum", "var_samp",
)


class Relation:
    """A query with its parameters. Each method gives a new relation; nothing runs before rows are asked for.

    The order of ``order`` and ``sort`` outlives ``filter``, ``project`` and ``limit``; that of an ORDER BY within the
    text given to ``sql`` outlives ``limit`` only: order last.

    >>> import triune
    >>> db = triune.connect()
    >>> numbers = db.sql("SELECT * FROM generate_series(1, 5) AS t(n)")
    >>> numbers.filter("n % 2 = 1").order("n DESC").fetchall()
    [(5,), (3,), (1,)]
    """

    def __init__(
        self,
        connection: "Connection",
        sql: str,
        params: Any = None,
        frames: Optional[Dict[str, Any]] = None,
        alias: Optional[str] = None,
    ) -> None:
        self._connection = connection
        self._sql = sql
        self._params = params
        self._frames = frames or {}
        self._alias = alias
        self._fields: Optional[List[Tuple[str, str, bool]]] = None
        self._rows: Any = None
        self._count: Optional[int] = None
        # Of an ordered relation: by what, and the query without the order. SQL forgets the order of a sub-query, so
        # what is made of the relation is ordered again.
        self._by: Optional[str] = None
        self._core: Optional[str] = None

    # ── what it is ──────────────────────────────────────────────────────────

    @property
    def alias(self) -> str:
        """The name that the relation has within other queries."""
        return self._alias or "unnamed_relation"

    def set_alias(self, alias: str) -> "Relation":
        """The same relation under another name, for joins.

        >>> import triune
        >>> a = triune.connect().sql("SELECT 1 AS x").set_alias("a")
        >>> a.project("a.x + 1 AS y").fetchall()
        [(2,)]
        """
        made = Relation(self._connection, self._sql, self._params, self._frames, alias)
        made._by, made._core = self._by, self._core
        return made

    def sql_query(self) -> str:
        """The SQL of the query."""
        return self._sql

    def _schema(self) -> List[Tuple[str, str, bool]]:
        if self._fields is None:
            self._fields = self._connection._schema(self._sql, self._params, self._frames).fields()
        return self._fields

    @property
    def columns(self) -> List[str]:
        """The names of the columns; the query is planned for them and not run."""
        return [name for name, _, _ in self._schema()]

    @property
    def types(self) -> List[str]:
        """The SQL names of the columns' types."""
        return [kind for _, kind, _ in self._schema()]

    dtypes = types

    @property
    def description(self) -> List[Tuple[Any, ...]]:
        """PEP 249's description."""
        return [(name, kind, None, None, None, None, nullable) for name, kind, nullable in self._schema()]

    def __len__(self) -> int:
        if self._count is None:
            self._count = int(self._over("SELECT count(*) FROM {0}").fetchall()[0][0])
        return self._count

    def __bool__(self) -> bool:
        return True

    @property
    def shape(self) -> Tuple[int, int]:
        """Rows and columns; the rows are counted."""
        return len(self), len(self._schema())

    def __contains__(self, name: object) -> bool:
        return name in self.columns

    def __getitem__(self, name: Union[str, Sequence[str]]) -> "Relation":
        names = [name] if isinstance(name, str) else list(name)
        return self._over(f"SELECT {', '.join(map(identifier, names))} FROM {{0}}")

    def __getattr__(self, name: str) -> "Relation":
        if name.startswith("_"):
            raise AttributeError(name)
        if name in self.columns:
            return self[name]
        raise AttributeError(f"a relation has neither a method nor a column {name!r}")

    # ── composing ───────────────────────────────────────────────────────────

    def _named(self) -> Tuple[str, Dict[str, Any]]:
        return _params.named(_params.numbered(self._sql) if not isinstance(self._params, dict) else self._sql, self._params)

    def _over(self, template: str, params: Optional[Dict[str, Any]] = None, core: Optional[str] = None) -> "Relation":
        """A query around this one, or around ``core``, which stands at ``{0}``."""
        sql, mine = self._named()
        # An ordered relation was made by `_over`: its parameters are named already.
        sql = core if core is not None else sql
        if params:
            sql, mine = _params.merged(sql, mine, params)
            mine = {**mine, **params}
        text = template.replace("{0}", f"({sql}\n) AS {identifier(self.alias)}")
        return Relation(self._connection, text, mine or None, self._frames, self._alias)

    def _with(self, other: "Relation", template: str) -> "Relation":
        if not isinstance(other, Relation):
            raise _interface(f"another relation is needed, not a {type(other).__name__}")
        if other._connection._database is not self._connection._database:
            raise _interface("the relations belong to different databases")
        left, params = self._named()
        right, more = other._named()
        right, more = _params.merged(right, more, params)
        frames = dict(self._frames)
        for name, value in other._frames.items():
            if name in frames and frames[name] is not value:
                unique = self._connection._unique(name)
                right = f"WITH {identifier(name)} AS (SELECT * FROM {unique}) SELECT * FROM ({right}\n)"
                name = unique
            frames[name] = value
        text = template.replace("{0}", f"({left}\n)").replace("{1}", f"({right}\n)")
        return Relation(self._connection, text, {**params, **more} or None, frames)

    def filter(self, condition: str, **params: Any) -> "Relation":
        """Rows for which a condition holds.

        >>> import triune
        >>> triune.connect().values([(1, "a"), (2, "b")]).filter("col0 > $least", least=1).fetchall()
        [(2, 'b')]
        """
        return self._ordered(f"SELECT * FROM {{0}} WHERE {condition}", params)

    where = filter

    def project(self, *expressions: str, **params: Any) -> "Relation":
        """Other columns: SQL expressions.

        >>> import triune
        >>> triune.connect().sql("SELECT 2 AS x").project("x, x * x AS square").fetchall()
        [(2, 4)]
        """
        chosen = ", ".join(expressions)
        if self._by is None:
            return self._over(f"SELECT {chosen} FROM {{0}}", params)
        plain = self._over(f"SELECT {chosen} FROM {{0}}", params, core=self._core)
        words = set(_params.words(self._by))
        kept = {e.strip().strip('"').lower() for e in chosen.split(",")}
        for name in plain.columns:
            if name in words and name not in kept and "*" not in kept:
                raise _interface(f"project gives the column {name!r} another meaning than order({self._by!r}) has: order after it")
        plain._sql += f" ORDER BY {self._by}"
        return plain

    select = project

    def aggregate(self, aggregates: Columns, group: Columns = "", **params: Any) -> "Relation":
        """Aggregates, of groups where ``group`` names columns.

        >>> import triune
        >>> r = triune.connect().values([("a", 1), ("a", 2), ("b", 5)])
        >>> r.aggregate("col0, sum(col1) AS s", "col0").order("col0").fetchall()
        [('a', 3), ('b', 5)]
        """
        chosen = aggregates if isinstance(aggregates, str) else ", ".join(aggregates)
        groups = group if isinstance(group, str) else ", ".join(group)
        return self._over(f"SELECT {chosen} FROM {{0}}" + (f" GROUP BY {groups}" if groups else ""), params)

    def count(self, column: str = "*", groups: str = "", projected_columns: str = "") -> "Relation":
        """The number of rows, or of a column's values that are not NULL."""
        return self._aggregate("count", column, groups, projected_columns)

    def _aggregate(self, function: str, column: str, groups: str = "", projected: str = "") -> "Relation":
        chosen = f"{function}({column})" if column == "*" else f"{function}({column}) AS {identifier(f'{function}({column})')}"
        if column == "*":
            chosen += " AS " + identifier("count_star()")
        chosen = f"{projected}, {chosen}" if projected else chosen
        return self.aggregate(chosen, groups)

    def order(self, by: str) -> "Relation":
        """Sorted rows: ``order("score DESC, id")``."""
        made = self._over("SELECT * FROM {0}")
        made._by, made._core = by, made._sql
        made._sql += f" ORDER BY {by}"
        return made

    def _ordered(self, template: str, params: Optional[Dict[str, Any]] = None) -> "Relation":
        """A query around this one in the same order."""
        made = self._over(template, params, core=self._core)
        if self._by is not None:
            made._by, made._core = self._by, made._sql
            made._sql += f" ORDER BY {self._by}"
        return made

    def sort(self, *by: str) -> "Relation":
        """Sorted rows: ``sort("a", "b")``."""
        return self.order(", ".join(by))

    def limit(self, n: int, offset: int = 0) -> "Relation":
        """The first ``n`` rows after ``offset``, in the order of ``order``, ``sort`` or the query's own ORDER BY.

        >>> import triune
        >>> triune.connect().sql("SELECT * FROM generate_series(1, 5) t(n) ORDER BY n DESC").limit(2, 1).fetchall()
        [(4,), (3,)]
        """
        words = f"LIMIT {int(n)}" + (f" OFFSET {int(offset)}" if offset else "")
        if not _params.ends_in_order(self._sql):
            return self._over(f"SELECT * FROM {{0}} {words}")
        sql, params = self._named()
        made = Relation(self._connection, f"{sql}\n{words}", params or None, self._frames, self._alias)
        made._by, made._core = self._by, made._sql if self._by is not None else None
        return made

    def distinct(self) -> "Relation":
        """Each row once."""
        return self._over("SELECT DISTINCT * FROM {0}")

    def unique(self, columns: str) -> "Relation":
        """Each combination of columns once."""
        return self._over(f"SELECT DISTINCT {columns} FROM {{0}}")

    def union(self, other: "Relation") -> "Relation":
        """The rows of both (UNION ALL)."""
        return self._with(other, "SELECT * FROM {0} UNION ALL SELECT * FROM {1}")

    def intersect(self, other: "Relation") -> "Relation":
        """Rows that are in both."""
        return self._with(other, "SELECT * FROM {0} INTERSECT SELECT * FROM {1}")

    def except_(self, other: "Relation") -> "Relation":
        """Rows that are not in the other."""
        return self._with(other, "SELECT * FROM {0} EXCEPT SELECT * FROM {1}")

    def join(self, other: "Relation", on: Columns, how: str = "inner") -> "Relation":
        """A join: ``on`` is a column of both, a list of them, or a condition over the relations' names.

        >>> import triune
        >>> db = triune.connect()
        >>> a = db.sql("SELECT 1 AS id, 'x' AS v").set_alias("a")
        >>> b = db.sql("SELECT 1 AS id, 'y' AS w").set_alias("b")
        >>> a.join(b, "id").fetchall(), a.join(b, "a.id = b.id", how="left").columns
        ([(1, 'x', 'y')], ['id', 'v', 'id', 'w'])
        """
        kinds = {"inner": "JOIN", "left": "LEFT JOIN", "right": "RIGHT JOIN", "outer": "FULL JOIN", "full": "FULL JOIN",
                 "semi": "LEFT SEMI JOIN", "anti": "LEFT ANTI JOIN"}
        if how.lower() not in kinds:
            raise _interface(f"a join of kind {how!r} is unknown; accepted are {', '.join(kinds)}")
        names = [on] if isinstance(on, str) and on.isidentifier() else None if isinstance(on, str) else list(on)
        condition = f"USING ({', '.join(map(identifier, names))})" if names else f"ON {on}"
        left, right = identifier(self.alias), identifier(other.alias)
        if left == right:
            right = identifier(other.alias + "_2")
        return self._with(other, f"SELECT * FROM {{0}} AS {left} {kinds[how.lower()]} {{1}} AS {right} {condition}")

    def cross(self, other: "Relation") -> "Relation":
        """Each row with each of the other."""
        right = other.alias if other.alias != self.alias else other.alias + "_2"
        return self._with(other, f"SELECT * FROM {{0}} AS {identifier(self.alias)} CROSS JOIN {{1}} AS {identifier(right)}")

    def query(self, name: str, sql: str, **params: Any) -> "Relation":
        """A query over this relation, which it knows by ``name``.

        >>> import triune
        >>> triune.connect().sql("SELECT 41 AS x").query("v", "SELECT x + 1 FROM v").fetchall()
        [(42,)]
        """
        mine, known = self._named()
        sql, params = _params.merged(sql, params, known)
        text = f"WITH {identifier(name)} AS ({mine}\n) SELECT * FROM ({sql}\n)"
        return Relation(self._connection, text, {**known, **params} or None, self._frames)

    def search(self, query: Any = None, column: Optional[str] = None, **options: Any) -> Any:
        """The rows of a table that are nearest to a vector: see :class:`triune.search.Search`."""
        raise _interface("a search needs a table: db.table('docs').search(vector)")

    # ── rows ────────────────────────────────────────────────────────────────

    def _run(self) -> Any:
        return self._connection._run(self._sql, self._params, self._frames)

    def execute(self) -> "Relation":
        """Runs the query now; ``fetchone`` and its like go on from here."""
        self._rows = self._run()
        return self

    def _begun(self) -> Any:
        if self._rows is None:
            self._rows = self._run()
        return self._rows

    def fetchone(self) -> Optional[Tuple[Any, ...]]:
        """The next row, None at the end."""
        rows = self._begun().fetch(1)
        return rows[0] if rows else None

    def fetchmany(self, size: int = 1) -> List[Tuple[Any, ...]]:
        """The next rows."""
        return self._begun().fetch(size)

    def fetchall(self) -> List[Tuple[Any, ...]]:
        """All rows that are left, as tuples."""
        rows, self._rows = self._begun(), None
        return rows.fetch()

    def __iter__(self) -> Iterator[Tuple[Any, ...]]:
        rows = self._run()
        while True:
            some = rows.fetch(1024)
            if not some:
                return
            yield from some

    def close(self) -> None:
        """Lets go of rows that were begun."""
        if self._rows is not None:
            self._rows.close()
            self._rows = None

    def read(self) -> Any:
        """All rows in memory, as an object with Arrow data."""
        return self._run().read()

    def df(self) -> Any:
        """A pandas frame. Nulls keep their column's type; vectors come as rows of one numpy array."""
        return _convert.frame(self.read())

    fetchdf = fetch_df = to_df = df

    def fetch_df_chunk(self, vectors_per_chunk: int = 1) -> Any:
        """The next rows as a frame, about 2048 for each of ``vectors_per_chunk``; empty at the end."""
        wanted, parts, count = vectors_per_chunk * 2048, [], 0
        rows = self._begun()
        while count < wanted:
            batch = rows.next_batch()
            if batch is None:
                break
            parts.append(batch)
            count += len(batch)
        import pandas

        if not parts:
            return _convert.frame(rows.read())
        return pandas.concat([_convert.frame(p) for p in parts], ignore_index=True) if len(parts) > 1 else _convert.frame(parts[0])

    def pl(self, lazy: bool = False) -> Any:
        """A polars frame, without copies."""
        import polars

        frame = polars.DataFrame(self.read().plain())
        return frame.lazy() if lazy else frame

    def to_arrow_table(self) -> Any:
        """A ``pyarrow.Table``, without copies."""
        import pyarrow

        return pyarrow.table(self.read())

    arrow = fetch_arrow_table = to_arrow_table

    def to_arrow_reader(self, batch_size: int = 1_000_000) -> Any:
        """A ``pyarrow.RecordBatchReader``: rows as they come."""
        import pyarrow

        return pyarrow.RecordBatchReader.from_stream(self._run())

    fetch_arrow_reader = fetch_record_batch = record_batch = to_arrow_reader

    def fetchnumpy(self) -> Dict[str, Any]:
        """A dict of numpy's arrays: masked where values are missing, vectors in two dimensions."""
        return _convert.numpy_columns(self.read())

    def to_torch(self, **options: Any) -> Any:
        """Batches of tensors: see :mod:`triune.torch`."""
        from .torch import dataset

        return dataset(self, **options)

    def torch(self) -> Dict[str, Any]:
        """A dict of tensors."""
        from .torch import tensors

        return tensors(self.read())

    def plot(self, x: Optional[str] = None, y: Optional[Columns] = None, **options: Any) -> Any:
        """A picture by matplotlib: lines over time, or points of a 2-D vector: see :mod:`triune.plotting`."""
        from .plotting import plot

        return plot(self, x, y, **options)

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self._run().__arrow_c_stream__(requested_schema)

    def __arrow_c_schema__(self) -> Any:
        return self._connection._schema(self._sql, self._params, self._frames).__arrow_c_schema__()

    # ── looking ─────────────────────────────────────────────────────────────

    def _head(self, rows: int) -> Tuple[Any, List[Tuple[Any, ...]], bool]:
        running = self._run()
        fields = running.schema.fields()
        some = running.fetch(rows + 1)
        running.close()
        return fields, some[:rows], len(some) > rows

    def show(self, max_rows: int = 20) -> None:
        """Prints the first rows."""
        print(_show.table(*self._head(max_rows)))

    def __repr__(self) -> str:
        return _show.table(*self._head(20))

    def _repr_html_(self) -> str:
        return _show.as_html(*self._head(20))

    def explain(self, type: str = "standard") -> str:  # noqa: A002  (DuckDB's name)
        """The plan as text; ``analyze`` runs the query."""
        word = "EXPLAIN ANALYZE" if str(type).lower().endswith("analyze") else "EXPLAIN"
        rows = self._connection._run(f"{word} {self._sql}", self._params, self._frames).fetch()
        return "\n".join(str(row[-1]) for row in rows)

    def describe(self) -> "Relation":
        """Counts, minima, maxima, means and quartiles of the columns."""
        sql, params = self._named()
        rows = self._connection._run(f"SUMMARIZE {sql}", params or None, self._frames).read()
        return self._connection.from_arrow(rows)

    # ── writing ─────────────────────────────────────────────────────────────

    def create(self, name: str) -> None:
        """Makes a table of the rows."""
        self._connection._run(f"CREATE TABLE {qualified(name)} AS {self._sql}", self._params, self._frames)

    to_table = create

    def create_view(self, name: str, replace: bool = True) -> "Relation":
        """Makes a view of the query. It cannot have parameters or read Python's frames."""
        if self._params or self._frames:
            raise _interface("a view cannot have parameters or read frames of this program")
        word = "CREATE OR REPLACE VIEW" if replace else "CREATE VIEW"
        self._connection._run(f"{word} {qualified(name)} AS {self._sql}", None, {})
        return self._connection.table(name)

    to_view = create_view

    def insert_into(self, name: str) -> None:
        """Inserts the rows into a table."""
        self._connection._run(f"INSERT INTO {qualified(name)} {self._sql}", self._params, self._frames)

    def insert(self, values: Any) -> None:
        """Inserts one row into the table that this relation is."""
        self._connection.table(self._table_name())._insert(values)

    def _table_name(self) -> str:
        raise _interface("this relation is no table: use insert_into")

    def to_parquet(self, file_name: str) -> None:
        """Writes a Parquet file."""
        self._copy(file_name, "PARQUET")

    write_parquet = to_parquet

    def to_csv(self, file_name: str) -> None:
        """Writes a CSV file."""
        self._copy(file_name, "CSV")

    write_csv = to_csv

    def _copy(self, target: str, kind: str) -> None:
        sql, params = self._named()
        quoted = target.replace("'", "''")
        self._connection._run(f"COPY ({sql}\n) TO '{quoted}' (FORMAT {kind})", params or None, self._frames)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _unpicklable(self, protocol)


def _aggregate_method(function: str) -> Any:
    def method(self: Relation, column: str, groups: str = "", projected_columns: str = "") -> Relation:
        return self._aggregate(function, column, groups, projected_columns)

    method.__name__ = function
    method.__doc__ = f"``{function}`` of a column, of groups where ``groups`` names columns."
    return method


for _function in _AGGREGATES:
    if not hasattr(Relation, _function):
        setattr(Relation, _function, _aggregate_method(_function))
setattr(Relation, "mean", _aggregate_method("avg"))


class Table(Relation):
    """A relation that is a table by its name: it can be searched and inserted into."""

    def __init__(self, connection: "Connection", name: str) -> None:
        super().__init__(connection, f"SELECT * FROM {qualified(name)}", alias=name.rpartition(".")[2].strip('"'))
        self._name = name

    def _table_name(self) -> str:
        return self._name

    def _insert(self, values: Any) -> None:
        marks = ", ".join(f"${i + 1}" for i in range(len(values)))
        self._connection._run(f"INSERT INTO {qualified(self._name)} VALUES ({marks})", list(values), {})

    def search(self, query: Any = None, column: Optional[str] = None, **options: Any) -> Any:
        """The rows that are nearest to a vector, or match words: see :class:`triune.search.Search`.

        >>> import triune
        >>> db = triune.connect()
        >>> _ = db.execute("CREATE TABLE docs (id BIGINT PRIMARY KEY, v VECTOR(2))")
        >>> _ = db.execute("INSERT INTO docs VALUES (1, [0, 1]), (2, [1, 0])")
        >>> db.table("docs").search([0.9, 0.1]).select("id").limit(1).fetchall()
        [(2,)]
        """
        from .search import Search

        return Search(self._connection, self._name, query, column, options)

    def write(self, data: Any, mode: str = "append", **options: Any) -> int:
        """Writes rows into the table: see :meth:`Connection.write`."""
        return self._connection.write(self._name, data, mode=mode, **options)


__all__ = ["Relation", "Table"]
