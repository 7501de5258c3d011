"""DB-API 2.0 (PEP 249).

>>> from triune import dbapi
>>> with dbapi.connect() as connection:
...     cursor = connection.cursor()
...     _ = cursor.execute("SELECT ? + 1", (41,))
...     cursor.fetchall()
[(42,)]

A connection opens a transaction with its first statement that writes, unless ``autocommit``; ``commit`` and
``rollback`` end it. Statements that define (CREATE, ALTER, DROP) cannot take part: what is open is committed before.
"""

from __future__ import annotations

import datetime as _datetime
import re as _re
import time as _time
import weakref as _weakref
from typing import Any, Iterator, List, Optional, Sequence, Tuple

from . import connect as _connect
from . import errors as _errors
from .errors import (  # noqa: F401
    DatabaseError,
    DataError,
    Error,
    IntegrityError,
    InterfaceError,
    InternalError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
    Warning,
)

apilevel = "2.0"
threadsafety = 2
paramstyle = "qmark"

Date = _datetime.date
Time = _datetime.time
Timestamp = _datetime.datetime


def DateFromTicks(ticks: float) -> _datetime.date:
    """The date of seconds since 1970."""
    return Date(*_time.localtime(ticks)[:3])


def TimeFromTicks(ticks: float) -> _datetime.time:
    """The time of day of seconds since 1970."""
    return Time(*_time.localtime(ticks)[3:6])


def TimestampFromTicks(ticks: float) -> _datetime.datetime:
    """The moment of seconds since 1970."""
    return Timestamp(*_time.localtime(ticks)[:6])


def Binary(value: Any) -> bytes:
    """Bytes of what holds bytes."""
    return value.encode() if isinstance(value, str) else bytes(value)


class _Kind:
    """A group of types, equal to the type codes that belong to it."""

    def __init__(self, name: str, pattern: str) -> None:
        self.name, self._pattern = name, _re.compile(pattern)

    def __eq__(self, other: object) -> bool:
        return self is other or isinstance(other, str) and bool(self._pattern.fullmatch(other))

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return self.name


STRING = _Kind("STRING", r"VARCHAR.*|UUID|JSON|TEXT")
BINARY = _Kind("BINARY", r"BLOB.*")
NUMBER = _Kind("NUMBER", r"U?(TINYINT|SMALLINT|INTEGER|BIGINT)|DOUBLE|REAL|HALF|DECIMAL\(.*\)|BOOLEAN")
DATETIME = _Kind("DATETIME", r"DATE|TIME(STAMP(TZ)?)?(\(\d\))?|INTERVAL|DURATION")
ROWID = _Kind("ROWID", r"ROWID")

_DEFINES = _re.compile(
    r"\s*(CREATE(?!\s+(OR\s+REPLACE\s+)?TEMP)|ALTER|DROP|COMMENT|VACUUM|OPTIMIZE|CHECKPOINT|RESTORE|REINDEX)\b", _re.I
)
_WRITES = _re.compile(r"\s*(INSERT|UPDATE|DELETE|MERGE|COPY\s+[^(])", _re.I)
_COMMENTS = _re.compile(r"\s*(--[^\n]*\n|/\*.*?\*/)", _re.S)


def connect(database: Any = ":memory:", *, autocommit: bool = False, **options: Any) -> "Connection":
    """Opens a database; the options are those of :func:`triune.connect`."""
    return Connection(_connect(database, **options), autocommit)


class Connection:
    """PEP 249's connection: cursors share its transaction."""

    Warning = _errors.Warning
    Error = _errors.Error
    InterfaceError = _errors.InterfaceError
    DatabaseError = _errors.DatabaseError
    DataError = _errors.DataError
    OperationalError = _errors.OperationalError
    IntegrityError = _errors.IntegrityError
    InternalError = _errors.InternalError
    ProgrammingError = _errors.ProgrammingError
    NotSupportedError = _errors.NotSupportedError

    def __init__(self, connection: Any, autocommit: bool = False) -> None:
        self._connection = connection
        self._autocommit = autocommit
        self._open = False
        self._cursors: Any = _weakref.WeakSet()

    @property
    def triune(self) -> Any:
        """The :class:`triune.Connection` below."""
        return self._connection

    @property
    def autocommit(self) -> bool:
        """Whether each statement is a transaction of its own."""
        return self._autocommit

    @autocommit.setter
    def autocommit(self, value: bool) -> None:
        if value and self._open:
            self.commit()
        self._autocommit = bool(value)

    def _check(self) -> None:
        if self._connection._closed:
            raise _errors._interface("the connection is closed")

    def _prepare(self, sql: str) -> None:
        """Opens a transaction before what writes, ends it before what cannot take part."""
        if self._autocommit:
            return
        while True:
            comment = _COMMENTS.match(sql)
            if comment is None:
                break
            sql = sql[comment.end():]
        if _DEFINES.match(sql):
            self.commit()
        elif _WRITES.match(sql) and not self._open:
            self._connection._run("BEGIN")
            self._open = True

    def commit(self) -> None:
        """Commits what is open."""
        self._check()
        if self._open:
            self._open = False
            self._connection._run("COMMIT")

    def rollback(self) -> None:
        """Takes back what is open."""
        self._check()
        if self._open:
            self._open = False
            self._connection._run("ROLLBACK")

    def cursor(self) -> "Cursor":
        """A cursor within this connection's transaction."""
        self._check()
        made = Cursor(self)
        self._cursors.add(made)
        return made

    def execute(self, sql: str, parameters: Any = ()) -> "Cursor":
        """A new cursor that has executed a statement."""
        return self.cursor().execute(sql, parameters)

    def close(self) -> None:
        """Rolls back and closes. Using it afterwards is an error."""
        self._check()
        self.rollback()
        for cursor in list(self._cursors):
            cursor._rows = None
        self._connection.close()

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        if self._connection._closed:
            return
        if kind is None:
            self.commit()
        self.close()

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _errors._unpicklable(self, protocol)


class Cursor:
    """PEP 249's cursor."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.arraysize = 1
        self._rows: Any = None
        self._closed = False
        self._rowcount = -1
        self._description: Optional[List[Tuple[Any, ...]]] = None
        self.lastrowid = None
        self.messages: List[Any] = []

    def _check(self) -> None:
        if self._closed:
            raise _errors._interface("the cursor is closed")
        self.connection._check()

    @property
    def description(self) -> Optional[List[Tuple[Any, ...]]]:
        """Name, type and whether nulls are possible, of each column; None after what gives no rows."""
        return self._description

    @property
    def rowcount(self) -> int:
        """Rows that were written; -1 where that is not known."""
        return self._rowcount

    @property
    def rownumber(self) -> None:
        """Not kept."""
        return None

    def execute(self, operation: str, parameters: Any = ()) -> "Cursor":
        """Runs a statement: ``?`` with a sequence, ``$name`` with a dict."""
        self._check()
        self._rows, self._description, self._rowcount = None, None, -1
        self.connection._prepare(operation)
        given = parameters if isinstance(parameters, dict) else list(parameters) if parameters is not None else []
        rows = self.connection._connection._run(operation, given or None)
        if rows.is_query:
            self._rows = rows
            fields = rows.schema.fields()
            self._description = [(name, kind, None, None, None, None, null) for name, kind, null in fields]
        elif rows.written is not None:
            self._rowcount = int(rows.written)
        return self

    def executemany(self, operation: str, seq_of_parameters: Sequence[Any]) -> "Cursor":
        """Runs a statement with each of several sequences: within one transaction."""
        self._check()
        total, connection = 0, self.connection
        own = connection._autocommit
        if own:
            connection._connection._run("BEGIN")
        try:
            for parameters in seq_of_parameters:
                self.execute(operation, parameters)
                if self._rows is not None:
                    raise ProgrammingError("executemany takes no statements that give rows")
                total += max(self._rowcount, 0)
        except BaseException:
            if own:
                connection._connection._run("ROLLBACK")
            raise
        if own:
            connection._connection._run("COMMIT")
        self._rowcount = total
        return self

    def callproc(self, name: str, parameters: Sequence[Any] = ()) -> Sequence[Any]:
        """There are no procedures."""
        raise NotSupportedError("there are no stored procedures")

    def _result(self) -> Any:
        self._check()
        if self._rows is None:
            raise ProgrammingError("there are no rows to fetch: no query was executed")
        return self._rows

    def fetchone(self) -> Optional[Tuple[Any, ...]]:
        """The next row, None at the end."""
        some = self._result().fetch(1)
        return some[0] if some else None

    def fetchmany(self, size: Optional[int] = None) -> List[Tuple[Any, ...]]:
        """The next rows, ``arraysize`` of them by default."""
        return self._result().fetch(self.arraysize if size is None else size)

    def fetchall(self) -> List[Tuple[Any, ...]]:
        """All rows that are left."""
        return self._result().fetch()

    def __iter__(self) -> Iterator[Tuple[Any, ...]]:
        return self

    def __next__(self) -> Tuple[Any, ...]:
        row = self.fetchone()
        if row is None:
            raise StopIteration
        return row

    next = __next__

    def nextset(self) -> None:
        """There is one set of rows only."""
        self._check()
        return None

    def setinputsizes(self, sizes: Any) -> None:
        """Does nothing: sizes are known."""

    def setoutputsize(self, size: Any, column: Any = None) -> None:
        """Does nothing: sizes are known."""

    def close(self) -> None:
        """Lets go of rows. Using the cursor afterwards is an error."""
        self._check()
        self._closed, self._rows = True, None

    def __enter__(self) -> "Cursor":
        return self

    def __exit__(self, *_: Any) -> None:
        if not self._closed:
            self.close()
