"""DuckDB's side of `triune-bench compare`: statements come in on standard input, answers go out.

    {"sql": "SELECT 1"}\n   ->   {"ms": 0.2, "rows": [[1]]}\n   or   {"error": "..."}\n

The first argument is the database file, the second the number of threads. The first line that is written tells
DuckDB's version. A time is that of `execute` and `fetchall` together, taken here, so that the pipe does not count;
times of day come back as microseconds since 1970.
"""

import datetime
import json
import sys
import time

import duckdb

EPOCH = datetime.datetime(1970, 1, 1)


def plain(value):
    if isinstance(value, datetime.datetime):
        return (value - EPOCH) // datetime.timedelta(microseconds=1)
    return value


def main():
    path, threads = sys.argv[1], int(sys.argv[2])
    connection = duckdb.connect(path, config={"threads": threads})
    print(json.dumps({"version": duckdb.__version__}), flush=True)
    for line in sys.stdin:
        sql = json.loads(line)["sql"]
        try:
            start = time.perf_counter()
            rows = connection.execute(sql).fetchall()
            ms = (time.perf_counter() - start) * 1e3
            answer = {"ms": ms, "rows": [[plain(value) for value in row] for row in rows]}
        except duckdb.Error as e:
            answer = {"error": str(e)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
