"""flightsql-dbapi by SQLAlchemy, which Superset uses."""
import sys

import flightsql.sqlalchemy  # registers the dialect
from sqlalchemy import create_engine, inspect, text

engine = create_engine(f"datafusion+flightsql://{sys.argv[1]}?insecure=True")
with engine.connect() as con:
    con.execute(text("CREATE TABLE t (id BIGINT PRIMARY KEY, name TEXT)"))
    con.execute(text("INSERT INTO t VALUES (1, 'a'), (2, 'b')"))
    assert [tuple(r) for r in con.execute(text("SELECT id, name FROM t ORDER BY id"))] == [(1, "a"), (2, "b")]
    names = [c["name"] for c in inspect(engine).get_columns("t", schema="public")]
    assert names == ["id", "name"], names
    assert "t" in inspect(engine).get_table_names(schema="public")
    assert "public" in inspect(engine).get_schema_names()
print("ok")
