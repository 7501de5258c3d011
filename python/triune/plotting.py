"""Pictures of results, by matplotlib.

Two columns and more: lines of ``y`` over ``x``; the first column that is a time or a date is ``x`` where none is named.
A column of vectors of two dimensions, or of more with ``project=True``: points.
"""

from __future__ import annotations

from typing import Any, List, Optional


def plot(relation: Any, x: Optional[str] = None, y: Any = None, *, color: Optional[str] = None, project: bool = False,
         ax: Any = None, **options: Any) -> Any:
    """Draws a relation and gives matplotlib's axes."""
    import matplotlib.pyplot as pyplot
    import numpy

    from ._convert import numpy_columns

    data = relation.read()
    fields = data.schema.fields()
    columns = numpy_columns(data)
    ax = ax if ax is not None else pyplot.subplots()[1]
    wanted: List[str] = [y] if isinstance(y, str) else list(y) if y is not None else []
    vectors = [n for n, kind, _ in fields if "VEC" in kind and (not wanted or n in wanted)]
    if vectors and x is None:
        points = numpy.asarray(columns[vectors[0]], dtype=float)
        if points.shape[1] != 2:
            if not project:
                raise ValueError(f"{vectors[0]} has {points.shape[1]} dimensions: project=True draws its two principal ones")
            centred = points - points.mean(axis=0)
            points = centred @ numpy.linalg.svd(centred, full_matrices=False)[2][:2].T
        shades = None
        if color is not None:
            values = columns[color]
            shades = numpy.unique(values.astype(str), return_inverse=True)[1] if values.dtype.kind == "O" else values
        ax.scatter(points[:, 0], points[:, 1], c=shades, **options)
        ax.set_title(vectors[0])
        return ax
    if x is None:
        times = [n for n, kind, _ in fields if kind.startswith(("TIMESTAMP", "DATE"))]
        x = times[0] if times else fields[0][0]
    numbers = [n for n in columns if n != x and columns[n].dtype.kind in "iuf"]
    for name in wanted or numbers:
        ax.plot(columns[x], columns[name], label=name, **options)
    ax.set_xlabel(x)
    if len(wanted or numbers) > 1:
        ax.legend()
    elif wanted or numbers:
        ax.set_ylabel((wanted or numbers)[0])
    return ax
