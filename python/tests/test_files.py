"""Files of rows, and many statements in a row."""

import datetime
import os
import sys

import pytest

import triune


def test_csv(db, tmp_path):
    path = tmp_path / "it's a file.csv"
    path.write_text("id,name,at\n1,x,2024-01-01\n2,,2024-01-02\n")
    expected = [(1, "x", datetime.date(2024, 1, 1)), (2, None, datetime.date(2024, 1, 2))]
    assert db.read_csv(path).fetchall() == expected
    assert db.read_csv([str(path), str(path)]).order("id").fetchall() == [expected[0]] * 2 + [expected[1]] * 2
    assert db.read_csv(path).types == ["BIGINT", "VARCHAR", "DATE"]
    other = tmp_path / "other.txt"
    other.write_text("1;a\n2;b\n")
    assert db.read_csv(other, delimiter=";", has_header=False).fetchall() == [(1, "a"), (2, "b")]


def test_json(db, tmp_path):
    path = tmp_path / "rows.json"
    path.write_text('{"id": 1, "t": {"a": [1, 2]}}\n{"id": 2, "t": null}\n')
    assert db.read_json(path).order("id").fetchall() == [(1, {"a": [1, 2]}), (2, None)]
    assert db.read_json(path).filter("t IS NOT NULL").project("t['a'][2] AS x").fetchall() == [(2,)]


def test_what_there_is_not_is_said(db, tmp_path):
    with pytest.raises(triune.Error, match=r'none\.csv" does not exist'):
        db.read_csv(tmp_path / "none.csv").fetchall()
    (tmp_path / "a.csv").write_text("a\n1\n")
    with pytest.raises(triune.Error, match="option nonsense is unknown for csv files; csv files take header, delim"):
        db.read_csv(tmp_path / "a.csv", nonsense=1)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_ten_thousand_queries_leave_memory_as_it_was(db):
    page = os.sysconf("SC_PAGE_SIZE")

    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * page

    def ask(times):
        for i in range(times):
            assert db.execute("SELECT $x AS a, repeat('x', 2000) AS b", x=i).fetchone()[0] == i

    ask(1000)
    before = resident()
    ask(10_000)
    # Rows of 2 kB, which are 20 MB where each query kept its own.
    assert resident() - before < 10 << 20
