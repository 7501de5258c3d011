"""Rows for eyes: text for terminals, HTML for notebooks."""

from __future__ import annotations

import html as _html
from typing import Any, List, Sequence, Tuple

Fields = Sequence[Tuple[str, str, bool]]

MAX_WIDTH = 40


def cell(value: Any, kind: str) -> str:
    """A value in a few characters; vectors by their first numbers.

    >>> cell([0.25, 0.5, 1.0, 2.0, 3.0], "VECTOR(5)")
    '[0.25, 0.5, 1, … 5]'
    """
    if value is None:
        return "NULL"
    if isinstance(value, list) and "VEC" in kind and len(value) > 3:
        first = ", ".join(f"{v:.4g}" for v in value[:3])
        return f"[{first}, … {len(value)}]"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, bytes):
        text = "\\x" + value[:16].hex() + ("…" if len(value) > 16 else "")
        return text
    text = str(value)
    if len(text) > 300:
        text = text[:299] + "…"
    return text


def _is_number(kind: str) -> bool:
    return kind.endswith("INT") or kind.startswith(("INTEGER", "DOUBLE", "REAL", "HALF", "DECIMAL")) and "[" not in kind


def table(fields: Fields, rows: List[Tuple[Any, ...]], more: bool) -> str:
    """A table of box characters."""
    if not fields:
        return ""
    cells = [[cell(v, f[1]).replace("\n", "⏎") for v, f in zip(row, fields)] for row in rows]
    cells = [[c if len(c) <= MAX_WIDTH else c[: MAX_WIDTH - 1] + "…" for c in row] for row in cells]
    widths = [max(len(f[0]), len(f[1]), *(len(r[i]) for r in cells)) if cells else max(len(f[0]), len(f[1])) for i, f in enumerate(fields)]

    def line(left: str, middle: str, right: str) -> str:
        return left + middle.join("─" * (w + 2) for w in widths) + right

    def row(texts: List[str], numbers: bool) -> str:
        parts = []
        for text, width, field in zip(texts, widths, fields):
            parts.append(text.rjust(width) if numbers and _is_number(field[1]) else text.ljust(width))
        return "│ " + " │ ".join(parts) + " │"

    out = [line("┌", "┬", "┐"), row([f[0] for f in fields], False), row([f[1].lower() for f in fields], False), line("├", "┼", "┤")]
    out += [row(r, True) for r in cells]
    out.append(line("└", "┴", "┘"))
    out.append(_count(len(rows), more))
    return "\n".join(out)


def _count(rows: int, more: bool) -> str:
    if more:
        return f"first {rows} rows, there are more"
    return "1 row" if rows == 1 else f"{rows} rows"


def as_html(fields: Fields, rows: List[Tuple[Any, ...]], more: bool) -> str:
    """A table for a notebook; everything in it is escaped."""
    head = "".join(
        f"<th>{_html.escape(name)}<br><small style='font-weight:normal;opacity:.6'>{_html.escape(kind.lower())}</small></th>"
        for name, kind, _ in fields
    )
    body = []
    for row in rows:
        cells = []
        for value, (_, kind, _n) in zip(row, fields):
            text = cell(value, kind)
            style = "text-align:right" if _is_number(kind) else "text-align:left"
            if value is None:
                style += ";opacity:.5"
            shown = text if len(text) <= 120 else text[:119] + "…"
            cells.append(f"<td style='{style}'>{_html.escape(shown)}</td>")
        body.append("<tr>" + "".join(cells) + "</tr>")
    count = _html.escape(_count(len(rows), more))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table><small>{count}</small>"
