"""Replacement scans: variables of the caller that a statement names as tables: its locals, then its globals."""

from __future__ import annotations

import contextvars as _contextvars
import sys as _sys
from typing import Any, Dict, List, Optional, Tuple

from ._data import is_frame

#: A notebook's variables, while a magic runs a statement for it.
SPACE: "_contextvars.ContextVar[Optional[Dict[str, Any]]]" = _contextvars.ContextVar("triune_space", default=None)

_HERE = __name__.rpartition(".")[0]


def caller_frame() -> Optional[Any]:
    """The nearest frame that is not this package's."""
    frame: Any = _sys._getframe(1)
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name != _HERE and not name.startswith(_HERE + "."):
            return frame
        frame = frame.f_back
    return None


def find(names: List[Tuple[str, str]]) -> Dict[str, Any]:
    """Variables that can be read as tables, by the names that the statement's tables would have."""
    found: Dict[str, Any] = {}
    frame, notebook = caller_frame(), SPACE.get()
    spaces: List[Any] = [notebook] if notebook is not None else [frame.f_locals, frame.f_globals] if frame else []
    for written, name in names:
        for space in spaces:
            value = space.get(written)
            if value is not None and is_frame(value):
                found[name] = value
                break
    return found
