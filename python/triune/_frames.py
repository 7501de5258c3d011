"""Replacement scans: variables of the caller that a statement names as tables."""

from __future__ import annotations

import sys as _sys
from typing import Any, Dict, List, Optional, Tuple

from ._data import is_frame

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
    frame = caller_frame()
    wanted = dict(names)
    while frame is not None and wanted:
        for space in (frame.f_locals, frame.f_globals):
            for written in list(wanted):
                value = space.get(written)
                if value is not None and is_frame(value):
                    found[wanted.pop(written)] = value
        frame = frame.f_back
    return found
