"""DB-API 2.0, after the compliance suite of PEP 249's authors; and SQLAlchemy."""

import datetime as dt
import threading

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

from triune import dbapi
from triune.sqlalchemy import Vector


@pytest.fixture
def con():
    connection = dbapi.connect()
    yield connection
    try:
        connection.close()
    except dbapi.Error:
        pass


DRINKS = ["Carlton Cold", "Carlton Draft", "Mountain Goat", "Redback", "Victoria Bitter", "XXXX"]


@pytest.fixture
def booze(con):
    cur = con.cursor()
    cur.execute("CREATE TABLE booze (name VARCHAR(20))")
    cur.executemany("INSERT INTO booze VALUES (?)", [(d,) for d in DRINKS])
    return con


def test_the_modules_names():
    assert dbapi.apilevel == "2.0" and dbapi.threadsafety in (0, 1, 2, 3) and dbapi.paramstyle == "qmark"
    for name in ("Warning", "Error"):
        assert issubclass(getattr(dbapi, name), Exception)
    for name, base in [("InterfaceError", "Error"), ("DatabaseError", "Error")] + [
        (n, "DatabaseError") for n in ("DataError", "OperationalError", "IntegrityError", "InternalError", "ProgrammingError", "NotSupportedError")
    ]:
        assert issubclass(getattr(dbapi, name), getattr(dbapi, base))
        assert getattr(dbapi.Connection, name) is getattr(dbapi, name)


def test_commit_and_rollback(booze):
    booze.commit()
    cur = booze.cursor()
    cur.execute("DELETE FROM booze")
    assert cur.rowcount == len(DRINKS)
    booze.rollback()
    assert cur.execute("SELECT count(*) FROM booze").fetchone() == (len(DRINKS),)
    booze.rollback()


def test_cursors_share_the_transaction(booze):
    assert booze.cursor().execute("SELECT count(*) FROM booze").fetchall() == [(len(DRINKS),)]


def test_description(booze):
    cur = booze.cursor()
    assert cur.execute("DELETE FROM booze WHERE name = 'no'").description is None
    cur.execute("SELECT name FROM booze")
    assert len(cur.description) == 1 and len(cur.description[0]) == 7
    assert cur.description[0][0] == "name" and cur.description[0][1] == dbapi.STRING and cur.description[0][1] != dbapi.NUMBER
    cur.execute("SELECT 1, 1.5, DATE '2024-01-01', CAST('x' AS BYTEA), TRUE")
    kinds = [d[1] for d in cur.description]
    assert [kinds[0] == dbapi.NUMBER, kinds[1] == dbapi.NUMBER, kinds[2] == dbapi.DATETIME, kinds[3] == dbapi.BINARY] == [True] * 4


def test_rowcount(con):
    cur = con.cursor()
    cur.execute("CREATE TABLE t (a INT)")
    assert cur.rowcount == -1
    cur.execute("INSERT INTO t VALUES (1), (2)")
    assert cur.rowcount == 2
    cur.execute("SELECT * FROM t")
    assert cur.rowcount in (-1, 2)
    cur.executemany("INSERT INTO t VALUES (?)", [(3,), (4,), (5,)])
    assert cur.rowcount == 3


def test_fetching(booze):
    cur = booze.cursor()
    with pytest.raises(dbapi.Error):
        cur.fetchone()
    cur.execute("DELETE FROM booze WHERE name = 'x'")
    for fetch in (cur.fetchone, cur.fetchmany, cur.fetchall):
        with pytest.raises(dbapi.Error):
            fetch()
    cur.execute("SELECT name FROM booze ORDER BY name")
    assert cur.fetchmany() == [(DRINKS[0],)] and cur.fetchmany(2) == [(d,) for d in DRINKS[1:3]]
    cur.arraysize = 10
    assert cur.fetchmany() == [(d,) for d in DRINKS[3:]] and cur.fetchmany() == [] and cur.fetchone() is None and cur.fetchall() == []
    assert [row[0] for row in cur.execute("SELECT name FROM booze ORDER BY name")] == DRINKS
    assert cur.execute("SELECT name FROM booze WHERE name IN (?, ?) ORDER BY 1", DRINKS[:2]).fetchall() == [(d,) for d in DRINKS[:2]]


def test_closing():
    con = dbapi.connect()
    cur = con.cursor()
    cur.close()
    with pytest.raises(dbapi.Error):
        cur.execute("SELECT 1")
    cur = con.cursor()
    con.close()
    for call in (lambda: cur.execute("SELECT 1"), con.commit, con.rollback, con.cursor, con.close):
        with pytest.raises(dbapi.Error):
            call()


def test_what_is_optional(con):
    cur = con.cursor()
    cur.setinputsizes((25,))
    cur.setoutputsize(1000)
    assert cur.nextset() is None
    with pytest.raises(dbapi.NotSupportedError):
        cur.callproc("p")


def test_constructors(con):
    assert dbapi.Date(2002, 12, 25) == dt.date(2002, 12, 25)
    assert dbapi.Timestamp(2002, 12, 25, 13, 45, 30) == dt.datetime(2002, 12, 25, 13, 45, 30)
    ticks = dt.datetime(2002, 12, 25, 13, 45, 30).timestamp()
    assert dbapi.DateFromTicks(ticks) == dt.date(2002, 12, 25) and dbapi.TimeFromTicks(ticks) == dt.time(13, 45, 30)
    assert dbapi.TimestampFromTicks(ticks) == dt.datetime(2002, 12, 25, 13, 45, 30)
    row = con.cursor().execute("SELECT ?, ?, ?", (dbapi.Date(2002, 1, 2), dbapi.Binary(b"x"), dbapi.Time(1, 2, 3))).fetchone()
    assert row == (dt.date(2002, 1, 2), b"x", dt.time(1, 2, 3))


def test_autocommit(tmp_path):
    con = dbapi.connect(tmp_path / "db", autocommit=True)
    con.cursor().execute("CREATE TABLE t (a INT)")
    con.execute("INSERT INTO t VALUES (1)")
    con.rollback()
    assert con.execute("SELECT * FROM t").fetchall() == [(1,)]
    con.close()
    with dbapi.connect(tmp_path / "db") as con:
        con.execute("INSERT INTO t VALUES (2)")
    with dbapi.connect(tmp_path / "db") as con:
        assert con.execute("SELECT count(*) FROM t").fetchone() == (2,)


# ── SQLAlchemy ──────────────────────────────────────────────────────────────


@pytest.fixture
def engine(tmp_path):
    made = sa.create_engine(f"triune:///{tmp_path / 'db'}")
    yield made
    made.dispose()


def test_tables_are_made_and_reflected(engine):
    meta = sa.MetaData()
    docs = sa.Table(
        "docs", meta, sa.Column("id", sa.BigInteger, primary_key=True), sa.Column("title", sa.String(50), nullable=False),
        sa.Column("score", sa.Numeric(10, 2)), sa.Column("at", sa.DateTime(timezone=True)), sa.Column("ok", sa.Boolean), sa.Column("v", Vector(3)),
    )
    meta.create_all(engine)
    inspector = sa.inspect(engine)
    assert inspector.get_table_names() == ["docs"] and inspector.has_table("docs") and not inspector.has_table("nope")
    assert inspector.get_pk_constraint("docs")["constrained_columns"] == ["id"]
    with engine.begin() as con:
        done = con.execute(docs.insert().returning(docs.c.id), [{"title": "a", "ok": None, "v": [1, 2, 3]}, {"title": "b", "ok": True, "v": [0, 0, 1]}])
        assert sorted(done.scalars()) == [1, 2]
        con.execute(docs.update().where(docs.c.title == "a").values(ok=False))
    again = sa.Table("docs", sa.MetaData(), autoload_with=engine)
    assert isinstance(again.c.v.type, Vector) and again.c.v.type.dims == 3 and not again.c.title.nullable
    assert isinstance(again.c.score.type, sa.Numeric) and again.c["at"].type.timezone
    with engine.connect() as con:
        rows = con.execute(sa.select(again.c.id, again.c.title, again.c.ok, again.c.v).order_by(again.c.id).limit(1).offset(1)).all()
        assert rows == [(2, "b", True, [0, 0, 1])]
        assert con.execute(sa.select(sa.func.count()).select_from(again).where(again.c.title.in_(["a", "b"]))).scalar() == 2
    meta.drop_all(engine)
    assert not sa.inspect(engine).has_table("docs")


def test_a_transaction_that_fails_leaves_nothing(engine):
    with engine.begin() as con:
        con.execute(sa.text("CREATE TABLE t (a INT PRIMARY KEY)"))
    with pytest.raises(sa.exc.IntegrityError), engine.begin() as con:
        con.execute(sa.text("INSERT INTO t VALUES (1)"))
        con.execute(sa.text("INSERT INTO t VALUES (1)"))
    with engine.connect() as con:
        assert con.execute(sa.text("SELECT count(*) FROM t")).scalar() == 0


def test_orm(engine):
    from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

    class Base(DeclarativeBase):
        pass

    class User(Base):
        __tablename__ = "users"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all([User(name="a"), User(name="b")])
        session.commit()
        user = session.scalars(sa.select(User).where(User.name == "b")).one()
        user.name = "c"
        session.commit()
        assert session.scalars(sa.select(User.name).order_by(User.id)).all() == ["a", "c"]


def test_pandas_reads_and_writes(engine):
    frame = pd.DataFrame({"a": [1, 2, 3], "b": ["x", None, "z"], "t": pd.date_range("2024-01-01", periods=3), "f": np.array([0.5, 1.5, 2.5])})
    assert frame.to_sql("t", engine, index=False) == 3
    back = pd.read_sql("SELECT * FROM t ORDER BY a", engine)
    assert back["a"].tolist() == [1, 2, 3] and back["b"].isna().tolist() == [False, True, False] and back["t"].tolist() == frame["t"].tolist()
    frame.to_sql("t", engine, index=False, if_exists="append")
    assert pd.read_sql_query(sa.text("SELECT count(*) AS n FROM t WHERE a > :least"), engine, params={"least": 1})["n"].tolist() == [4]
    frame.to_sql("t", engine, index=False, if_exists="replace")
    assert len(pd.read_sql_table("t", engine)) == 3


def test_an_engines_connections_share_a_database(engine):
    with engine.begin() as con:
        con.execute(sa.text("CREATE TABLE t (a INT)"))
    failures = []

    def work(i):
        try:
            with engine.begin() as con:
                con.execute(sa.text("INSERT INTO t VALUES (:a)"), {"a": i})
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not failures
    with engine.connect() as con:
        assert con.execute(sa.text("SELECT sum(a) FROM t")).scalar() == 28


