"""Exceptions: PEP 249's tree, each with what the engine knows about the error.

>>> import triune
>>> try:
...     triune.connect().execute("SELECT * FROM nowhere")
... except triune.ProgrammingError as error:
...     print(error.kind, error.sqlstate, error.position)
not found 42P01 (1, 15)
"""

from __future__ import annotations

from typing import Any, Dict, Optional, Tuple, Type


class Warning(Exception):  # noqa: A001  (PEP 249's name)
    """Something important that is no error."""


class Error(Exception):
    """The base of all errors of Triune.

    ``kind`` is the engine's kind of error, ``position`` the line and column in the statement (both from 1) or None,
    ``hint`` what might help, ``sqlstate`` five characters as PostgreSQL uses them, ``retryable`` whether the same
    statement may succeed when it is sent again.
    """

    kind: str = "invalid"
    message: str = ""
    hint: Optional[str] = None
    position: Optional[Tuple[int, int]] = None
    sqlstate: str = "XX000"
    retryable: bool = False


class InterfaceError(Error):
    """The package was used wrongly: a closed connection, a wrong argument."""


class DatabaseError(Error):
    """The database could not do it."""


class DataError(DatabaseError):
    """Values or files are damaged or out of range."""


class OperationalError(DatabaseError):
    """Memory, disk, permissions, conflicts, cancelled statements: not the statement's fault."""


class IntegrityError(DatabaseError):
    """A constraint would break: NOT NULL, CHECK, a key that is taken."""


class InternalError(DatabaseError):
    """A defect in Triune."""


class ProgrammingError(DatabaseError):
    """The statement is wrong: syntax, names, types, number of parameters."""


class NotSupportedError(DatabaseError):
    """Well-formed, and Triune cannot do it."""


# kind: class, SQLSTATE of PostgreSQL
_KINDS: Dict[str, Tuple[Type[Error], str]] = {
    "syntax": (ProgrammingError, "42601"),
    "invalid": (ProgrammingError, "42000"),
    "not found": (ProgrammingError, "42P01"),
    "already exists": (ProgrammingError, "42P07"),
    "bad data": (DataError, "22000"),
    "unsupported": (NotSupportedError, "0A000"),
    "permission denied": (OperationalError, "42501"),
    "constraint": (IntegrityError, "23000"),
    "conflict": (OperationalError, "40001"),
    "unavailable": (OperationalError, "08006"),
    "out of resources": (OperationalError, "53000"),
    "cancelled": (OperationalError, "57014"),
    "internal": (InternalError, "XX000"),
}

_VALUES = ("division by zero", "number out of range", "out of range", "cannot cast", "overflow")


def _make(kind: str, message: str, hint: Optional[str], position: Optional[Tuple[int, int]], retryable: bool) -> Error:
    """The exception of an error of the engine."""
    known: Type[Error]
    known, state = _KINDS.get(kind, (DatabaseError, "XX000"))
    lowered = message.lower()
    if kind == "invalid":
        if lowered.endswith(" is closed"):
            known, state = InterfaceError, "08003"
        elif lowered.startswith(_VALUES):
            known, state = DataError, "22012" if "division" in lowered else "22003"
    elif kind == "not found":
        state = "42703" if "column" in lowered else "42883" if "function" in lowered else state
    elif kind == "constraint":
        state = "23505" if "key" in lowered or "unique" in lowered else "23502" if "null" in lowered else "23514"
    text = message if hint is None else f"{message}; {hint}"
    if position is not None:
        text = f"{text} (line {position[0]}, column {position[1]})"
    error = known(text)
    error.kind, error.message, error.hint = kind, message, hint
    error.position, error.sqlstate, error.retryable = position, state, retryable
    return error


def _interface(message: str) -> InterfaceError:
    error = InterfaceError(message)
    error.message = message
    return error


__all__ = [name for name, value in list(globals().items()) if isinstance(value, type) and issubclass(value, Exception)]


def _unpicklable(thing: Any, _protocol: int) -> Any:
    raise TypeError(
        f"a triune.{type(thing).__name__} cannot be pickled: it belongs to this process; "
        "call triune.connect in the other process, or send the rows"
    )
