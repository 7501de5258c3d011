"""Triune: one SQL plan over embeddings, metadata and time series.

>>> import triune
>>> db = triune.connect()                       # in memory; a folder, or "s3://bucket/db"
>>> db.sql("SELECT 1 + $x AS y", x=41).fetchall()
[(42,)]
"""

from __future__ import annotations

import os as _os
import threading as _threading
import weakref as _weakref
from typing import Any, Dict, Optional, Tuple, Union

from . import _triune
from ._objects import Interval
from .connection import Connection
from .errors import (
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
    _interface,
)
from .relation import Relation, Table

__version__ = _triune.__version__


def connect(
    database: Union[str, "_os.PathLike[str]"] = ":memory:",
    *,
    read_only: bool = False,
    memory_limit: Optional[int] = None,
    replacement_scans: bool = True,
    progress: Optional[bool] = None,
) -> Connection:
    """Opens a database: a folder (made if it is not there), a URL such as ``s3://bucket/db``, or ``:memory:``.

    ``memory_limit`` is in bytes. With ``replacement_scans=False`` statements do not see this program's variables.

    >>> connect().execute("SELECT 'hello'").fetchone()
    ('hello',)
    """
    location = _os.fspath(database)
    if location.startswith(("grpc://", "grpc+tls://", "http://", "https://")):
        from .errors import _make

        raise _make("unsupported", f"a server cannot be connected to yet: {location}",
                    "a folder, s3://bucket/db and :memory: can be opened", None, False)
    if location in ("", ":memory:"):
        opened = _triune.Database(":memory:", read_only, memory_limit)
        return Connection(opened, replacement_scans=replacement_scans, progress=progress)
    place = location if "://" in location else _os.path.realpath(_os.path.expanduser(location))
    key = (_os.getpid(), place)
    with _open_lock:
        known = _open.get(key)
        shared = known() if known is not None else None
        users = list(shared.users) if shared is not None else []
        if users:
            # One process opens a database once: this is a further conversation with it.
            if users[0]._read_only != read_only:
                raise _interface(f"{location} is open in this process, read-only in one of both places")
            return Connection(users[0]._database, replacement_scans=replacement_scans, progress=progress,
                              _shared=shared, _read_only=read_only)
        opened = _triune.Database(location if "://" in location else place, read_only, memory_limit)
        made = Connection(opened, replacement_scans=replacement_scans, progress=progress, _read_only=read_only)
        _open[key] = _weakref.ref(made._shared)
        return made


_open: Dict[Tuple[int, str], Any] = {}
_open_lock = _threading.Lock()
_default: Optional[Connection] = None
_default_lock = _threading.Lock()


def default_connection() -> Connection:
    """The database in memory that :func:`sql` and its like use; made when it is first asked for."""
    global _default
    with _default_lock:
        if _default is None or _default._closed:
            _default = connect()
        return _default


def sql(query: str, *args: Any, **kwargs: Any) -> Any:
    """:meth:`Connection.sql` of the default connection."""
    return default_connection().sql(query, *args, **kwargs)


def execute(query: str, *args: Any, **kwargs: Any) -> Connection:
    """:meth:`Connection.execute` of the default connection."""
    return default_connection().execute(query, *args, **kwargs)


def from_df(frame: Any) -> Relation:
    """:meth:`Connection.from_df` of the default connection."""
    return default_connection().from_df(frame)


def table(name: str) -> Table:
    """:meth:`Connection.table` of the default connection."""
    return default_connection().table(name)


def read_parquet(path: Any, **options: Any) -> Relation:
    """:meth:`Connection.read_parquet` of the default connection."""
    return default_connection().read_parquet(path, **options)


def read_csv(path: Any, **options: Any) -> Relation:
    """:meth:`Connection.read_csv` of the default connection."""
    return default_connection().read_csv(path, **options)


def read_json(path: Any, **options: Any) -> Relation:
    """:meth:`Connection.read_json` of the default connection."""
    return default_connection().read_json(path, **options)


def __getattr__(name: str) -> Any:
    if name in ("udf", "udtf"):
        from . import functions

        return getattr(functions, name)
    if name == "dbapi":
        import importlib

        return importlib.import_module(".dbapi", __name__)
    raise AttributeError(f"module 'triune' has no attribute {name!r}")


def load_ipython_extension(shell: Any) -> None:
    """``%load_ext triune``: the magics ``%sql`` and ``%%sql``."""
    from .magic import load

    load(shell)


__all__ = [
    "Connection", "DataError", "DatabaseError", "Error", "IntegrityError", "InterfaceError", "InternalError", "Interval",
    "NotSupportedError", "OperationalError", "ProgrammingError", "Relation", "Table", "Warning", "connect",
    "default_connection", "execute", "from_df", "read_csv", "read_json", "read_parquet", "sql", "table", "udf", "udtf",
]
