"""``%sql`` and ``%%sql`` for IPython and Jupyter.

.. code-block:: text

    %load_ext triune
    %sql my.db                          opens a database (:memory: without)
    %sql SELECT count(*) FROM docs
    rows = %sql SELECT * FROM docs WHERE lang = $lang
    %%sql [name] [--df | --pl]          a cell; its rows become the variable `name`

``$name`` takes the value of the variable ``name``.
"""

from __future__ import annotations

import os as _os
import re as _re
from typing import Any, Optional

from . import _frames, _params, _triune, connect
from .connection import Connection

_STATE: dict = {}

_WORDS = frozenset(
    """ALTER ABORT BEGIN CHECKPOINT COMMENT COMMIT COPY CREATE DEALLOCATE DELETE DESCRIBE DROP END EXECUTE EXPLAIN FROM
    INSERT MERGE OPTIMIZE PREPARE REFRESH REINDEX RELEASE RESET RESTORE ROLLBACK SAVEPOINT SELECT SET SHOW START
    SUMMARIZE TABLE UPDATE VACUUM VALUES WITH""".split()
)


def connection() -> Connection:
    """The connection that the magics use."""
    if _STATE.get("connection") is None:
        _STATE["connection"] = connect()
    return _STATE["connection"]


def _first_word(text: str) -> str:
    found = _re.match(r"\(?\s*([A-Za-z]+)", text)
    return found.group(1).upper() if found else ""


def _names(text: str) -> list:
    return [t[1:] for kind, t in _params._tokens(text) if kind == "param" and not t[1:].isdigit()]


def run(text: str, space: dict) -> Any:
    """Runs statements with the variables that they name."""
    known = connection()
    result: Any = None
    for statement in _triune.split(text):
        values = {}
        for name in _names(statement):
            if name not in space:
                raise NameError(f"the statement wants ${name}, and no variable is called so")
            values[name] = space[name]
        inside = _frames.SPACE.set(space)
        try:
            result = known.sql(statement, values or None)
        finally:
            _frames.SPACE.reset(inside)
    return result


def load(shell: Any) -> None:
    """Makes the magics known to a shell."""

    def sql(line: str, cell: Optional[str] = None) -> Any:
        space = dict(shell.user_ns)
        if cell is not None:
            words = line.split()
            form = next((w[2:] for w in words if w in ("--df", "--pl", "--arrow")), None)
            names = [w for w in words if not w.startswith("--")]
            result = _formed(run(cell, space), form)
            if names:
                shell.user_ns[names[0]] = result
                return None
            return result
        text = line.strip()
        if not text:
            return connection()
        if _first_word(text) not in _WORDS and not text.startswith(("(", "$", "'")):
            value = space.get(text)
            if isinstance(value, Connection):
                _STATE["connection"] = value
            else:
                _STATE["connection"] = connect(_os.path.expanduser(text))
            return _STATE["connection"]
        return run(text, space)

    shell.register_magic_function(sql, magic_kind="line_cell", magic_name="sql")


def _formed(result: Any, form: Optional[str]) -> Any:
    if result is None or form is None:
        return result
    return {"df": result.df, "pl": result.pl, "arrow": result.to_arrow_table}[form]()
