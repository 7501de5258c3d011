"""Brings values that are not Python's own into the few forms that the compiled half knows."""

from __future__ import annotations

import datetime as _dt
import enum as _enum
import sys as _sys
from decimal import Decimal as _Decimal
from typing import Any, Optional, Tuple
from uuid import UUID as _UUID

from ._objects import Interval as _Interval

_EPOCH = _dt.datetime(1970, 1, 1)
_EPOCH_UTC = _EPOCH.replace(tzinfo=_dt.timezone.utc)
_EPOCH_DAY = _EPOCH.toordinal()
_MICRO = _dt.timedelta(microseconds=1)


def zone_name(value: _dt.datetime) -> Optional[str]:
    """The zone of a datetime as Arrow names it: by its key, else by its offset then."""
    zone = value.tzinfo
    if zone is None:
        return None
    for attribute in ("key", "zone"):
        name = getattr(zone, attribute, None)
        if isinstance(name, str) and name:
            return name
    offset = value.utcoffset() or _dt.timedelta(0)
    minutes = int(offset.total_seconds() // 60)
    if minutes == 0:
        return "UTC"
    sign = "-" if minutes < 0 else "+"
    return f"{sign}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"


def _datetime(value: Any) -> Tuple[str, Any]:
    zone = zone_name(value)
    nanosecond = getattr(value, "nanosecond", 0)
    if type(value).__name__ == "Timestamp" and nanosecond:
        return "timestamp_ns", (value.as_unit("ns").value, zone)
    if type(value) is not _dt.datetime and hasattr(value, "to_pydatetime"):
        value = value.to_pydatetime(warn=False)
    since = value - (_EPOCH if zone is None else _EPOCH_UTC)
    return "timestamp", (since // _MICRO, zone)


def plain(value: Any) -> Tuple[str, Any]:
    """A form and the value in it."""
    kind = type(value).__name__
    if kind in ("NaTType", "NAType"):
        return "same", None
    if isinstance(value, _dt.datetime):
        return _datetime(value)
    if isinstance(value, _dt.date):
        return "date", value.toordinal() - _EPOCH_DAY
    if isinstance(value, _dt.time):
        if value.tzinfo is not None:
            raise TypeError("a time of day with a zone is not supported; give a datetime, or drop the zone")
        seconds = (value.hour * 60 + value.minute) * 60 + value.second
        return "time", seconds * 1_000_000 + value.microsecond
    if isinstance(value, _dt.timedelta):
        nanoseconds = getattr(value, "nanoseconds", 0)
        return "interval", (0, value.days, (value.seconds * 1_000_000 + value.microseconds) * 1000 + nanoseconds)
    if isinstance(value, _Interval):
        return "interval", tuple(value)
    if isinstance(value, _Decimal):
        sign, digits, exponent = value.as_tuple()
        if not isinstance(exponent, int):
            raise TypeError(f"{value} is no number that a DECIMAL holds")
        text = "".join(map(str, digits)) + "0" * max(exponent, 0)
        return "decimal", ("-" + text if sign else text, max(-exponent, 0))
    if isinstance(value, _UUID):
        return "uuid", str(value)
    if isinstance(value, _enum.Enum):
        return "same", value.value
    numpy: Any = _sys.modules.get("numpy")
    if numpy is not None:
        if isinstance(value, numpy.ndarray):
            return _array(numpy, value)
        if isinstance(value, numpy.datetime64):
            return _datetime64(numpy, value)
        if isinstance(value, numpy.timedelta64):
            if numpy.isnat(value):
                return "same", None
            return "interval", (0, 0, int(value.astype("timedelta64[ns]").astype("int64")))
        if isinstance(value, numpy.float32):
            return "float32", float(value)
        if isinstance(value, numpy.generic):
            return "same", value.item()
    for base in (bool, int, float, str):
        if isinstance(value, base):
            return "same", base(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return "same", bytes(value)
    if isinstance(value, dict):
        return "same", dict(value)
    if isinstance(value, (list, tuple, set, frozenset, range)):
        return "same", list(value)
    if hasattr(value, "__array__"):  # torch, pandas.Series, jax …
        import numpy

        return _array(numpy, numpy.asarray(value.detach().cpu() if hasattr(value, "detach") else value))
    raise TypeError(
        f"a value of type {type(value).__module__}.{kind} cannot be given; accepted are None, bool, int, float, "
        "str, bytes, Decimal, UUID, date, time, datetime, timedelta, lists, dicts and numpy's arrays and scalars"
    )


def _datetime64(numpy: Any, value: Any) -> Tuple[str, Any]:
    if numpy.isnat(value):
        return "same", None
    unit = numpy.datetime_data(value.dtype)[0]
    if unit in ("Y", "M", "W", "D"):
        return "date", int(value.astype("datetime64[D]").astype("int64"))
    if unit in ("ns", "ps", "fs", "as"):
        return "timestamp_ns", (int(value.astype("datetime64[ns]").astype("int64")), None)
    return "timestamp", (int(value.astype("datetime64[us]").astype("int64")), None)


def _array(numpy: Any, value: Any) -> Tuple[str, Any]:
    if value.ndim == 0:
        return "same", value.item()
    if value.ndim > 1:
        return "same", list(value)
    if value.dtype.kind in "OUSV" or value.dtype.kind in "Mm":
        return "same", value.tolist() if value.dtype.kind in "OUS" else list(value)
    return "array", native(numpy, value)


def native(numpy: Any, value: Any) -> Any:
    """The array in this machine's byte order and in one piece: itself where it is so."""
    return numpy.ascontiguousarray(value, dtype=value.dtype.newbyteorder("="))
