"""Writing rows of all kinds; searches; functions; notebooks; the documentation's examples."""

import doctest
import importlib
import pathlib
import pkgutil

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import triune

ROWS = [(1, "a", 0.5), (2, None, 1.5)]


@pytest.mark.parametrize(
    "data",
    [
        pd.DataFrame({"id": [1, 2], "s": ["a", None], "f": [0.5, 1.5]}),
        pl.DataFrame({"id": [1, 2], "s": ["a", None], "f": [0.5, 1.5]}),
        pl.LazyFrame({"id": [1, 2], "s": ["a", None], "f": [0.5, 1.5]}),
        pa.table({"id": [1, 2], "s": ["a", None], "f": [0.5, 1.5]}),
        pa.record_batch({"id": [1, 2], "s": ["a", None], "f": [0.5, 1.5]}),
        [{"id": 1, "s": "a", "f": 0.5}, {"f": 1.5, "id": 2}],
        {"id": np.array([1, 2]), "s": ["a", None], "f": [0.5, 1.5]},
        [(1, "a", 0.5), (2, None, 1.5)],
    ],
    ids=lambda d: type(d).__module__.split(".")[0] + "." + type(d).__name__,
)
def test_all_kinds_of_rows(db, data):
    columns = ["id", "s", "f"] if isinstance(data, list) and isinstance(data[0], tuple) else None
    assert db.write("t", data, mode="create", key="id", columns=columns) == 2
    assert db.sql("SELECT * FROM t ORDER BY id").fetchall() == ROWS
    with pytest.raises(triune.IntegrityError):
        db.write("t", data, columns=columns)
    assert db.write("t", data, mode="upsert", columns=columns) == 2
    assert db.write("t", data, mode="replace", columns=columns) == 2
    assert db.write("t", data, columns=columns) == 2
    assert db.sql("SELECT count(*) FROM t").fetchall() == [(4,)]


def test_a_stream_and_a_relation(db):
    reader = pa.RecordBatchReader.from_batches(pa.schema([("a", pa.int64())]), (pa.record_batch({"a": [i]}) for i in range(5)))
    assert db.write("t", reader, mode="create") == 5
    assert db.write("t", db.sql("SELECT a + 10 AS a FROM t")) == 5
    assert db.sql("SELECT sum(a) FROM t").fetchall() == [(10 + 60,)]


def test_upsert_changes_what_is_there_and_adds_the_rest(db):
    db.execute("CREATE TABLE t (a INT, b INT, n INT, m INT DEFAULT 7, PRIMARY KEY (a, b))")
    db.execute("INSERT INTO t VALUES (1, 1, 0, 5), (1, 2, 0, 5)")
    db.write("t", [{"b": 2, "a": 1, "n": 9}, {"a": 2, "b": 2, "n": 8}], mode="upsert")
    assert db.sql("SELECT * FROM t ORDER BY a, b").fetchall() == [(1, 1, 0, 5), (1, 2, 9, 5), (2, 2, 8, 7)]
    db.execute("CREATE TABLE nokey (a INT)")
    with pytest.raises(triune.InterfaceError, match="primary key"):
        db.write("nokey", [{"a": 1}], mode="upsert")


def test_columns_by_name(db):
    db.execute("CREATE TABLE t (a INT, b VARCHAR, c INT)")
    db.write("t", pd.DataFrame({"c": [3], "a": [1]}))
    assert db.sql("SELECT * FROM t").fetchall() == [(1, None, 3)]
    with pytest.raises(triune.ProgrammingError, match="nope"):
        db.write("t", [{"nope": 1}])


def test_vectors_of_numpy_pandas_and_polars(db):
    vectors = np.random.default_rng(1).random((50, 8), dtype=np.float32)
    for i, data in enumerate([
        {"id": np.arange(50), "v": vectors},
        pd.DataFrame({"id": np.arange(50), "v": list(vectors)}),
        pd.DataFrame({"id": np.arange(50), "v": vectors.astype("f8").tolist()}),
        pl.DataFrame({"id": np.arange(50), "v": vectors}),
        pl.DataFrame({"id": np.arange(50), "v": vectors.tolist()}),
    ]):
        db.write(f"t{i}", data, mode="create", key="id")
        assert db.table(f"t{i}").types == ["BIGINT", "VECTOR(8)"], i
        assert np.array_equal(db.sql(f"SELECT v FROM t{i} ORDER BY id").fetchnumpy()["v"], vectors), i
    db.write("flat", {"v": [[1.0, 2.0], [3.0, 4.0]]}, mode="create", vectors=False)
    assert db.table("flat").types == ["DOUBLE[]"]


def test_a_failed_write_leaves_nothing(db):
    with pytest.raises(triune.Error):
        db.write("t", [{"a": 1}, {"a": 1}], mode="create", key="a")
    assert "t" not in db.tables()
    with pytest.raises(triune.InterfaceError, match="mode"):
        db.write("t", [{"a": 1}], mode="overwrite")


# ── searches ────────────────────────────────────────────────────────────────


@pytest.fixture
def docs(db):
    rng = np.random.default_rng(7)
    vectors = rng.random((200, 16), dtype=np.float32)
    words = ["fox", "whale", "stone", "river", "cloud"]
    db.write("docs", {"id": np.arange(200), "lang": ["en" if i % 4 else "de" for i in range(200)],
                      "body": [f"{words[i % 5]} and {words[i % 3]} number {i}" for i in range(200)], "v": vectors}, mode="create", key="id")
    return db.table("docs"), vectors


def test_search_against_numpy(docs):
    table, vectors = docs
    query = vectors[17] + 0.01
    order = np.argsort(((vectors - query) ** 2).sum(1))
    found = table.search(query).metric("l2").select("id").limit(10).fetchall()
    assert [i for (i,) in found] == order[:10].tolist()
    german = [int(i) for i in order if i % 4 == 0]
    found = table.search(query).metric("l2").where("lang = $l", l="de").select("id").limit(5).fetchall()
    assert [i for (i,) in found] == german[:5]
    found = table.search(query).metric("l2").where("lang = 'de'").where("id < $n", n=100).select("id").limit(3, offset=2).fetchall()
    assert [i for (i,) in found] == [i for i in german if i < 100][2:5]
    assert table.search(list(query)).limit(1).df()["id"].tolist() == [17]


def test_search_is_one_plan_and_composes(docs):
    table, vectors = docs
    search = table.search(vectors[0]).limit(20)
    assert search.sql_query().count("SELECT") == 1
    assert len(search) == 20 and "VectorSearch" in search.explain().replace("_", "").replace(" ", "") or "vector" in search.explain().lower()
    assert search.aggregate("lang, count(*) AS n", "lang").aggregate("sum(n)").fetchall() == [(20,)]


def test_texts_and_both(docs):
    table, vectors = docs
    found = table.search("whale").select("id, body").limit(5).fetchall()
    assert len(found) == 5 and all("whale" in body for _, body in found)
    assert table.search().text("fox", columns="body").where("id > 100").limit(3).fetchall()[0][0] > 100
    both = table.search(vectors[3]).hybrid("river").select("id").limit(10).fetchall()
    assert len(both) == 10 and (3,) in both
    with pytest.raises(triune.InterfaceError, match="vector and words"):
        table.search(vectors[3]).hybrid()
    with pytest.raises(triune.InterfaceError, match="vector"):
        table.search().fetchall()


def test_reranking(docs):
    table, vectors = docs
    best = table.search(vectors[0]).select("id").limit(3).rerank(lambda c: c["id"], candidates=50).fetchall()
    near = [i for (i,) in table.search(vectors[0]).select("id").limit(50).fetchall()]
    assert [i for i, _ in best] == sorted(near, reverse=True)[:3]


# ── functions ───────────────────────────────────────────────────────────────


def test_functions_over_arrays(db):
    import pyarrow.compute as pc

    db.create_function("twice_np", lambda x: x * 2, ["DOUBLE"], "DOUBLE", type="numpy")
    db.create_function("twice_pa", lambda x: pc.multiply(x, 2), ["DOUBLE"], "DOUBLE", type="arrow")
    rows = db.sql("SELECT twice_np(x), twice_pa(x) FROM (VALUES (1.5), (NULL), (2)) t(x)").fetchall()
    assert rows == [(3, 3), (None, None), (4, 4)]
    assert db.cursor().sql("SELECT twice_np(4)").fetchall() == [(8,)]
    assert db.sql("SELECT sum(twice_np(n)) FROM generate_series(1, 100000) t(n)").fetchall() == [(100_000 * 100_001.0,)]


def test_a_function_that_gives_vectors(db):
    db.create_function("embed", lambda s: [len(s), s.count("a"), 1.0], ["VARCHAR"], "VECTOR(3)")
    relation = db.sql("SELECT embed('banana') AS v, embed('banana') <-> [6, 3, 1] AS d")
    assert relation.types[0] == "VECTOR(3)" and relation.fetchall() == [([6, 3, 1], 0)]


def test_what_a_function_raises_reaches_the_caller(db):
    def bad(x):
        raise ValueError("no luck")

    db.create_function("bad", bad, ["BIGINT"], "BIGINT")
    with pytest.raises(triune.Error, match="bad: ValueError: no luck"):
        db.sql("SELECT bad(n) FROM generate_series(1, 3) t(n)").fetchall()
    db.create_function("short", lambda x: x[:1], ["BIGINT"], "BIGINT", type="numpy")
    with pytest.raises(triune.Error, match="1 values for 3 rows"):
        db.sql("SELECT short(n) FROM generate_series(1, 3) t(n)").fetchall()
    with pytest.raises(triune.InterfaceError, match="return type"):
        db.create_function("untyped", lambda x: x)


def test_a_function_may_ask_the_database(db):
    db.execute("CREATE TABLE t AS SELECT 5 AS a")
    other = db.cursor()
    db.create_function("ask", lambda x: other.execute("SELECT a + $1 FROM t", [x]).fetchone()[0], ["BIGINT"], "BIGINT")
    assert db.sql("SELECT ask(1)").fetchall() == [(6,)]


def test_table_functions(db):
    db.create_table_function("frame", lambda n, s: pd.DataFrame({"i": range(n), "s": s}))
    assert db.sql("SELECT count(*), max(s) FROM frame(5, 'x')").fetchall() == [(5, "x")]
    assert db.table_function("frame", [2, "it's"]).fetchall() == [(0, "it's"), (1, "it's")]


# ── notebooks ───────────────────────────────────────────────────────────────


def test_html_is_escaped_and_short(db):
    html = db.sql("SELECT '<script>' AS \"<b>\", CAST([0.25, 0.5, 1, 2] AS VECTOR(4)) AS v, NULL AS n")._repr_html_()
    assert "<script>" not in html and "&lt;script&gt;" in html and "&lt;b&gt;" in html and "[0.25, 0.5, 1, … 4]" in html and "vector(4)" in html
    assert "first 20 rows" in db.sql("SELECT * FROM generate_series(1, 100) t(n)")._repr_html_()


def test_magics():
    from IPython.core.interactiveshell import InteractiveShell

    from triune import magic

    shell = InteractiveShell.instance()
    magic._STATE.clear()
    shell.run_line_magic("load_ext", "triune")
    assert shell.run_line_magic("sql", "SELECT 1 AS a").fetchall() == [(1,)]
    shell.user_ns["least"] = 2
    assert shell.run_cell_magic("sql", "found --df", "CREATE TABLE t AS SELECT 1 AS a;\nINSERT INTO t VALUES (3);\nSELECT a FROM t WHERE a > $least") is None
    assert shell.user_ns["found"]["a"].tolist() == [3]
    shell.user_ns["mine"] = pd.DataFrame({"z": [1, 2]})
    result = shell.run_cell("rows = %sql SELECT sum(z) FROM mine")
    assert result.success, result.error_in_exec
    assert shell.user_ns["rows"].fetchall() == [(3,)]
    with pytest.raises(NameError, match="nothere"):
        shell.run_line_magic("sql", "SELECT $nothere")


def test_plots(db):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    ax = db.sql("SELECT to_timestamp_seconds(n * 3600) AS hour, n * n AS y FROM generate_series(1, 10) t(n)").plot()
    assert len(ax.lines) == 1 and ax.get_xlabel() == "hour" and ax.lines[0].get_ydata()[-1] == 100
    db.write("p", {"v": np.random.default_rng(0).random((10, 5), dtype=np.float32), "g": ["a", "b"] * 5}, mode="create")
    with pytest.raises(ValueError, match="5 dimensions"):
        db.table("p").plot()
    assert len(db.table("p").plot(project=True, color="g").collections) == 2


def test_torch(db):
    torch = pytest.importorskip("torch")
    db.write("p", {"id": np.arange(10), "v": np.ones((10, 3), "f4")}, mode="create")
    batches = list(db.table("p").to_torch(batch_size=4, shuffle=True, seed=1))
    assert [len(b["id"]) for b in batches] == [4, 4, 2] and batches[0]["v"].shape == (4, 3)
    assert sorted(torch.cat([b["id"] for b in batches]).tolist()) == list(range(10))


# ── documentation ───────────────────────────────────────────────────────────


def modules():
    folder = pathlib.Path(triune.__file__).parent
    return ["triune"] + ["triune." + m.name for m in pkgutil.iter_modules([str(folder)]) if m.name != "_triune"]


@pytest.mark.parametrize("name", modules())
def test_examples(name):
    failed, _ = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert failed == 0


def test_public_methods_are_documented():
    for kind in (triune.Connection, triune.Relation, triune.Table):
        for name in dir(kind):
            if not name.startswith("_"):
                assert getattr(kind, name).__doc__, f"{kind.__name__}.{name}"
