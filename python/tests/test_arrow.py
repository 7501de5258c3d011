"""The PyCapsule interface both ways, without copies; variables as tables."""

import gc
import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import triune
from triune import _data, _triune


def test_a_relation_is_a_stream_as_often_as_one_likes(db):
    relation = db.sql("SELECT * FROM generate_series(1, 100000) AS t(n)")
    for _ in range(2):
        reader = pa.RecordBatchReader.from_stream(relation)
        assert sum(b.num_rows for b in reader) == 100_000
    assert pa.schema(relation).names == ["n"]
    assert pl.DataFrame(relation).shape == (100_000, 1)


def test_a_stream_is_read_as_it_comes(db):
    reader = db.sql("SELECT a.n FROM generate_series(1, 1000000) a(n), generate_series(1, 100000) b(n)").to_arrow_reader()
    assert reader.read_next_batch().num_rows > 0
    reader.close()


def test_an_error_in_a_stream_reaches_its_reader(db):
    reader = db.sql("SELECT 1 / (n - 50000) FROM generate_series(1, 100000) t(n)").to_arrow_reader()
    with pytest.raises(Exception, match="division by zero"):
        reader.read_all()


def address(array):
    return array.buffers()[-1].address


def test_pyarrow_is_read_without_a_copy():
    table = pa.table({"a": pa.array(range(1000), pa.int64())})
    batches = _triune.read_batches(table)
    there = np.asarray(batches.column(0).memory())
    assert there.__array_interface__["data"][0] == address(table["a"].chunk(0))
    back = pa.table(batches)
    assert address(back["a"].chunk(0)) == address(table["a"].chunk(0))


def test_numpy_is_read_without_a_copy():
    array = np.ones((4, 3), "f4")
    column = _data.column("v", array)
    assert np.asarray(column.memory()).__array_interface__["data"][0] == array.__array_interface__["data"][0]
    assert column.type == "VECTOR(3)"
    before = sys.getrefcount(array)
    del column
    gc.collect()
    assert sys.getrefcount(array) == before - 1


def test_results_reach_numpy_pandas_and_polars_without_a_copy(db):
    db.execute("CREATE TABLE t AS SELECT CAST(n AS DOUBLE) AS x FROM generate_series(1, 1000) AS t(n)")
    read = db.sql("SELECT x FROM t").read()
    here = np.asarray(read.column(0).memory()).__array_interface__["data"][0]
    frame = triune._convert.frame(read)
    assert frame["x"].to_numpy().__array_interface__["data"][0] == here
    assert pl.DataFrame(read)["x"].to_numpy(allow_copy=False).__array_interface__["data"][0] == here
    assert pa.table(read)["x"].chunk(0).buffers()[1].address == here
    assert not np.asarray(read.column(0).memory()).flags.writeable


def test_memory_lives_as_long_as_an_array(db):
    array = np.asarray(db.sql("SELECT CAST(n AS BIGINT) AS n FROM generate_series(1, 100000) t(n)").read().column(0).memory())
    gc.collect()
    assert array.sum() == 100_000 * 100_001 // 2


def test_local_frames_are_tables(db):
    people = pd.DataFrame({"name": ["a", "b", None], "age": [1, 2, 3]})  # noqa: F841
    pets = pl.DataFrame({"owner": ["a", "c"], "pet": ["x", "y"]})  # noqa: F841
    towns = pa.table({"name": ["a"], "town": ["t"]})  # noqa: F841
    assert db.sql("SELECT sum(age) FROM people").fetchall() == [(6,)]
    assert db.sql("SELECT pet, town FROM people p JOIN pets ON owner = p.name JOIN towns t ON t.name = p.name").fetchall() == [("x", "t")]
    assert db.execute("SELECT count(*) FROM people WHERE name IS NULL").fetchall() == [(1,)]
    lazy = pl.DataFrame({"z": [1]}).lazy()  # noqa: F841
    assert db.sql("SELECT z FROM lazy").fetchall() == [(1,)]


def test_a_relation_keeps_its_frame(db):
    def made():
        frame = pd.DataFrame({"x": [1, 2]})  # noqa: F841
        return db.sql("SELECT x FROM frame")

    first = made()
    frame = pd.DataFrame({"x": [10]})  # noqa: F841
    second = db.sql("SELECT x FROM frame")
    assert sorted(first.union(second).fetchall()) == [(1,), (2,), (10,)]
    assert first.filter("x > 1").fetchall() == [(2,)]


def test_relations_are_tables_too(db):
    odd = db.sql("SELECT n FROM generate_series(1, 9) t(n) WHERE n % 2 = 1")
    assert db.sql("SELECT count(*) FROM odd").fetchall() == [(5,)]
    db.execute("CREATE TABLE t (n BIGINT)")
    db.execute("INSERT INTO t SELECT n FROM odd")
    assert db.sql("SELECT sum(n) FROM t").fetchall() == [(25,)]


def test_tables_come_before_variables(db):
    t = pd.DataFrame({"a": [1]})
    db.execute("CREATE TABLE t (a INT)")
    assert db.sql("SELECT * FROM t").fetchall() == []
    assert len(t) == 1


def test_replacement_scans_can_be_switched_off():
    frame = pd.DataFrame({"x": [1]})  # noqa: F841
    db = triune.connect(replacement_scans=False)
    with pytest.raises(triune.ProgrammingError, match="frame"):
        db.sql("SELECT * FROM frame")
    db.replacement_scans = True
    assert db.sql("SELECT * FROM frame").fetchall() == [(1,)]


def test_only_the_callers_variables_are_seen(db):
    def inner():
        return db.sql("SELECT * FROM outer_frame")

    def outer():
        outer_frame = pd.DataFrame({"x": [1]})  # noqa: F841
        return inner()

    with pytest.raises(triune.ProgrammingError, match="outer_frame"):
        outer()


def test_a_variable_that_is_no_frame_is_no_table(db):
    number = 5  # noqa: F841
    with pytest.raises(triune.ProgrammingError) as error:
        db.sql("SELECT * FROM number")
    assert error.value.kind == "not found"


class Again:
    """A producer that can be asked again, with no library behind it but this."""

    def __init__(self, table):
        self.table, self.asked = table, 0

    def __arrow_c_stream__(self, requested_schema=None):
        self.asked += 1
        return self.table.__arrow_c_stream__(requested_schema)


def test_streams_of_others(db):
    table = pa.table({"a": list(range(10_000))})
    producer = Again(table)
    relation = db.from_arrow(producer)
    assert relation.aggregate("sum(a)").fetchall() == relation.aggregate("sum(a)").fetchall() == [(49995000,)]
    assert producer.asked >= 2
    once = pa.RecordBatchReader.from_batches(table.schema, iter(table.to_batches()))
    db.register("once", once)
    assert db.sql("SELECT count(*) FROM once").fetchall() == [(10_000,)]
    with pytest.raises(triune.Error, match="read already"):
        db.sql("SELECT count(*) FROM once").fetchall()


def test_a_stream_written_in_python_runs_while_the_query_does(db):
    schema = pa.schema([("a", pa.int64())])

    def batches():
        for i in range(50):
            yield pa.record_batch([pa.array([i] * 100)], schema)

    reader = pa.RecordBatchReader.from_batches(schema, batches())
    assert db.from_arrow(reader).aggregate("sum(a), count(*)").fetchall() == [(122_500, 5_000)]


def test_a_failing_stream_says_why(db):
    schema = pa.schema([("a", pa.int64())])

    def batches():
        yield pa.record_batch([pa.array([1])], schema)
        raise ValueError("the well is dry")

    with pytest.raises(triune.Error, match="the well is dry"):
        db.from_arrow(pa.RecordBatchReader.from_batches(schema, batches())).fetchall()


def test_arrays_are_tables_of_one_column(db):
    assert db.from_arrow(pa.array([1, None, 3])).fetchall() == [(1,), (None,), (3,)]
    assert db.from_arrow(pa.record_batch({"a": [1], "b": ["x"]})).fetchall() == [(1, "x")]


def test_no_pyarrow_is_needed():
    code = """
import sys
sys.modules["pyarrow"] = None
import triune, numpy, pandas, polars
db = triune.connect()
frame = pandas.DataFrame({"a": [1, 2], "s": ["x", None], "t": pandas.to_datetime(["2024-01-01", None]), "f": [0.5, None]})
assert db.sql("SELECT * FROM frame").fetchall()[1][1:] == (None, None, None)
assert db.sql("SELECT a, s FROM frame").df()["s"].tolist()[0] == "x"
assert db.sql("SELECT a FROM frame").pl()["a"].to_list() == [1, 2]
assert db.sql("SELECT a FROM frame").fetchnumpy()["a"].tolist() == [1, 2]
db.write("t", frame, mode="create")
print(db.sql("SELECT count(*) FROM t").fetchall())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[(2,)]"


