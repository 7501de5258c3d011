"""Batches as numpy's arrays and pandas' frames."""

from __future__ import annotations

from typing import Any, Dict

from ._triune import Batches, Column


def numpy_array(column: Column) -> Any:
    """A column for numpy: masked where values are missing, of objects where numpy has no such type."""
    import numpy

    memory = column.memory()
    if memory is None:
        values = numpy.empty(len(column), dtype=object)
        for i, value in enumerate(column.to_pylist()):
            values[i] = value
    else:
        values = numpy.asarray(memory)
    nulls = column.nulls()
    if nulls is None:
        return values
    mask = numpy.asarray(nulls)
    if values.ndim == 2:
        mask = numpy.broadcast_to(mask[:, None], values.shape)
    return numpy.ma.masked_array(values, mask=mask)


def numpy_columns(batches: Batches) -> Dict[str, Any]:
    names = _distinct([name for name, _, _ in batches.schema.fields()])
    return {name: numpy_array(batches.column(i)) for i, name in enumerate(names)}


def _distinct(names: Any) -> Any:
    seen: Dict[str, int] = {}
    out = []
    for name in names:
        count = seen.get(name, 0)
        seen[name] = count + 1
        out.append(name if count == 0 else f"{name}_{count}")
    return out


def frame(batches: Batches) -> Any:
    """A pandas frame: nulls keep their column's type (``Int64``, ``boolean``), vectors are rows of one array."""
    import pandas

    fields = batches.schema.fields()
    series = [_series(pandas, batches.column(i)) for i in range(len(fields))]
    index = pandas.RangeIndex(len(batches))
    made = pandas.DataFrame(dict(enumerate(series)), index=index, copy=False)
    made.columns = pandas.Index([name for name, _, _ in fields])
    return made


_MASKED = {
    "i": ("Int", "IntegerArray"),
    "u": ("UInt", "IntegerArray"),
    "b": ("boolean", "BooleanArray"),
}


def _series(pandas: Any, column: Column) -> Any:
    import numpy

    if column.family == "string":
        return _strings(pandas, numpy, column)
    memory = column.memory()
    if memory is None:
        return pandas.Series(numpy_objects(numpy, column), dtype=object)
    values = numpy.asarray(memory)
    nulls = column.nulls()
    mask = None if nulls is None else numpy.asarray(nulls)
    if values.ndim == 2:
        rows = numpy.empty(len(column), dtype=object)
        for i, row in enumerate(values):
            rows[i] = row
        if mask is not None:
            rows[mask] = None
        return pandas.Series(rows, dtype=object)
    kind = values.dtype.kind
    if mask is not None:
        if kind in "iu":
            return pandas.Series(pandas.arrays.IntegerArray(values.copy(), mask.copy()), copy=False)
        if kind == "b":
            return pandas.Series(pandas.arrays.BooleanArray(values.copy(), mask.copy()), copy=False)
        values = values.copy()
        values[mask] = numpy.datetime64("NaT") if kind == "M" else numpy.timedelta64("NaT") if kind == "m" else numpy.nan
    if kind == "M" and values.dtype == numpy.dtype("M8[D]"):
        values = values.astype("M8[s]")
    made = pandas.Series(values, copy=False)
    if column.zone is not None:
        made = made.dt.tz_localize("UTC").dt.tz_convert(column.zone)
    return made


def numpy_objects(numpy: Any, column: Column) -> Any:
    values = numpy.empty(len(column), dtype=object)
    for i, value in enumerate(column.to_pylist()):
        values[i] = value
    return values


def _strings(pandas: Any, numpy: Any, column: Column) -> Any:
    dtype = pandas.Series(["x"]).dtype  # `object` before pandas 3, `str` since
    try:
        import pyarrow
    except ImportError:
        return pandas.Series(numpy_objects(numpy, column), dtype=dtype)
    if getattr(dtype, "storage", None) != "pyarrow":
        return pandas.Series(pyarrow.array(column).to_pandas(), dtype=dtype)
    # Without a copy.
    array = pyarrow.chunked_array([pyarrow.array(column).cast(pyarrow.large_string())])
    return pandas.Series(dtype.construct_array_type()(array, dtype=dtype) if _takes_dtype(dtype) else dtype.__from_arrow__(array))


def _takes_dtype(dtype: Any) -> bool:
    return not hasattr(dtype, "__from_arrow__")
