"""A bar for work that takes longer than a second, on terminals and in notebooks."""

from __future__ import annotations

import os as _os
import sys as _sys
import time as _time
from typing import Any, Callable, Optional

_AFTER = 1.0
_EVERY = 0.1


def _in_notebook() -> bool:
    ipython = _sys.modules.get("IPython")
    if ipython is None:
        return False
    shell = ipython.get_ipython()
    return shell is not None and type(shell).__name__ == "ZMQInteractiveShell"


def bar(wanted: Optional[bool]) -> Optional[Callable[..., None]]:
    """A function that shows how far a statement is; ``(None, None, None, None)`` ends it."""
    if wanted is False:
        return None
    notebook = _in_notebook()
    if wanted is None and not notebook and not (_sys.stderr and _sys.stderr.isatty() and "TRIUNE_NO_PROGRESS" not in _os.environ):
        return None
    return _Bar(notebook)


def text(fraction: Optional[float], rows: int, total: Optional[int], read: int) -> str:
    """One line.

    >>> text(0.5, 1_500_000, 3_000_000, 0)
    '██████████░░░░░░░░░░  50 %  1.5 M rows'
    """
    amount = f"{rows / 1e6:.1f} M rows" if rows >= 1_000_000 else f"{rows} rows"
    if read:
        amount += f", {read / 1e6:.0f} MB"
    if fraction is None:
        return amount
    full = int(fraction * 20)
    return "█" * full + "░" * (20 - full) + f" {fraction * 100:3.0f} %  {amount}"


class _Bar:
    def __init__(self, notebook: bool) -> None:
        self.begun = _time.monotonic()
        self.shown = 0.0
        self.notebook = notebook
        self.handle: Any = None

    def __call__(self, fraction: Any, rows: Any, total: Any, read: Any) -> None:
        now = _time.monotonic()
        if rows is None:
            self.end()
        elif now - self.begun >= _AFTER and now - self.shown >= _EVERY:
            self.shown = now
            self.show(text(fraction, rows, total, read))

    def show(self, line: str) -> None:
        if not self.notebook:
            _sys.stderr.write("\r\x1b[K" + line)
            _sys.stderr.flush()
            return
        from IPython.display import display

        shown = {"text/plain": line}
        if self.handle is None:
            self.handle = display(shown, raw=True, display_id=True)
        else:
            self.handle.update(shown, raw=True)

    def end(self) -> None:
        if self.shown and not self.notebook:
            _sys.stderr.write("\r\x1b[K")
            _sys.stderr.flush()
        elif self.handle is not None:
            self.handle.update({"text/plain": ""}, raw=True)
        self.shown = 0.0
