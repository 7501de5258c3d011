"""The ADBC Flight SQL driver, by its DB-API, as people use it."""
import sys

import adbc_driver_flightsql.dbapi as flight
import adbc_driver_manager
import pyarrow as pa

address, login = sys.argv[1], sys.argv[2:]
options = {"username": login[0], "password": login[1]} if login else {}


def connect(**more):
    return flight.connect("grpc://" + address, db_kwargs=options, **more)


with connect() as con, con.cursor() as cur:
    cur.execute("SELECT 1 AS one, 'x' AS text, NULL AS nothing")
    assert cur.fetchall() == [(1, "x", None)]
    assert [d[0] for d in cur.description] == ["one", "text", "nothing"]

# Transactions are the default: nothing is seen before the commit.
with connect(autocommit=True) as auto, auto.cursor() as ddl:
    ddl.execute("CREATE TABLE t (id BIGINT PRIMARY KEY, name TEXT, x DOUBLE)")
    with connect() as con, con.cursor() as cur:
        cur.execute("INSERT INTO t VALUES (?, ?, ?)", (1, "a", 0.5))
        ddl.execute("SELECT count(*) FROM t")
        assert ddl.fetchone() == (0,)
        con.commit()
        ddl.execute("SELECT count(*) FROM t")
        assert ddl.fetchone() == (1,)
        cur.executemany("INSERT INTO t VALUES (?, ?, ?)", [(2, "b", 1.5), (3, None, None)])
        con.rollback()
        cur.executemany("INSERT INTO t VALUES (?, ?, ?)", [(4, "d", 4.0), (5, "e", 5.0)])
        con.commit()
    ddl.execute("SELECT id, name FROM t WHERE id >= ? ORDER BY id", (2,))
    assert ddl.fetchall() == [(4, "d"), (5, "e")]

    # Bulk ingest.
    table = pa.table({"id": [10, 11, 12], "name": ["x", "y", None], "x": [1.0, None, 3.0]})
    assert ddl.adbc_ingest("t", table, mode="append") == 3
    assert ddl.adbc_ingest("made", table, mode="create") == 3
    assert ddl.adbc_ingest("made", table.slice(0, 1), mode="replace") == 1
    ddl.execute("SELECT * FROM made")
    assert ddl.fetch_arrow_table().num_rows == 1

    # The catalog.
    objects = auto.adbc_get_objects(depth="all").read_all().to_pylist()
    [catalog] = [c for c in objects if c["catalog_name"] == "triune"]
    [public] = [s for s in catalog["catalog_db_schemas"] if s["db_schema_name"] == "public"]
    [found] = [x for x in public["db_schema_tables"] if x["table_name"] == "t"]
    assert [c["column_name"] for c in found["table_columns"]] == ["id", "name", "x"]
    assert auto.adbc_get_table_schema("t").names == ["id", "name", "x"]
    info = auto.adbc_get_info()
    assert info["vendor_name"] == "Triune", info
    assert "TABLE" in auto.adbc_get_table_types()

    # Errors say what they are.
    for sql, state in [("SELEC", "42601"), ("SELECT * FROM nowhere", "42P01"), ("INSERT INTO t VALUES (1, 'z', 0)", "23000")]:
        try:
            ddl.execute(sql)
            ddl.fetchall()
        except adbc_driver_manager.Error as error:
            assert state in str(error), error
        else:
            raise AssertionError(sql)

# Two transactions that change one row: the driver's own exception has the SQLSTATE to retry by.
with connect() as one, connect() as two, one.cursor() as first, two.cursor() as second:
    first.execute("UPDATE t SET x = 1 WHERE id = 1")
    second.execute("UPDATE t SET x = 2 WHERE id = 1")
    one.commit()
    try:
        two.commit()
    except adbc_driver_manager.Error as error:
        assert "40001" in str(error), error
    else:
        raise AssertionError("both have committed")

# Large results as they come.
with connect() as con, con.cursor() as cur:
    cur.execute("SELECT x, x * 2 AS y FROM range(1000000) AS t(x)")
    rows = sum(batch.num_rows for batch in cur.fetch_record_batch())
    assert rows == 1000000, rows
    # Vectors come as they are, and as a text for whoever cannot read lists.
    cur.execute("SELECT CAST([1, 2.5, 3] AS VECTOR(3)) AS v, CAST(CAST([1, 2.5, 3] AS VECTOR(3)) AS TEXT) AS t")
    [(v, t)] = cur.fetchall()
    assert list(v) == [1, 2.5, 3] and "2.5" in t, (v, t)

# The driver's time limit.
with connect() as con, con.cursor() as cur:
    cur.adbc_statement.set_options(**{"adbc.flight.sql.rpc.timeout_seconds.query": "0.3", "adbc.flight.sql.rpc.timeout_seconds.fetch": "0.3"})
    try:
        cur.execute("SELECT count(*) FROM range(10000000) AS a(x), range(10000000) AS b(y) WHERE x * y % 7 = 3")
        cur.fetchall()
    except adbc_driver_manager.Error as error:
        assert "TIMEOUT" in str(error).upper() or "DEADLINE" in str(error).upper(), error
    else:
        raise AssertionError("no end was expected")
print("ok")
