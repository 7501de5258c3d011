"""Statements within an event loop: each waits in a thread, and its task's end cancels it."""

from __future__ import annotations

import asyncio as _asyncio
from typing import TYPE_CHECKING, Any

from . import _frames, _params
from .errors import ProgrammingError

if TYPE_CHECKING:
    from .connection import Connection


async def execute(connection: "Connection", query: str, parameters: Any) -> Any:
    """Runs one statement; its rows are in memory when this returns."""
    cancelled = False

    class Cancelled(Exception):
        pass

    def tick(*_: Any) -> None:
        if cancelled:
            raise Cancelled

    text = _params.numbered(query) if isinstance(parameters, (list, tuple)) else query

    def work(frames: Any) -> Any:
        def run(sql: str) -> Any:
            rows = connection._session.execute(sql, parameters, tick)
            return rows.read()

        try:
            with connection._lock:
                return connection._run_over(text, frames, run) if frames else run(text)
        except Cancelled:
            return None

    async def threaded(frames: Any) -> Any:
        nonlocal cancelled
        task = _asyncio.get_running_loop().run_in_executor(None, work, frames)
        try:
            return await _asyncio.shield(task)
        except _asyncio.CancelledError:
            cancelled = True
            raise

    try:
        batches = await threaded({})
    except ProgrammingError as error:
        if not connection.replacement_scans or error.kind != "not found":
            raise
        found = _frames.find(connection._session.unknown_names(text))
        if not found:
            raise
        batches = await threaded(found)
    if not batches.schema.fields():
        return _Nothing(batches)
    return connection.from_arrow(batches)


class _Nothing:
    """What a statement without columns gives."""

    def __init__(self, batches: Any) -> None:
        self._batches = batches

    def fetchall(self) -> list:
        return []

    def fetchone(self) -> None:
        return None

    def __repr__(self) -> str:
        return "<done>"

