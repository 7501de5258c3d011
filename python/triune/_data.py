"""Whatever holds rows, as an object that gives Arrow data."""

from __future__ import annotations

import collections.abc as _abc
import sys as _sys
from typing import Any, Dict, List, Optional, Tuple

from . import _triune
from . import _values
from .errors import _interface


def is_pandas(value: Any) -> bool:
    pandas = _sys.modules.get("pandas")
    return pandas is not None and isinstance(value, (pandas.DataFrame, pandas.Series))


def is_frame(value: Any) -> bool:
    """Whether a variable can be read as a table."""
    if isinstance(value, type):
        return False
    if hasattr(value, "__arrow_c_stream__") or hasattr(value, "__arrow_c_array__") or is_pandas(value):
        return True
    kind = type(value)
    return kind.__module__.startswith("polars") and kind.__name__ == "LazyFrame" or _is_columns(value)


def _is_columns(value: Any) -> bool:
    numpy = _sys.modules.get("numpy")
    return (
        numpy is not None
        and isinstance(value, dict)
        and bool(value)
        and all(isinstance(k, str) and isinstance(v, numpy.ndarray) for k, v in value.items())
    )


def reading(value: Any) -> str:
    """How often its data can be asked for: ``whole`` reads it now, ``once`` and ``again`` when a query does."""
    name = type(value).__name__
    if isinstance(value, _triune.Rows) or name in ("RecordBatchReader", "ArrowArrayStream"):
        return "once"
    module = type(value).__module__.partition(".")[0]
    if module in ("polars", "pyarrow", "pandas", "triune", "nanoarrow", "arro3", "numpy"):
        if name in ("Dataset", "FileSystemDataset", "InMemoryDataset", "UnionDataset", "Scanner"):
            return "again"
        return "whole"
    return "again" if hasattr(value, "__arrow_c_stream__") else "whole"


def produce(value: Any, *, names: Optional[List[str]] = None) -> Any:
    """An object with Arrow data of a frame, dicts, rows or arrays.

    >>> len(_triune.read_batches(produce([{"a": 1}, {"b": "x"}])))
    2
    """
    if is_pandas(value):
        return _of_pandas(value)
    kind = type(value)
    if kind.__module__.startswith("polars") and kind.__name__ == "LazyFrame":
        return value.collect()
    if hasattr(value, "__arrow_c_stream__") or hasattr(value, "__arrow_c_array__"):
        return value
    if kind.__module__.startswith("pyarrow") and hasattr(value, "scanner"):
        return value.scanner().to_reader()
    numpy = _sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.ndarray):
        return _of_array(numpy, value, names)
    if isinstance(value, _abc.Mapping):
        return of_columns({str(name): column for name, column in value.items()})
    if isinstance(value, _abc.Iterable) and not isinstance(value, (str, bytes)):
        return _of_rows(list(value), names)
    raise _interface(
        f"a {kind.__module__}.{kind.__name__} holds no rows; accepted are Arrow producers, frames of pandas and "
        "polars, numpy's arrays, dicts of columns and lists of dicts or tuples"
    )


def of_columns(columns: Dict[str, Any]) -> Any:
    """A table of lists and arrays by name."""
    return _triune.batches_of_columns([column(name, values) for name, values in columns.items()])


def column(name: str, values: Any, missing: Any = None) -> Any:
    """One column of a list, an array or an Arrow array."""
    numpy = _sys.modules.get("numpy")
    if numpy is not None and isinstance(values, numpy.ndarray) and values.ndim in (1, 2):
        if values.dtype.kind in "biuf" or (values.dtype.kind in "Mm" and values.ndim == 1):
            if values.dtype.kind in "Mm":
                nat = numpy.isnat(values)
                missing = nat if missing is None else (missing | nat)
                unit = numpy.datetime_data(values.dtype)[0]
                if unit in ("Y", "M", "W"):
                    values = values.astype("datetime64[D]")
                elif unit in ("h", "m"):
                    values = values.astype(values.dtype.kind + "8[s]")
                elif unit == "D" and values.dtype.kind == "m":
                    values = values.astype("m8[s]")
            values = _values.native(numpy, values)
            if missing is not None:
                missing = numpy.ascontiguousarray(missing, dtype=bool) if missing.any() else None
            return _triune.column_of_numpy(name, values, missing)
        values = list(values) if values.ndim > 1 or values.dtype.kind in "Mm" else values.tolist()
    elif hasattr(values, "__arrow_c_array__") or hasattr(values, "__arrow_c_stream__"):
        return _triune.read_batches(values).column(0)
    return _triune.column_of_list(name, list(values))


def _of_array(numpy: Any, value: Any, names: Optional[List[str]]) -> Any:
    if value.dtype.names:
        return of_columns({name: value[name] for name in value.dtype.names})
    if value.ndim == 1 or (value.ndim == 2 and names is not None and len(names) == 1):
        return of_columns({names[0] if names else "value": value})
    if value.ndim == 2:
        if names is not None:
            if len(names) != value.shape[1]:
                raise _interface(f"the array has {value.shape[1]} columns, {len(names)} names are given")
            return of_columns({name: value[:, i] for i, name in enumerate(names)})
        return of_columns({"vector": value})
    raise _interface(f"an array of {value.ndim} dimensions is no table")


def _of_rows(rows: List[Any], names: Optional[List[str]]) -> Any:
    if not rows:
        raise _interface("an empty list has no columns")
    if all(isinstance(row, _abc.Mapping) for row in rows):
        keys: Dict[str, None] = {}
        for row in rows:
            keys.update(dict.fromkeys(map(str, row)))
        return of_columns({key: [row.get(key) for row in rows] for key in keys})
    if all(hasattr(row, "_fields") for row in rows):
        names = names or list(rows[0]._fields)
    if all(isinstance(row, (list, tuple)) for row in rows):
        width = len(rows[0])
        if any(len(row) != width for row in rows):
            raise _interface("the rows have different lengths")
        names = names or [f"col{i}" for i in range(width)]
        return of_columns({name: [row[i] for row in rows] for i, name in enumerate(names)})
    return of_columns({names[0] if names else "value": rows})


def _of_pandas(value: Any) -> Any:
    import pandas

    if isinstance(value, pandas.Series):
        value = value.to_frame(value.name if value.name is not None else "value")
    columns = [_pandas_column(str(name), value.iloc[:, i]) for i, name in enumerate(value.columns)]
    return _triune.batches_of_columns(columns)


def _pandas_column(name: str, series: Any) -> Any:
    """A column of pandas: numbers and times by their memory, texts by Arrow where pandas keeps them so."""
    import numpy
    import pandas

    dtype = series.dtype
    if isinstance(dtype, numpy.dtype):
        values = series.to_numpy()
        if dtype.kind in "biu" or dtype.kind in "Mm":
            return column(name, values)
        if dtype.kind == "f":
            # pandas means "missing" by it.
            return column(name, values, numpy.isnan(values))
        objects = [None if _is_missing(v) else v for v in values.tolist()]
        return _objects_column(numpy, name, objects)
    if isinstance(dtype, pandas.CategoricalDtype):
        return _pandas_column(name, series.astype(object))
    if isinstance(dtype, pandas.DatetimeTZDtype):
        return _zoned(name, series)
    if hasattr(series.array, "_mask"):
        data, mask = series.array._data, series.array._mask
        return column(name, numpy.asarray(data), numpy.asarray(mask))
    if hasattr(series.array, "__arrow_array__") and _sys.modules.get("pyarrow") is not None:
        import pyarrow

        array = pyarrow.array(series.array)
        if isinstance(array, pyarrow.ChunkedArray):
            array = array.combine_chunks()
        return _renamed(name, array)
    return _objects_column(numpy, name, [None if _is_missing(v) else v for v in series.tolist()])


def _renamed(name: str, array: Any) -> Any:
    import pyarrow

    return _triune.read_batches(pyarrow.table({name: array})).column(0)


def _zoned(name: str, series: Any) -> Any:
    from ._values import zone_name

    if _sys.modules.get("pyarrow") is not None:
        import pyarrow

        return _renamed(name, pyarrow.array(series))
    first = next((v for v in series if not _is_missing(v)), None)
    if first is None or zone_name(first) is None:
        return _triune.column_of_list(name, [None] * len(series))
    return _triune.column_of_list(name, [None if _is_missing(v) else v for v in series])


def _objects_column(numpy: Any, name: str, values: List[Any]) -> Any:
    present = [v for v in values if v is not None]
    if present and all(isinstance(v, numpy.ndarray) and v.ndim == 1 and v.dtype.kind == "f" for v in present):
        if len(present) == len(values) and len({(len(v), v.dtype) for v in present}) == 1:
            return column(name, numpy.stack(present))
    return _triune.column_of_list(name, values)


def _is_missing(value: Any) -> bool:
    return value is None or type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and value != value)


def described(schema: Any) -> List[Tuple[str, str, bool]]:
    return schema.fields()
