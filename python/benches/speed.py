"""How fast the package is, on this machine and this build.

    python python/benches/speed.py [--rows 10000000] [--vectors 1000000]

Each line is the best of several runs; reading frames says the first run too, since later ones find the rows in memory.
duckdb is measured beside it where it is installed: the same rows of the same types, after a CHECKPOINT in both.
"""

import argparse
import tempfile
import time

import numpy as np

import triune

WIDTH = 384


def best(run, times=3):
    taken = []
    for _ in range(times):
        begin = time.perf_counter()
        run()
        taken.append(time.perf_counter() - begin)
    return min(taken)


def each(run, count):
    """Microseconds of one of ``count`` runs."""

    def many():
        for _ in range(count):
            run()

    return best(many) / count * 1e6


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--rows", type=int, default=10_000_000)
    options.add_argument("--vectors", type=int, default=1_000_000)
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as folder, triune.connect(folder + "/db", progress=False) as db:
        print(f"triune {triune.__version__}")
        print(f"sql('SELECT 1').fetchall()          {each(lambda: db.sql('SELECT 1').fetchall(), 300):10.0f} µs")
        print(f"execute('SELECT 1').fetchall()      {each(lambda: db.execute('SELECT 1').fetchall(), 300):10.0f} µs")

        vectors = np.random.default_rng(0).random((asked.vectors, WIDTH), dtype=np.float32)
        ids = np.arange(asked.vectors)
        taken = best(lambda: db.write("docs", {"id": ids, "v": vectors}, mode="replace"), 1)
        print(f"write {asked.vectors} × {WIDTH} float32       {vectors.nbytes / taken / 1e9:10.2f} GB/s")
        del vectors

        db.write("few", {"id": ids[:1000], "v": np.random.default_rng(1).random((1000, WIDTH), dtype=np.float32)}, mode="create")
        query = np.ones(WIDTH, dtype=np.float32)
        table = db.table("few")
        whole = each(lambda: table.search(query, "v").select("id").limit(10).fetchall(), 100)
        text = table.search(query, "v").select("id").limit(10)
        engine = each(lambda: db._session.execute(text._sql, text._params).fetch(), 100)
        print(f"top 10 of 1000: search builder      {whole:10.0f} µs, the statement alone {engine:.0f} µs")

        sql = f"SELECT i AS id, CAST(i AS DOUBLE) / 2 AS x, i % 100 AS g FROM generate_series(1, {asked.rows}) AS t(i)"
        db.execute(f"CREATE TABLE numbers AS {sql}")
        frames = {"triune": db}
        try:
            import duckdb

            frames["duckdb"] = duckdb.connect(folder + "/duck.db")
            frames["duckdb"].execute(f"CREATE TABLE numbers AS {sql}")
        except ImportError:
            pass
        for connection in frames.values():
            connection.execute("CHECKPOINT")
        for kind in ("df", "pl"):
            for name, connection in frames.items():

                def read():
                    return getattr(connection.sql("SELECT * FROM numbers"), kind)()

                first, taken, frame = best(read, 1), best(read), read()
                assert len(frame) == asked.rows and int(frame["id"].sum()) == asked.rows * (asked.rows + 1) // 2
                print(f"{asked.rows} rows × 3 to {kind:2}, {name:6} {taken:10.3f} s (first {first:.3f} s)"
                      f"   {', '.join(str(t) for t in frame.dtypes)}")


main()
