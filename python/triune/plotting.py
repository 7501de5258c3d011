"""Pictures of results, by matplotlib.

Two columns and more: lines of ``y`` over ``x``; the first column that is a time or a date is ``x`` where none is named.
With ``color="column"`` a line for each of the column's values; any other ``color`` is matplotlib's.
A column of vectors of two dimensions, or of more with ``project=True``: points, coloured by a column likewise.
"""

from __future__ import annotations

from typing import Any, List, Optional


def plot(relation: Any, x: Optional[str] = None, y: Any = None, *, color: Optional[str] = None, project: bool = False,
         ax: Any = None, **options: Any) -> Any:
    """Draws a relation and gives matplotlib's axes."""
    try:
        import matplotlib.pyplot as pyplot
        import numpy
    except ImportError as error:
        raise ImportError("plot() needs matplotlib: pip install matplotlib") from error

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
        if color is None or color not in columns:
            ax.scatter(points[:, 0], points[:, 1], **({} if color is None else {"color": color}), **options)
        elif columns[color].dtype.kind in "iuf":
            ax.figure.colorbar(ax.scatter(points[:, 0], points[:, 1], c=columns[color], **options), ax=ax, label=color)
        else:
            for value, rows in _groups(columns[color]):
                ax.scatter(points[rows, 0], points[rows, 1], label=value, **options)
            ax.legend(title=color)
        ax.set_title(vectors[0])
        return ax
    if x is None:
        times = [n for n, kind, _ in fields if kind.startswith(("TIMESTAMP", "DATE"))]
        x = times[0] if times else fields[0][0]
    numbers = [n for n in columns if n not in (x, color) and columns[n].dtype.kind in "iuf"]
    drawn = wanted or numbers
    for name in [x, *drawn]:
        if name not in columns:
            raise ValueError(f"there is no column {name!r}; the columns are {', '.join(columns)}")
    if color is not None and color in columns:
        if len(drawn) != 1:
            raise ValueError(f"color={color!r} draws a line for each value of one column: name it with y=, not {drawn}")
        for value, rows in _groups(columns[color]):
            ax.plot(columns[x][rows], columns[drawn[0]][rows], label=value, **options)
        ax.legend(title=color)
    else:
        for name in drawn:
            ax.plot(columns[x], columns[name], label=name, **({} if color is None else {"color": color}), **options)
        if len(drawn) > 1:
            ax.legend()
    ax.set_xlabel(x)
    if len(drawn) == 1:
        ax.set_ylabel(drawn[0])
    return ax


def _groups(values: Any) -> Any:
    """``(value as a text, where it is)`` for each value."""
    import numpy

    texts = numpy.asarray([str(v) for v in values])
    return [(value, numpy.flatnonzero(texts == value)) for value in numpy.unique(texts)]
