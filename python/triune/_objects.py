"""Makes Python's objects of the engine's values; called by the compiled half."""

from __future__ import annotations

import datetime as _dt
import functools as _functools
from decimal import Decimal as decimal  # noqa: F401  (called by name)
from typing import Any, NamedTuple, Optional
from uuid import UUID as uuid  # noqa: F401  (called by name)

_EPOCH = _dt.datetime(1970, 1, 1)
_EPOCH_DAY = _EPOCH.toordinal()
_UTC = _dt.timezone.utc


class Interval(NamedTuple):
    """A span of time with months in it, which have no fixed length.

    >>> Interval(months=1, days=2, nanoseconds=0)
    Interval(months=1, days=2, nanoseconds=0)
    """

    months: int
    days: int
    nanoseconds: int


def _beyond(what: str, value: object) -> Exception:
    from .errors import DataError

    error = DataError(f"the {what} {value} is beyond what Python's datetime holds; read it with .to_arrow_table()")
    error.kind = "bad data"
    return error


def date(days: int) -> _dt.date:
    try:
        return _dt.date.fromordinal(_EPOCH_DAY + days)
    except (ValueError, OverflowError):
        raise _beyond("date of day", days) from None


def time(nanoseconds: int) -> _dt.time:
    micros, rest = divmod(nanoseconds, 1000)
    if rest:
        raise _beyond("time of nanosecond", nanoseconds)
    seconds, micros = divmod(micros, 1_000_000)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    return _dt.time(hour, minute, second, micros)


@_functools.lru_cache(maxsize=256)
def zone(name: str) -> _dt.tzinfo:
    """The zone of a name such as ``UTC``, ``Europe/Berlin`` or ``+02:00``."""
    if name in ("UTC", "Z", "+00:00", "+0000"):
        return _UTC
    if name[:1] in "+-":
        digits = name[1:].replace(":", "")
        offset = _dt.timedelta(hours=int(digits[:2]), minutes=int(digits[2:4] or 0))
        return _dt.timezone(-offset if name[0] == "-" else offset)
    import zoneinfo

    return zoneinfo.ZoneInfo(name)


def timestamp(nanoseconds: int, zone_name: Optional[str]) -> Any:
    micros, rest = divmod(nanoseconds, 1000)
    if rest:
        try:
            import pandas
        except ImportError:
            raise _beyond("timestamp of nanosecond", nanoseconds) from None
        value = pandas.Timestamp(nanoseconds, unit="ns", tz="UTC" if zone_name else None)
        return value.tz_convert(zone(zone_name)) if zone_name else value
    try:
        value = _EPOCH + _dt.timedelta(microseconds=micros)
        if zone_name is None:
            return value
        value = value.replace(tzinfo=_UTC)
        where = zone(zone_name)
        return value if where is _UTC else value.astimezone(where)
    except OverflowError:
        raise _beyond("timestamp of microsecond", micros) from None


def interval(months: int, days: int, nanoseconds: int) -> Any:
    micros, rest = divmod(nanoseconds, 1000)
    if months or rest:
        return Interval(months, days, nanoseconds)
    try:
        return _dt.timedelta(days=days, microseconds=micros)
    except OverflowError:
        return Interval(months, days, nanoseconds)
