"""Connections: the way from a program to a database."""

from __future__ import annotations

import contextlib as _contextlib
import itertools as _itertools
import threading as _threading
import weakref as _weakref
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple, Union

from . import _data, _frames, _params, _triune
from ._names import identifier, qualified
from .errors import Error, ProgrammingError, _interface, _unpicklable
from .relation import Relation, Table

_UNIQUE = _itertools.count(1)


class Connection:
    """One conversation with a database. Made by :func:`triune.connect`.

    Threads may share a connection: its statements run one after the other, rows are read side by side. A
    :meth:`cursor` is a further conversation with the same database, with a transaction of its own.

    >>> import triune
    >>> with triune.connect() as db:
    ...     _ = db.execute("CREATE TABLE t (a INT)")
    ...     _ = db.execute("INSERT INTO t VALUES (?), (?)", [1, 2])
    ...     db.execute("SELECT sum(a) FROM t").fetchone()
    (3,)
    """

    def __init__(self, database: Any, *, replacement_scans: bool = True, progress: Optional[bool] = None,
                 _shared: Optional["_Shared"] = None, _read_only: bool = False) -> None:
        self._database = database
        self._session = database.session()
        self._lock = _threading.RLock()
        self._local = _threading.local()
        self._shared = _shared or _Shared()
        self._shared.users.add(self)
        self._closed = False
        self._read_only = _read_only
        #: Whether names that are no tables are looked up among the caller's variables.
        self.replacement_scans = replacement_scans
        #: True shows a bar for work that takes longer than a second; None does where somebody looks.
        self.progress = progress
        for register in list(self._shared.functions):
            register(self._session)

    # ── running ─────────────────────────────────────────────────────────────

    def _tick(self) -> Optional[Callable[..., None]]:
        from . import _progress

        return _progress.bar(self.progress)

    def _run(self, sql: str, params: Any = None, frames: Optional[Dict[str, Any]] = None) -> Any:
        """Runs one statement and gives its rows."""
        if isinstance(params, (list, tuple)):
            sql = _params.numbered(sql)
        tick = self._tick()
        try:
            return self._with_frames(sql, frames or {}, lambda s: self._session.execute(s, params, tick))
        finally:
            if tick is not None:
                tick(None, None, None, None)

    def _with_frames(self, sql: str, frames: Dict[str, Any], run: Callable[[str], Any]) -> Any:
        with self._lock:
            if self._closed:
                raise _interface("the connection is closed")
            if frames:
                return self._run_over(sql, frames, run)
            try:
                return run(sql)
            except ProgrammingError as error:
                if not self.replacement_scans or error.kind != "not found":
                    raise
                found = _frames.find(self._session.unknown_names(sql))
                if not found:
                    raise
            return self._run_over(sql, found, run)

    def _run_over(self, sql: str, frames: Dict[str, Any], run: Callable[[str], Any]) -> Any:
        put: List[str] = []
        try:
            for name, value in frames.items():
                if isinstance(value, Relation):
                    # Read before: its query belongs to a connection of its own, perhaps this one.
                    value = value.read()
                self._session.register(name, _data.produce(value), _data.reading(value))
                put.append(name)
            return run(sql)
        finally:
            for name in put:
                self._session.unregister(name)

    def _schema(self, sql: str, params: Any = None, frames: Optional[Dict[str, Any]] = None) -> Any:
        if isinstance(params, (list, tuple)):
            sql = _params.numbered(sql)
        schema = self._with_frames(sql, frames or {}, lambda s: self._session.schema_of(s, params))
        return schema if schema is not None else self._run(sql, params, frames).schema

    def _unique(self, name: str) -> str:
        return f"{name.lower()}_{next(_UNIQUE)}" if name.isidentifier() else f"frame_{next(_UNIQUE)}"

    def execute(self, query: str, parameters: Any = None, **named: Any) -> "Connection":
        """Runs statements; the last one's rows are fetched from the connection, in the thread that ran it.

        Parameters are a list for ``?`` and ``$1``, a dict or keywords for ``$name``.

        >>> import triune
        >>> triune.connect().execute("SELECT $a + $b", a=1, b=2).fetchall()
        [(3,)]
        """
        if named:
            parameters = {**(parameters or {}), **named}
        statements = [query] if ";" not in query else _triune.split(query)
        if not statements:
            raise _interface("there is no statement in the text")
        for statement in statements[:-1]:
            self._run(statement).close()
        rows = self._run(statements[-1], parameters)
        self._local.rows = rows
        return self

    def executemany(self, query: str, parameters: Any) -> "Connection":
        """Runs a statement with each of several lists of parameters: all of them, or none where one fails.

        >>> import triune
        >>> db = triune.connect()
        >>> _ = db.execute("CREATE TABLE t (a INT, b VARCHAR)")
        >>> _ = db.executemany("INSERT INTO t VALUES (?, ?)", [(1, "x"), (2, "y")])
        >>> db.sql("SELECT count(*) FROM t").fetchone()
        (2,)
        """
        sets = list(parameters)
        if not sets:
            raise _interface("executemany needs at least one list of parameters")
        rows: Any = None
        with self._lock, self._ensured_transaction():
            for some in sets:
                rows = self._run(query, some if isinstance(some, (list, tuple, dict)) else list(some))
        self._local.rows = rows
        return self

    @_contextlib.contextmanager
    def _ensured_transaction(self) -> Iterator[None]:
        """A transaction, the open one where there is one."""
        try:
            self._session.execute("BEGIN")
        except Error as error:
            if "open already" not in error.message:
                raise
            yield
            return
        try:
            yield
        except BaseException:
            self._session.execute("ROLLBACK")
            raise
        self._session.execute("COMMIT")

    @_contextlib.contextmanager
    def transaction(self) -> Iterator["Connection"]:
        """A transaction: committed at the end, rolled back when an exception leaves it.

        >>> import triune
        >>> db = triune.connect()
        >>> _ = db.execute("CREATE TABLE t (a INT)")
        >>> try:
        ...     with db.transaction():
        ...         _ = db.execute("INSERT INTO t VALUES (1)")
        ...         raise ValueError("no")
        ... except ValueError:
        ...     db.sql("SELECT count(*) FROM t").fetchall()
        [(0,)]
        """
        self._run("BEGIN")
        try:
            yield self
        except BaseException:
            self._run("ROLLBACK")
            raise
        self._run("COMMIT")

    def begin(self) -> "Connection":
        """Opens a transaction."""
        self._run("BEGIN")
        return self

    def commit(self) -> "Connection":
        """Commits the open transaction."""
        self._run("COMMIT")
        return self

    def rollback(self) -> "Connection":
        """Rolls the open transaction back."""
        self._run("ROLLBACK")
        return self

    def checkpoint(self) -> "Connection":
        """Moves rows from the log into the tables' files now."""
        self._run("CHECKPOINT")
        return self

    # ── the rows of `execute` ───────────────────────────────────────────────

    def _result(self) -> Any:
        rows = getattr(self._local, "rows", None)
        if rows is None:
            raise _interface("no statement was executed in this thread")
        return rows

    @property
    def description(self) -> Optional[List[Tuple[Any, ...]]]:
        """PEP 249's description of the last statement's columns."""
        rows = getattr(self._local, "rows", None)
        if rows is None or not rows.is_query:
            return None
        return [(name, kind, None, None, None, None, null) for name, kind, null in rows.schema.fields()]

    @property
    def rowcount(self) -> int:
        """Rows that the last statement wrote; -1 where that is not known."""
        rows = getattr(self._local, "rows", None)
        return -1 if rows is None or rows.written is None else int(rows.written)

    def fetchone(self) -> Optional[Tuple[Any, ...]]:
        """The next row, None at the end."""
        some = self._result().fetch(1)
        return some[0] if some else None

    def fetchmany(self, size: int = 1) -> List[Tuple[Any, ...]]:
        """The next rows."""
        return self._result().fetch(size)

    def fetchall(self) -> List[Tuple[Any, ...]]:
        """All rows that are left, as tuples."""
        return self._result().fetch()

    def _fetched(self) -> "_Fetched":
        return _Fetched(self, self._result())

    def df(self) -> Any:
        """The rows as a pandas frame."""
        return self._fetched().df()

    fetchdf = fetch_df = df

    def pl(self, lazy: bool = False) -> Any:
        """The rows as a polars frame."""
        return self._fetched().pl(lazy)

    def to_arrow_table(self) -> Any:
        """The rows as a ``pyarrow.Table``."""
        return self._fetched().to_arrow_table()

    arrow = fetch_arrow_table = to_arrow_table

    def to_arrow_reader(self, batch_size: int = 1_000_000) -> Any:
        """The rows as a ``pyarrow.RecordBatchReader``."""
        return self._fetched().to_arrow_reader(batch_size)

    fetch_record_batch = to_arrow_reader

    def fetchnumpy(self) -> Dict[str, Any]:
        """The rows as a dict of numpy's arrays."""
        return self._fetched().fetchnumpy()

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self._result().__arrow_c_stream__(requested_schema)

    # ── relations ───────────────────────────────────────────────────────────

    def sql(self, query: str, parameters: Any = None, *, params: Any = None, alias: str = "", **named: Any) -> Any:
        """A relation of a query, which runs when its rows are asked for; any other statement runs now.

        >>> import triune
        >>> triune.connect().sql("SELECT $1 AS a", [7]).fetchall()
        [(7,)]
        """
        parameters = parameters if parameters is not None else params
        if named:
            parameters = {**(parameters or {}), **named}
        statements = [query] if ";" not in query else _triune.split(query)
        if not statements:
            raise _interface("there is no statement in the text")
        for statement in statements[:-1]:
            self._run(statement).close()
        query = statements[-1]
        text = _params.numbered(query) if isinstance(parameters, (list, tuple)) else query
        frames: Dict[str, Any] = {}
        with self._lock:
            if self._closed:
                raise _interface("the connection is closed")
            try:
                schema = self._session.schema_of(text, parameters)
            except ProgrammingError as error:
                if not self.replacement_scans or error.kind != "not found":
                    raise
                frames = _frames.find(self._session.unknown_names(text))
                if not frames:
                    raise
                schema = self._run_over(text, frames, lambda s: self._session.schema_of(s, parameters))
        if schema is not None:
            relation = Relation(self, query, parameters, frames, alias or None)
            relation._fields = schema.fields()
            return relation
        rows = self._run(query, parameters, frames)
        if not rows.is_query:
            return None
        return self.from_arrow(rows.read())

    query = from_query = sql

    def table(self, name: str) -> Table:
        """A table or view by its name."""
        table = Table(self, name)
        table._fields = self._schema(table._sql).fields()
        return table

    view = table

    def table_function(self, name: str, parameters: Sequence[Any] = ()) -> Relation:
        """The relation of a table function with values for its arguments."""
        from . import _values_sql

        return self.sql(f"SELECT * FROM {name}({', '.join(map(_values_sql.literal, parameters))})")

    def values(self, *rows: Any) -> Relation:
        """A relation of rows: ``values([(1, "a"), (2, "b")])``, or of one: ``values(1, "a")``."""
        data = list(rows[0]) if len(rows) == 1 and isinstance(rows[0], (list, tuple)) else [tuple(rows)]
        if data and not isinstance(data[0], (list, tuple)):
            data = [tuple(data)]
        return self._framed(_data.produce([tuple(row) for row in data]))

    def from_df(self, frame: Any) -> Relation:
        """A relation of a frame or of any other object with rows.

        >>> import triune
        >>> triune.connect().from_df({"a": [1, 2]}).filter("a > 1").fetchall()
        [(2,)]
        """
        return self._framed(_data.produce(frame) if not hasattr(frame, "__arrow_c_stream__") else frame)

    from_arrow = df_relation = from_df

    def _framed(self, data: Any) -> Relation:
        name = f"frame_{next(_UNIQUE)}"
        return Relation(self, f"SELECT * FROM {name}", None, {name: data})

    def read_parquet(self, path: Union[str, Sequence[str]], **options: Any) -> Relation:
        """A relation of Parquet files: a path, a glob or a URL."""
        return self._files(path, "parquet", options)

    def read_csv(self, path: Union[str, Sequence[str]], **options: Any) -> Relation:
        """A relation of CSV files."""
        return self._files(path, "csv", options)

    def read_json(self, path: Union[str, Sequence[str]], **options: Any) -> Relation:
        """A relation of files of one JSON object a line."""
        return self._files(path, "json", options)

    from_parquet, from_csv_auto, from_json = read_parquet, read_csv, read_json

    def _files(self, path: Union[str, Sequence[str]], kind: str, options: Dict[str, Any]) -> Relation:
        import os

        paths = [path] if isinstance(path, (str, os.PathLike)) else list(path)
        texts = [os.fspath(p) for p in paths]
        if not options and all(t.lower().split("?")[0].endswith("." + kind) for t in texts):
            parts = [f"SELECT * FROM '{t.replace(chr(39), chr(39) * 2)}'" for t in texts]
            return self.sql(" UNION ALL ".join(parts))
        name = f"files_{next(_UNIQUE)}"
        if len(texts) != 1:
            raise _interface(f"options of read_{kind} need one path or glob")
        given = ", ".join(f"'{k}' '{str(v).replace(chr(39), chr(39) * 2)}'" for k, v in options.items())
        location = texts[0].replace("'", "''")
        self._run(f"CREATE TEMPORARY EXTERNAL TABLE {name} STORED AS {kind.upper()} LOCATION '{location}'"
                  + (f" OPTIONS ({given})" if given else ""))
        return self.sql(f"SELECT * FROM {name}")

    def register(self, name: str, data: Any) -> "Connection":
        """Makes an object known as a table of this connection until :meth:`unregister`.

        >>> import triune
        >>> triune.connect().register("t", [{"a": 5}]).sql("SELECT a FROM t").fetchall()
        [(5,)]
        """
        value = data.read() if isinstance(data, Relation) else data
        with self._lock:
            self._session.register(name.lower(), _data.produce(value), _data.reading(value))
        return self

    def unregister(self, name: str) -> "Connection":
        """Forgets what :meth:`register` made known."""
        with self._lock:
            self._session.unregister(name.lower())
        return self

    # ── writing ─────────────────────────────────────────────────────────────

    def write(self, name: str, data: Any, mode: str = "append", *, key: Union[str, Sequence[str], None] = None,
              columns: Optional[List[str]] = None, vectors: Union[bool, Dict[str, int]] = True) -> int:
        """Writes rows into a table and says how many; all of them or none.

        ``data`` is a frame of pandas or polars, an Arrow producer, a numpy array, a dict of columns or a list of dicts.
        ``append`` inserts, ``upsert`` replaces rows of the same key, ``create`` makes the table, ``replace`` makes it
        anew. ``key`` names the key's columns for ``create`` and ``replace``. Where a table is made, columns of
        float lists that all have one length become vectors, unless ``vectors=False``.

        >>> import triune
        >>> db = triune.connect()
        >>> db.write("docs", [{"id": 1, "t": "a"}, {"id": 2, "t": "b"}], mode="create", key="id")
        2
        >>> db.write("docs", [{"id": 2, "t": "c"}, {"id": 3, "t": "d"}], mode="upsert")
        2
        >>> db.sql("SELECT * FROM docs ORDER BY id").fetchall()
        [(1, 'a'), (2, 'c'), (3, 'd')]
        """
        if mode not in ("append", "upsert", "create", "replace"):
            raise _interface(f"the mode {mode!r} is unknown; accepted are append, upsert, create and replace")
        value = data.read() if isinstance(data, Relation) else data
        produced = _data.produce(value, names=columns)
        reading = _data.reading(produced)
        frame = f"written_{next(_UNIQUE)}"
        with self._lock:
            self._session.register(frame, produced, reading)
            try:
                return self._write(qualified(name), frame, mode, key, vectors)
            finally:
                self._session.unregister(frame)

    def _write(self, table: str, frame: str, mode: str, key: Any, vectors: Any) -> int:
        fields = self._session.schema_of(f"SELECT * FROM {frame}").fields()
        names = ", ".join(identifier(n) for n, _, _ in fields)
        if mode in ("create", "replace"):
            return self._write_new(table, frame, fields, mode, key, vectors)
        sql = f"INSERT INTO {table} ({names}) SELECT {names} FROM {frame}"
        if mode == "upsert":
            keys = [key] if isinstance(key, str) else list(key) if key else self._key_of(table)
            rest = [n for n, _, _ in fields if n not in keys]
            sets = ", ".join(f"{identifier(n)} = excluded.{identifier(n)}" for n in rest)
            target = ", ".join(map(identifier, keys))
            sql += f" ON CONFLICT ({target}) DO " + (f"UPDATE SET {sets}" if rest else "NOTHING")
        return int(self._run(sql).written or 0)

    def _write_new(self, table: str, frame: str, fields: Any, mode: str, key: Any, vectors: Any) -> int:
        keys = [key] if isinstance(key, str) else list(key) if key else []
        kinds = {n: kind for n, kind, _ in fields}
        for k in keys:
            if k not in kinds:
                raise _interface(f"the key's column {k!r} is not among the columns {', '.join(kinds)}")
        if vectors:
            kinds.update(self._vectors(frame, fields, vectors))
        chosen = ", ".join(
            identifier(n) if kinds[n] == kind else f"CAST({identifier(n)} AS {kinds[n]}) AS {identifier(n)}"
            for n, kind, _ in fields
        )
        if not keys:
            word = "CREATE OR REPLACE TABLE" if mode == "replace" else "CREATE TABLE"
            return int(self._run(f"{word} {table} AS SELECT {chosen} FROM {frame}").written or 0)
        parts = [f"{identifier(n)} {kinds[n]}" for n, _, _ in fields]
        parts.append(f"PRIMARY KEY ({', '.join(map(identifier, keys))})")
        if mode == "replace":
            self._run(f"DROP TABLE IF EXISTS {table}")
        self._run(f"CREATE TABLE {table} ({', '.join(parts)})")
        try:
            return int(self._run(f"INSERT INTO {table} SELECT {chosen} FROM {frame}").written or 0)
        except BaseException:
            self._run(f"DROP TABLE IF EXISTS {table}")
            raise

    def _vectors(self, frame: str, fields: Any, vectors: Any) -> Dict[str, str]:
        """Columns of float lists of one length, as vectors."""
        found: Dict[str, str] = {}
        for name, kind, _ in fields:
            if isinstance(vectors, dict):
                if name in vectors:
                    found[name] = f"VECTOR({vectors[name]})"
            elif kind in ("DOUBLE[]", "REAL[]", "HALF[]") or kind.startswith("DOUBLE["):
                column = identifier(name)
                sql = f"SELECT min(cardinality({column})), max(cardinality({column})) FROM {frame}"
                low, high = self._run(sql).fetch()[0]
                if low is not None and low == high and 1 < low <= 65535:
                    found[name] = f"VECTOR({low})"
        return found

    def _key_of(self, table: str) -> List[str]:
        name = table.rpartition(".")[2].strip('"')
        sql = ("SELECT k.column_name FROM information_schema.key_column_usage k JOIN "
               "information_schema.table_constraints c ON c.constraint_name = k.constraint_name AND "
               "c.table_name = k.table_name WHERE c.constraint_type = 'PRIMARY KEY' AND k.table_name = $1 "
               "ORDER BY k.ordinal_position")
        keys = [row[0] for row in self._run(sql, [name]).fetch()]
        if not keys:
            raise _interface(f"the table {name} has no primary key: name the key's columns with key=")
        return keys

    def append(self, name: str, frame: Any) -> "Connection":
        """Inserts a frame's rows into a table, DuckDB's name for ``write``."""
        self.write(name, frame)
        return self

    # ── functions ───────────────────────────────────────────────────────────

    def create_function(self, name: str, function: Callable[..., Any], parameters: Optional[Sequence[str]] = None,
                        return_type: Optional[str] = None, *, type: str = "native",  # noqa: A002
                        null_handling: str = "default", side_effects: bool = False) -> "Connection":
        """Makes a Python function known to SQL on all connections of the database: see :func:`triune.udf`.

        >>> import triune
        >>> db = triune.connect()
        >>> _ = db.create_function("twice", lambda x: 2 * x, ["BIGINT"], "BIGINT")
        >>> db.sql("SELECT twice(21)").fetchall()
        [(42,)]
        """
        from .functions import register_scalar

        return register_scalar(self, name, function, parameters, return_type, type, null_handling, side_effects)

    def create_table_function(self, name: str, function: Callable[..., Any]) -> "Connection":
        """Makes a Python function that gives rows known as a table function.

        >>> import triune
        >>> db = triune.connect()
        >>> _ = db.create_table_function("squares", lambda n: [{"x": i, "y": i * i} for i in range(n)])
        >>> db.sql("SELECT y FROM squares(4) WHERE x > 1").fetchall()
        [(4,), (9,)]
        """
        from .functions import register_table

        return register_table(self, name, function)

    def _add_function(self, register: Callable[[Any], None]) -> "Connection":
        with self._lock:
            register(self._session)
            for other in list(self._shared.users):
                if other is not self and not other._closed:
                    register(other._session)
            self._shared.functions.append(register)
        return self

    # ── the rest ────────────────────────────────────────────────────────────

    def cursor(self) -> "Connection":
        """A further connection to the same database, with a transaction of its own."""
        if self._closed:
            raise _interface("the connection is closed")
        return Connection(self._database, replacement_scans=self.replacement_scans, progress=self.progress,
                          _shared=self._shared, _read_only=self._read_only)

    duplicate = cursor

    def tables(self) -> List[str]:
        """The names of tables and views."""
        return [name for _, name, _, _, _, _ in self._session.relations()]

    def functions(self) -> List[Tuple[str, str, str, str]]:
        """``(name, kind, signature, description)`` of every function."""
        return self._session.functions()

    @property
    def location(self) -> str:
        """Where the database is."""
        return str(self._database.location)

    async def aexecute(self, query: str, parameters: Any = None, **named: Any) -> Relation:
        """Runs a statement without blocking the event loop, and gives its rows as a relation in memory.

        Cancelling the task cancels the statement.

        >>> import asyncio, triune
        >>> async def main():
        ...     return (await triune.connect().aexecute("SELECT 1")).fetchall()
        >>> asyncio.run(main())
        [(1,)]
        """
        from ._async import execute

        return await execute(self, query, {**(parameters or {}), **named} if named else parameters)

    def close(self) -> None:
        """Ends the conversation; the last one closes the database. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        self._local = _threading.local()
        self._session.close()
        with self._shared.lock:
            self._shared.users.discard(self)
            last = not self._shared.users
        if last:
            self._database.close()

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<triune.Connection to {self.location!r}, {state}>"

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _unpicklable(self, protocol)


class _Shared:
    """What the connections of a database share."""

    def __init__(self) -> None:
        self.lock = _threading.Lock()
        self.users: Any = _weakref.WeakSet()
        self.functions: List[Callable[[Any], None]] = []


class _Fetched(Relation):
    """The rows of a statement that runs already."""

    def __init__(self, connection: Connection, rows: Any) -> None:
        super().__init__(connection, "")
        self._rows = rows

    def _run(self) -> Any:
        return self._rows


__all__ = ["Connection"]
