"""Python functions in SQL.

>>> import triune
>>> @triune.udf(returns="BIGINT", takes=["BIGINT", "BIGINT"])
... def gcd(a, b):
...     import math
...     return math.gcd(a, b)
>>> db = triune.connect()
>>> _ = gcd.register(db)
>>> db.sql("SELECT gcd(12, 18)").fetchall()
[(6,)]
>>> gcd(4, 6)
2
"""

from __future__ import annotations

import functools as _functools
import inspect as _inspect
from typing import TYPE_CHECKING, Any, Callable, List, Optional, Sequence

from . import _data
from ._convert import numpy_array
from .errors import _interface

if TYPE_CHECKING:
    from .connection import Connection

_ANNOTATIONS = {
    int: "BIGINT", float: "DOUBLE", str: "VARCHAR", bool: "BOOLEAN", bytes: "BYTEA",
    "int": "BIGINT", "float": "DOUBLE", "str": "VARCHAR", "bool": "BOOLEAN", "bytes": "BYTEA",
}


def _sql_type(of: Any) -> Optional[str]:
    return of if isinstance(of, str) and of not in _ANNOTATIONS else _ANNOTATIONS.get(of)


def _from_annotations(function: Callable[..., Any], takes: Any, returns: Any) -> Any:
    try:
        signature = _inspect.signature(function)
    except (TypeError, ValueError):
        return takes, returns
    if returns is None and signature.return_annotation is not _inspect.Signature.empty:
        returns = _sql_type(signature.return_annotation)
    if takes is None:
        parameters = list(signature.parameters.values())
        kinds = [_sql_type(p.annotation) for p in parameters if p.kind is not p.VAR_POSITIONAL]
        takes = kinds if len(kinds) == len(parameters) and all(kinds) else None
    return takes, returns


def _adapter(function: Callable[..., Any], kind: str, null_handling: str) -> Callable[..., Any]:
    """What the engine calls: with a tuple of columns and the number of rows."""
    if kind == "arrow":

        def arrow(columns: Any, rows: int) -> Any:
            import pyarrow

            answer = function(*[pyarrow.array(c) for c in columns])
            if isinstance(answer, pyarrow.ChunkedArray):
                answer = answer.combine_chunks()
            if not hasattr(answer, "__arrow_c_array__"):
                return _column(answer, rows)
            return answer

        return arrow
    if kind == "numpy":
        return lambda columns, rows: _column(function(*[numpy_array(c) for c in columns]), rows)
    if kind != "native":
        raise _interface(f"a function of type {kind!r} is unknown; accepted are native, numpy and arrow")
    skips = null_handling != "special"

    def native(columns: Any, rows: int) -> Any:
        if not columns:
            return _data.column("answer", [function() for _ in range(rows)])
        answers: List[Any] = []
        for values in zip(*[c.to_pylist() for c in columns]):
            answers.append(None if skips and None in values else function(*values))
        return _data.column("answer", answers)

    return native


def _column(answer: Any, rows: int) -> Any:
    numpy = __import__("numpy")
    if isinstance(answer, numpy.ma.MaskedArray):
        mask = numpy.ma.getmaskarray(answer)
        return _data.column("answer", numpy.asarray(answer.data), mask)
    if numpy.ndim(answer) == 0:
        answer = [answer] * rows
    return _data.column("answer", answer)


def register_scalar(connection: "Connection", name: str, function: Callable[..., Any], takes: Optional[Sequence[str]],
                    returns: Optional[str], kind: str, null_handling: str, side_effects: bool) -> "Connection":
    takes, returns = _from_annotations(function, takes, returns)
    if returns is None:
        raise _interface(f"the function {name} needs a return type, such as 'BIGINT' or 'VECTOR(3)'")
    call = _adapter(function, kind, null_handling)
    types = None if takes is None else [str(t) for t in takes]
    return connection._add_function(lambda s: s.register_scalar(name.lower(), call, returns, types, side_effects))


def register_table(connection: "Connection", name: str, function: Callable[..., Any]) -> "Connection":
    def call(*values: Any) -> Any:
        return _data.produce(function(*values))

    return connection._add_function(lambda s: s.register_table_function(name.lower(), call))


class Function:
    """A Python function that can be registered; calling it calls the Python function."""

    def __init__(self, function: Callable[..., Any], register: Callable[["Connection", str], "Connection"], name: str) -> None:
        self.function, self._register, self.name = function, register, name
        _functools.update_wrapper(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def register(self, connection: "Connection", name: Optional[str] = None) -> "Connection":
        """Makes the function known to a database's connections."""
        return self._register(connection, name or self.name)


def udf(function: Optional[Callable[..., Any]] = None, *, name: Optional[str] = None,
        takes: Optional[Sequence[str]] = None, returns: Optional[str] = None, type: str = "native",  # noqa: A002
        null_handling: str = "default", side_effects: bool = False) -> Any:
    """A scalar function. ``native`` is called for each row with Python's objects, ``numpy`` and ``arrow`` once for
    a batch of rows with arrays. Types are SQL's; without them annotations of int, float, str, bool and bytes count.
    A NULL argument gives NULL, unless ``null_handling="special"``.

    >>> @udf
    ... def shout(text: str) -> str:
    ...     return text.upper()
    >>> import triune
    >>> shout.register(triune.connect()).sql("SELECT shout('hey')").fetchall()
    [('HEY',)]
    """

    def made(function: Callable[..., Any]) -> Function:
        def register(connection: "Connection", known: str) -> "Connection":
            return register_scalar(connection, known, function, takes, returns, type, null_handling, side_effects)

        return Function(function, register, name or function.__name__)

    return made if function is None else made(function)


def udtf(function: Optional[Callable[..., Any]] = None, *, name: Optional[str] = None) -> Any:
    """A table function: it takes constants and gives a frame, a dict of columns or a list of dicts."""

    def made(function: Callable[..., Any]) -> Function:
        return Function(function, lambda c, known: register_table(c, known, function), name or function.__name__)

    return made if function is None else made(function)
