"""Values as SQL text, for the few places that take no parameters."""

from __future__ import annotations

from typing import Any


def literal(value: Any) -> str:
    """A value as SQL writes it.

    >>> literal("it's"), literal([1, 2.5]), literal(None)
    ("'it''s'", '[1, 2.5]', 'NULL')
    """
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, (int, float)):
        if value != value or value in (float("inf"), float("-inf")):
            return f"CAST('{value}' AS DOUBLE)"
        return repr(value)
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if hasattr(value, "tolist"):
        return literal(value.tolist())
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(literal, value)) + "]"
    return literal(str(value))
