"""Every type both ways: parameters, rows, pandas, polars, pyarrow, numpy; with nulls and zones."""

import datetime as dt
import decimal
import math
import uuid
import zoneinfo

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import triune

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")

VALUES = [
    True, False, 0, -1, 2**31, 2**63 - 1, -(2**63), 2**64 - 1, 1.5, -0.0, 1e300, "", "a", "naïve \U0001f600", b"", b"\x00\xff",
    decimal.Decimal("1.50"), decimal.Decimal("-12345678901234567890.123456789"), decimal.Decimal("0.001"), decimal.Decimal("1E+3"),
    10**30, dt.date(1, 1, 1), dt.date(1969, 12, 31), dt.date(9999, 12, 31), dt.time(0, 0), dt.time(23, 59, 59, 999999),
    dt.datetime(1969, 12, 31, 23, 59, 59, 999999), dt.datetime(2024, 2, 29, 12, 30, 1, 5), dt.timedelta(days=-3, microseconds=7),
    dt.timedelta(hours=30), triune.Interval(14, -3, 5), [1, 2, 3], ["a", None], [], [[1], [2, 3]], {"a": 1, "b": "x"},
    {"a": [1, 2], "c": {"d": None, "e": 2.5}},
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_parameter_comes_back_as_it_was_given(db, value):
    ((found,),) = db.sql("SELECT $1 AS v", [value]).fetchall()
    assert found == value
    if not isinstance(value, (decimal.Decimal, int)) or isinstance(value, bool):
        assert type(found) is type(value)
    if isinstance(value, float):
        assert math.copysign(1, found) == math.copysign(1, value)


def test_null(db):
    assert db.sql("SELECT $1 AS v, $2 + 1 AS w", [None, None]).fetchall() == [(None, None)]
    assert db.execute("SELECT ? IS NULL", [None]).fetchone() == (True,)
    assert db.execute("SELECT ? IS NULL", [pd.NaT]).fetchone() == (True,)
    assert db.execute("SELECT ? IS NULL", [pd.NA]).fetchone() == (True,)


@pytest.mark.parametrize(
    "zone", [dt.timezone.utc, BERLIN, dt.timezone(dt.timedelta(hours=-3, minutes=-30)), dt.timezone(dt.timedelta(hours=5, minutes=45))], ids=str
)
@pytest.mark.parametrize("month", [1, 7])
def test_a_datetime_keeps_its_moment_and_its_zone(db, zone, month):
    given = dt.datetime(2024, month, 3, 4, 5, 6, 789, tzinfo=zone)
    ((found,),) = db.sql("SELECT $1 AS v", [given]).fetchall()
    assert found == given
    assert found.utcoffset() == given.utcoffset()
    assert db.sql("SELECT $1 = $2", [given, given.astimezone(dt.timezone.utc)]).fetchall() == [(True,)]


def test_the_hour_that_comes_twice(db):
    for fold in (0, 1):
        given = dt.datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN, fold=fold)
        ((found,),) = db.sql("SELECT $1 AS v", [given]).fetchall()
        assert found.utcoffset() == given.utcoffset(), fold


def test_numpy_scalars_and_arrays(db):
    row = db.sql(
        "SELECT $1, $2, $3, $4, $5, $6",
        [np.int8(5), np.float32(0.1), np.bool_(True), np.datetime64("2024-01-02"), np.datetime64("2024-01-02T03:04:05.123456789"), np.str_("x")],
    ).fetchall()[0]
    assert row[0] == 5 and row[1] == np.float32(0.1) and row[2] is True and row[3] == dt.date(2024, 1, 2)
    assert row[4] == pd.Timestamp("2024-01-02T03:04:05.123456789") and row[5] == "x"
    for dtype in ("f2", "f4", "f8", "i1", "i4", "u1", "?"):
        given = np.array([1, 0, 1], dtype=dtype)
        assert db.sql("SELECT $1 AS v", [given]).fetchall()[0][0] == given.tolist(), dtype
    strided = np.arange(10, dtype="f4")[::3]
    assert db.sql("SELECT $1 AS v", [strided]).fetchall() == [([0, 3, 6, 9],)]
    assert db.sql("SELECT $1 AS v", [np.arange(4, dtype=">f4")]).fetchall() == [([0, 1, 2, 3],)]


def test_arrays_and_lists_are_vectors(db):
    db.execute("CREATE TABLE d (id INT, v VECTOR(3))")
    db.execute("INSERT INTO d VALUES (1, $1), (2, $2), (3, $3)", [[0, 0, 1], np.array([0, 1, 0], "f4"), np.array([1.0, 0, 0])])
    for query in ([1, 0, 0.1], np.array([1, 0, 0.1]), np.array([1, 0, 0.1], "f4"), np.array([1, 0, 0.1], "f2"), (1, 0, 0)):
        found = db.sql("SELECT id FROM d ORDER BY v <-> $q LIMIT 1", q=query).fetchall()
        assert found == [(3,)], query
        found = db.sql("SELECT id FROM vector_search(d, v, $q, k => 1)", q=query).fetchall()
        assert found == [(3,)], query


def test_uuid(db):
    key = uuid.uuid4()
    db.execute("CREATE TABLE u (id UUID PRIMARY KEY)")
    db.execute("INSERT INTO u VALUES (?)", [key])
    assert db.execute("SELECT id FROM u WHERE id = ?", [key]).fetchall() == [(key,)]


def test_what_cannot_be_given_says_so(db):
    for value, words in [(object(), "accepted are None"), (decimal.Decimal("NaN"), "NaN"), (10**80, "76"), ([1, "a"], "none in common"),
                         (dt.time(1, tzinfo=dt.timezone.utc), "zone")]:
        with pytest.raises((TypeError, triune.Error), match=words) as error:
            db.execute("SELECT $1", [value])
        assert "$1" in str(error.value)


SQL = """SELECT * FROM (VALUES
  (TRUE, CAST(1 AS TINYINT), CAST(2 AS SMALLINT), CAST(3 AS INT), CAST(4 AS BIGINT), CAST(1.5 AS REAL), CAST(2.5 AS DOUBLE), 'x',
   CAST(1.25 AS DECIMAL(9,2)), DATE '2024-02-29', CAST('2024-01-01 00:00:01.5' AS TIMESTAMP(6)), arrow_cast('2024-01-01 00:00:01.5Z', 'Timestamp(µs, "UTC")'), [1, 2], TIME '01:02:03'),
  (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)
) AS t(b, i1, i2, i4, i8, f4, f8, s, d, day, ts, tz, l, tm)"""

ROW = (
    True, 1, 2, 3, 4, 1.5, 2.5, "x", decimal.Decimal("1.25"), dt.date(2024, 2, 29), dt.datetime(2024, 1, 1, 0, 0, 1, 500000),
    dt.datetime(2024, 1, 1, 0, 0, 1, 500000, tzinfo=dt.timezone.utc), [1, 2], dt.time(1, 2, 3),
)


def test_rows(db):
    assert db.sql(SQL).fetchall() == [ROW, (None,) * len(ROW)]


def test_pandas_there_and_back(db):
    frame = db.sql(SQL).df()
    assert [str(t) for t in frame.dtypes[:7]] == ["boolean", "Int8", "Int16", "Int32", "Int64", "float32", "float64"]
    assert frame["tz"].dtype.kind == "M" and str(frame["tz"].dt.tz) == "UTC"
    assert frame.isna().iloc[1].all() and not frame.isna().iloc[0].any()
    back = db.sql("SELECT b, i1, i2, i4, i8, f4, f8, s, d, day, ts, tz, tm FROM frame").fetchall()
    expected = list(ROW[:12]) + [ROW[13]]
    expected[9] = dt.datetime(2024, 2, 29)  # pandas has no dates
    assert back == [tuple(expected), (None,) * 13]


def test_polars_there_and_back(db):
    frame = db.sql(SQL).pl()
    assert frame.schema["i2"] == pl.Int16 and frame.schema["tz"] == pl.Datetime("us", "UTC") and frame.schema["day"] == pl.Date
    assert db.sql("SELECT * FROM frame").fetchall() == [ROW, (None,) * len(ROW)]


def test_pyarrow_there_and_back(db):
    table = db.sql(SQL).to_arrow_table()
    assert table.schema.field("d").type == pa.decimal128(9, 2) and table.schema.field("i1").type == pa.int8()
    assert db.from_arrow(table).fetchall() == [ROW, (None,) * len(ROW)]
    assert db.from_arrow(table).to_arrow_table().equals(table)


def test_numpy_there_and_back(db):
    columns = db.sql(SQL).fetchnumpy()
    assert columns["i8"].dtype == "i8" and columns["i8"].mask.tolist() == [False, True]
    assert columns["ts"].dtype == "M8[us]" and columns["day"].dtype == "M8[D]" and columns["b"].dtype == bool
    given = {"i": np.array([1, 2]), "f": np.array([0.5, np.nan]), "t": np.array(["2024-01-01", "NaT"], "M8[us]"), "s": np.array(["a", "b"]),
             "v": np.arange(6, dtype="f4").reshape(2, 3)}
    rows = db.from_df(given).fetchall()
    assert rows[0] == (1, 0.5, dt.datetime(2024, 1, 1), "a", [0, 1, 2]) and rows[1][2] is None and math.isnan(rows[1][1])


def test_vectors_come_as_arrays(db):
    db.execute("CREATE TABLE d (id INT, v VECTOR(2), h HALFVEC(2))")
    db.execute("INSERT INTO d VALUES (1, [1, 2], [1, 2]), (2, NULL, NULL), (3, [3, 4], [3, 4])")
    rows = db.sql("SELECT v, h FROM d ORDER BY id")
    assert rows.types == ["VECTOR(2)", "HALFVEC(2)"]
    assert rows.fetchall() == [([1, 2], [1, 2]), (None, None), ([3, 4], [3, 4])]
    v = db.sql("SELECT v FROM d WHERE id <> 2 ORDER BY id").fetchnumpy()["v"]
    assert v.shape == (2, 2) and v.dtype == "f4" and v.tolist() == [[1, 2], [3, 4]]
    frame = rows.df()
    assert frame["v"][0].dtype == "f4" and frame["v"][0].tolist() == [1, 2] and frame["v"][1] is None
    assert rows.pl()["v"].dtype == pl.Array(pl.Float32, 2)


def test_values_beyond_pythons_are_no_silent_losses(db):
    with pytest.raises(triune.DataError, match="beyond"):
        db.sql("SELECT to_timestamp_seconds(1000000000000)").fetchall()
    ((value,),) = db.sql("SELECT CAST('2024-01-01 00:00:00.000000001' AS TIMESTAMP(9))").fetchall()
    assert value == pd.Timestamp("2024-01-01 00:00:00.000000001")


def test_empty_results_keep_their_types(db):
    empty = db.sql(SQL).filter("FALSE")
    assert empty.fetchall() == [] and len(empty.df()) == 0 and len(empty.pl()) == 0
    assert empty.df()["i8"].dtype == "int64" and empty.to_arrow_table().schema.field("i8").type == pa.int64()
