"""Relations: their methods, and a parity list: the same calls on DuckDB give the same results."""

import math

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pytest

import triune

FRAME = pd.DataFrame({"g": ["a", "b", "a", None, "b"], "x": [1, 2, 3, 4, 5], "y": [0.5, None, 1.5, 2.5, -1.0], "b": [True, False, True, True, False]})


@pytest.fixture(scope="module", params=["triune", "duckdb"])
def lib(request):
    return {"triune": triune, "duckdb": duckdb}[request.param]


def norm(value):
    if isinstance(value, (list, tuple)):
        return [norm(v) for v in value]
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, (np.floating, float)):
        return round(float(value), 9)
    if isinstance(value, np.generic):
        return value.item()
    return value


def frame_rows(frame):
    return [[None if v is None or v is pd.NA or v is pd.NaT or (isinstance(v, float) and math.isnan(v)) else v for v in row] for row in frame.itertuples(index=False)]


# Calls that both libraries have; what they give must be the same. `r` is a relation of FRAME, `c` a connection.
PARITY = {
    "fetchall": lambda c, r: r.order("x").fetchall(),
    "fetchone": lambda c, r: [c.execute("SELECT x FROM FRAME ORDER BY x").fetchone()],
    "fetchmany": lambda c, r: c.execute("SELECT x FROM FRAME ORDER BY x").fetchmany(2),
    "filter": lambda c, r: r.filter("x > 2").order("x").fetchall(),
    "project": lambda c, r: r.project("x + 1 AS z, g").order("z").fetchall(),
    "select": lambda c, r: r.select("x").order("x").fetchall(),
    "aggregate": lambda c, r: r.aggregate("sum(x), avg(y), count(*)").fetchall(),
    "aggregate groups": lambda c, r: r.aggregate("g, sum(x) AS s", "g").order("g").fetchall(),
    "order": lambda c, r: r.order("y DESC NULLS LAST, x").fetchall(),
    "sort": lambda c, r: r.sort("b", "x").fetchall(),
    "limit": lambda c, r: r.order("x").limit(2).fetchall(),
    "limit of a descending order": lambda c, r: r.order("x DESC").limit(2).fetchall(),
    "limit of an ordered query": lambda c, r: c.sql("SELECT x FROM FRAME ORDER BY x DESC").limit(2, 1).fetchall(),
    "order, then filter": lambda c, r: r.order("x DESC").filter("x < 5").limit(2).fetchall(),
    "order, then project": lambda c, r: r.order("x DESC").project("g").fetchall(),
    "order, limit, project": lambda c, r: r.order("y DESC NULLS LAST, x").limit(3).project("x").fetchall(),
    "order, project, limit": lambda c, r: r.order("x DESC").project("g").limit(2).fetchall(),
    "limit offset": lambda c, r: r.order("x").limit(2, 1).fetchall(),
    "distinct": lambda c, r: r.project("g").distinct().order("g").fetchall(),
    "unique": lambda c, r: r.unique("b").order("b").fetchall(),
    "union": lambda c, r: r.project("x").union(r.project("x")).order("x").fetchall(),
    "except_": lambda c, r: r.project("x").except_(r.filter("x < 3").project("x")).order("x").fetchall(),
    "intersect": lambda c, r: r.project("x").intersect(r.filter("x < 3").project("x")).order("x").fetchall(),
    "join using": lambda c, r: r.project("x, g").set_alias("l").join(r.project("x, y").set_alias("r"), "x").order("x").fetchall(),
    "join on": lambda c, r: r.project("x, g").set_alias("l").join(r.project("x AS z, y").set_alias("r"), "l.x = r.z", how="left").order("x").fetchall(),
    "cross": lambda c, r: r.project("x").set_alias("l").cross(r.project("g").limit(0).set_alias("r")).fetchall(),
    "sum": lambda c, r: r.sum("x").fetchall(),
    "mean": lambda c, r: r.mean("x").fetchall(),
    "min": lambda c, r: r.min("x").fetchall(),
    "max": lambda c, r: r.max("x").fetchall(),
    "count": lambda c, r: r.count("y").fetchall(),
    "median": lambda c, r: r.filter("x < 4").median("x").fetchall(),
    "sum groups": lambda c, r: r.sum("x", groups="g", projected_columns="g").order("g").fetchall(),
    "bool_and": lambda c, r: r.bool_and("b").fetchall(),
    "columns": lambda c, r: r.columns,
    "shape": lambda c, r: list(r.shape),
    "len": lambda c, r: [len(r)],
    "types": lambda c, r: [str(t) for t in r.select("x, y, g, b").types],
    "description": lambda c, r: [d[0] for d in r.description],
    "alias": lambda c, r: [r.set_alias("q").alias],
    "getitem": lambda c, r: r["x"].order("x").fetchall(),
    "getattr": lambda c, r: r.x.order("x").fetchall(),
    "contains": lambda c, r: ["x" in r, "nope" in r],
    "query": lambda c, r: r.query("v", "SELECT count(*) FROM v").fetchall(),
    "df": lambda c, r: frame_rows(r.order("x").df()),
    "to_df": lambda c, r: frame_rows(r.order("x").to_df()),
    "fetchdf": lambda c, r: frame_rows(r.order("x").fetchdf()),
    "pl": lambda c, r: r.order("x").pl().rows(),
    "pl lazy": lambda c, r: r.order("x").pl(lazy=True).collect().rows(),
    "to_arrow_table": lambda c, r: r.order("x").to_arrow_table().to_pylist(),
    "to_arrow_reader": lambda c, r: r.order("x").to_arrow_reader().read_all().to_pylist(),
    "fetchnumpy": lambda c, r: [np.ma.asarray(v).tolist() for v in r.select("x, b").order("x").fetchnumpy().values()],
    "arrow c stream": lambda c, r: pl.DataFrame(r.order("x")).rows(),
    "create": lambda c, r: (r.create("made"), c.table("made").order("x").fetchall())[1],
    "to_table": lambda c, r: (r.to_table("made2"), c.table("made2").order("x").fetchall())[1],
    "insert_into": lambda c, r: (r.limit(0).create("into_t"), r.insert_into("into_t"), c.table("into_t").order("x").fetchall())[2],
    "insert": lambda c, r: (c.execute("CREATE TABLE ins (a INT, b VARCHAR)"), c.table("ins").insert([1, "x"]), c.table("ins").fetchall())[2],
    "create_view": lambda c, r: (c.execute("CREATE TABLE base (a INT)"), c.table("base").filter("a > 1").create_view("seen"), c.view("seen").columns)[2],
    "execute": lambda c, r: c.execute("SELECT 1, 'a'").fetchall(),
    "execute list": lambda c, r: c.execute("SELECT ? + 1, ?", [1, "b"]).fetchall(),
    "execute dict": lambda c, r: c.execute("SELECT $a + 1", {"a": 1}).fetchall(),
    "execute numbered": lambda c, r: c.execute("SELECT $2, $1", [1, "b"]).fetchall(),
    "executemany": lambda c, r: (c.execute("CREATE TABLE many (a INT)"), c.executemany("INSERT INTO many VALUES (?)", [[1], [2]]), c.sql("SELECT sum(a) FROM many").fetchall())[2],
    "sql params": lambda c, r: c.sql("SELECT $1 + 1 AS z", params=[1]).fetchall(),
    "two statements": lambda c, r: c.execute("SELECT 1; SELECT 2").fetchall(),
    "connection df": lambda c, r: frame_rows(c.execute("SELECT 1 AS a").df()),
    "connection fetchnumpy": lambda c, r: c.execute("SELECT 1 AS a").fetchnumpy()["a"].tolist(),
    "connection description": lambda c, r: [d[0] for d in c.execute("SELECT 1 AS a").description],
    "cursor": lambda c, r: (c.execute("CREATE TABLE cur (a INT)"), c.cursor().execute("SELECT count(*) FROM cur").fetchall())[1],
    "begin commit": lambda c, r: (c.execute("CREATE TABLE tx (a INT)"), c.begin(), c.execute("INSERT INTO tx VALUES (1)"), c.commit(), c.table("tx").fetchall())[4],
    "rollback": lambda c, r: (c.execute("CREATE TABLE rb (a INT)"), c.begin(), c.execute("INSERT INTO rb VALUES (1)"), c.rollback(), c.table("rb").fetchall())[4],
    "register": lambda c, r: (c.register("reg", FRAME), c.sql("SELECT sum(x) FROM reg").fetchall(), c.unregister("reg"))[1],
    "append": lambda c, r: (c.execute("CREATE TABLE app (a BIGINT)"), c.append("app", pd.DataFrame({"a": [1, 2]})), c.table("app").order("a").fetchall())[2],
    "values": lambda c, r: c.values([1, "a"]).fetchall(),
    "replacement scan": lambda c, r: c.sql("SELECT count(*) FROM FRAME").fetchall(),
    "function": lambda c, r: (c.create_function("plus1", lambda x: x + 1, ["BIGINT"], "BIGINT"), c.sql("SELECT plus1(x) FROM FRAME ORDER BY 1").fetchall())[1],
    "function nulls": lambda c, r: (c.create_function("up", lambda s: s.upper(), ["VARCHAR"], "VARCHAR"), c.sql("SELECT up(g) FROM FRAME ORDER BY x").fetchall())[1],
    "parquet": lambda c, r: (r.order("x").to_parquet("parity.parquet"), c.read_parquet("parity.parquet").order("x").fetchall())[1],
    "csv": lambda c, r: (r.select("x").order("x").to_csv("parity.csv"), c.read_csv("parity.csv").order("x").fetchall())[1],
}


def run(lib, call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with lib.connect() as connection:
        return norm(call(connection, connection.from_df(FRAME)))


@pytest.mark.parametrize("name", PARITY)
def test_parity_with_duckdb(name, tmp_path, monkeypatch):
    expected = run(duckdb, PARITY[name], tmp_path, monkeypatch)
    assert run(triune, PARITY[name], tmp_path, monkeypatch) == expected


def test_nothing_runs_before_rows_are_asked_for(db):
    calls = []
    db.create_function("seen", lambda x: calls.append(x) or x, ["BIGINT"], "BIGINT", side_effects=True)
    relation = db.sql("SELECT seen(n) AS n FROM generate_series(1, 3) t(n)").filter("n > 1")
    assert relation.columns == ["n"] and calls == []
    assert sorted(relation.fetchall()) == [(2,), (3,)] and sorted(calls)[-1] == 3


def test_parameters_travel_with_relations(db):
    a = db.sql("SELECT $v AS x", v=1)
    b = db.sql("SELECT $v AS x", v=2)
    c = db.sql("SELECT ? AS x", [3])
    d = db.sql("SELECT $1 AS x", [4])
    assert sorted(a.union(b).union(c).union(d).filter("x > $v", v=1).fetchall()) == [(2,), (3,), (4,)]
    assert a.join(b, "unnamed_relation.x < unnamed_relation_2.x").fetchall() == [(1, 2)]


def test_names_that_need_quotes(db):
    db.execute('CREATE TABLE "Odd ""name" ("a b" INT, "select" INT)')
    table = db.table('"Odd ""name"')
    table.insert([1, 2])
    assert table["a b"].fetchall() == [(1,)] and table["select"].fetchall() == [(2,)]
    db.execute("CREATE TABLE Plain (A INT)")
    assert db.table("PLAIN").columns == ["a"]


def test_explain_describe_show(db, capsys):
    r = db.sql("SELECT * FROM generate_series(1, 30) AS t(n)")
    assert "generate_series" in r.explain().lower() or "lazymemory" in r.explain().lower()
    assert len(r.explain("analyze")) > 10
    assert r.describe().fetchall()[0][0] == "n"
    r.show()
    assert "first 20 rows" in capsys.readouterr().out
    assert "30 rows" in triune._show.table(*r._head(40))


def test_mistakes_are_told(db):
    with pytest.raises(triune.InterfaceError, match="different databases"):
        db.sql("SELECT 1 AS x").union(triune.connect().sql("SELECT 1 AS x"))
    with pytest.raises(triune.InterfaceError, match="sideways"):
        db.sql("SELECT 1 AS x").join(db.sql("SELECT 1 AS x"), "x", how="sideways")
    with pytest.raises(AttributeError, match="nope"):
        db.sql("SELECT 1 AS x").nope
    with pytest.raises(triune.ProgrammingError):
        db.table("nope")
