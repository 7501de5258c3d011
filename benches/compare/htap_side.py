"""One engine's side of `triune-bench htap`: what to do comes in on standard input, figures go out, as JSON lines.

    htap_side.py postgres|sqlite|duckdb FOLDER ROWS.parquet ROWS THREADS

    {"do": "upsert", "clients": 16, "seconds": 2}\n   ->   {"per_second": 7180.2}\n   or   {"error": "..."}\n

Every engine makes its commits durable: PostgreSQL with fsync on and synchronous_commit on, SQLite in WAL mode with
synchronous=FULL, DuckDB as it comes. Statements are prepared where the driver can. PostgreSQL's and SQLite's clients
are processes, DuckDB's are threads with a cursor each, because one process alone may open a database of its.
PostgreSQL is started here, over a socket in the folder; it does not run as root, so root starts it as "postgres".
"""

import array
import datetime
import json
import multiprocessing
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time

NOW = datetime.datetime(2026, 11, 1)
BODY = "0123456789" * 10
VECTOR = [i / 16 for i in range(16)]
BATCH = 1000


def count_until(deadline, step):
    n = 0
    while time.perf_counter() < deadline:
        n += step()
    return n


class Engine:
    """What the engines have in common: loops over `upsert`, `batch`, `read` and `aggregate` of a connection."""

    processes = True

    def __init__(self, folder, parquet, rows, threads):
        self.folder, self.parquet, self.rows, self.threads = folder, parquet, rows, threads

    def client(self):
        raise NotImplementedError

    def loop(self, what, client, deadline, seed):
        rng = random.Random(seed)
        key = lambda: rng.randrange(self.rows)
        if what == "upsert":
            return count_until(deadline, lambda: client.upsert(key()))
        if what == "batch":
            return count_until(deadline, lambda: client.batch(rng.sample(range(self.rows), BATCH)))
        return count_until(deadline, lambda: client.read(key()))

    def many(self, what, clients, seconds, meanwhile=None):
        """Operations per second of so many clients, each for itself; `meanwhile` runs beside them."""
        if clients == 1 and meanwhile is None:
            client = self.client()
            self.loop(what, client, time.perf_counter() + 0.2, 1)
            start = time.perf_counter()
            n = self.loop(what, client, start + seconds, 2)
            took = time.perf_counter() - start
            client.close()
            return n / took, None
        kind = multiprocessing.get_context("fork") if self.processes else None
        barrier = (kind or threading).Barrier(clients + 1)
        counts = kind.Array("d", clients) if kind else [0.0] * clients

        def work(i):
            client = self.client()
            barrier.wait()
            start = time.perf_counter()
            n = self.loop(what, client, start + seconds, 100 + i)
            counts[i] = n / (time.perf_counter() - start)
            client.close()

        make = kind.Process if kind else threading.Thread
        workers = [make(target=work, args=(i,)) for i in range(clients)]
        for worker in workers:
            worker.start()
        barrier.wait()
        beside = meanwhile(time.perf_counter() + seconds) if meanwhile else None
        for worker in workers:
            worker.join()
        return sum(counts), beside

    def aggregates(self, client, deadline, at_least):
        times = []
        while len(times) < at_least or time.perf_counter() < deadline:
            start = time.perf_counter()
            client.aggregate()
            times.append((time.perf_counter() - start) * 1e3)
        return sorted(times)[len(times) // 2]

    def do(self, ask):
        what = ask["do"]
        if what == "load":
            self.load()
            return {}
        if what in ("upsert", "batch", "read"):
            per_second, _ = self.many(what, ask.get("clients", 1), ask["seconds"])
            return {"per_second": per_second}
        if what == "aggregate":
            client = self.client()
            client.aggregate()
            p50 = self.aggregates(client, time.perf_counter() + ask["seconds"], 3)
            client.close()
            return {"p50_ms": p50}
        if what == "mixed":
            client = self.client()
            client.aggregate()
            beside = lambda deadline: self.aggregates(client, deadline, 1)
            per_second, p50 = self.many("upsert", ask["clients"], ask["seconds"], beside)
            client.close()
            return {"p50_ms": p50, "per_second": per_second}
        if what == "visible":
            return self.visible(ask["runs"])
        if what == "frontier":
            return self.frontier(ask["writers"], ask["analysts"], ask["seconds"])
        if what == "bulk":
            return self.bulk(ask)
        raise ValueError(f"no such work: {what}")

    def frontier(self, writers, analysts, seconds):
        """Upserts and aggregates per second of clients that do nothing else, all at the same time."""
        kind = multiprocessing.get_context("fork") if self.processes else None
        clients = writers + analysts
        barrier = (kind or threading).Barrier(clients)
        rates = kind.Array("d", clients) if kind else [0.0] * clients

        def work(i):
            client = self.client()
            barrier.wait()
            start = time.perf_counter()
            if i < writers:
                n = self.loop("upsert", client, start + seconds, 100 + i)
            else:
                # What the last aggregate takes beyond the end counts for its time too.
                n = count_until(start + seconds, lambda: client.aggregate() or 1)
            rates[i] = n / (time.perf_counter() - start)
            client.close()

        make = kind.Process if kind else threading.Thread
        workers = [make(target=work, args=(i,)) for i in range(clients)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return {"per_second": sum(rates[:writers]), "queries_per_second": sum(rates[writers:])}

    def visible(self, runs):
        """From a commit's return to when another connection has read it."""
        one, other = self.client(), self.client()
        times = []
        for i in range(runs):
            one.upsert(i, tenant=-i)
            start = time.perf_counter()
            while other.tenant(i) != -i:
                pass
            times.append((time.perf_counter() - start) * 1e3)
        one.close()
        other.close()
        return {"p50_ms": sorted(times)[len(times) // 2], "max_ms": max(times)}

    def stop(self):
        pass


class PostgresClient:
    UPSERT = (
        "INSERT INTO bench VALUES (%s, %s, %s, %s, %s) ON CONFLICT (id) DO UPDATE SET ts = excluded.ts,"
        " tenant = excluded.tenant, body = excluded.body, embedding = excluded.embedding"
    )

    def __init__(self, folder):
        import psycopg

        self.connection = psycopg.connect(host=folder, user="postgres", dbname="postgres", autocommit=True)
        self.connection.prepare_threshold = 0
        self.cursor = self.connection.cursor(binary=True)

    def upsert(self, key, tenant=7):
        self.cursor.execute(self.UPSERT, (key, NOW, tenant, BODY, VECTOR))
        return 1

    def batch(self, keys):
        with self.connection.transaction():
            self.cursor.executemany(self.UPSERT, [(key, NOW, 7, BODY, VECTOR) for key in keys])
        return 1

    def read(self, key):
        self.cursor.execute("SELECT * FROM bench WHERE id = %s", (key,))
        return len(self.cursor.fetchall())

    def tenant(self, key):
        self.cursor.execute("SELECT tenant FROM bench WHERE id = %s", (key,))
        return self.cursor.fetchone()[0]

    def aggregate(self):
        self.cursor.execute(AGGREGATE)
        self.cursor.fetchall()

    def close(self):
        self.connection.close()


AGGREGATE = "SELECT tenant, count(*), avg(length(body)), max(ts) FROM bench GROUP BY tenant"


class Postgres(Engine):
    def __init__(self, *args):
        super().__init__(*args)
        self.server = None
        home = os.path.join(self.folder, "postgres")
        shutil.rmtree(home, ignore_errors=True)
        os.makedirs(home)
        self.socket = home
        drop = []
        if os.geteuid() == 0:
            shutil.chown(home, "postgres", "postgres")
            drop = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups"]
        data = os.path.join(home, "data")
        path = os.environ["PATH"] + ":/usr/lib/postgresql/15/bin"
        environment = {"PATH": path, "LC_ALL": "C"}
        start = drop + ["initdb", "-D", data, "-A", "trust", "-U", "postgres", "--no-instructions"]
        subprocess.run(start, check=True, stdout=subprocess.DEVNULL, env=environment, cwd="/")
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": home,
            "shared_buffers": "1GB",
            "max_wal_size": "8GB",
            "fsync": "on",
            "synchronous_commit": "on",
        }
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        log = open(os.path.join(home, "log"), "wb")
        self.server = subprocess.Popen(
            drop + ["postgres", "-D", data] + options, stdout=log, stderr=log, env=environment, cwd="/"
        )
        for _ in range(200):
            try:
                PostgresClient(home).close()
                return
            except Exception:
                time.sleep(0.1)
        raise RuntimeError(f"PostgreSQL does not start, see {home}/log")

    def client(self):
        return PostgresClient(self.socket)

    def load(self):
        import duckdb

        csv = os.path.join(self.folder, "rows.csv")
        duckdb.sql(
            "COPY (SELECT id, ts, tenant, body, '{' || array_to_string(embedding, ',') || '}'"
            f" FROM '{self.parquet}') TO '{csv}' (HEADER false)"
        )
        client = self.client()
        client.cursor.execute(
            "CREATE TABLE bench (id BIGINT PRIMARY KEY, ts TIMESTAMP, tenant BIGINT, body TEXT, embedding REAL[])"
        )
        with open(csv, "rb") as rows, client.cursor.copy("COPY bench FROM STDIN (FORMAT csv)") as copy:
            while chunk := rows.read(1 << 20):
                copy.write(chunk)
        client.cursor.execute("VACUUM (FREEZE, ANALYZE) bench")
        client.cursor.execute("CHECKPOINT")
        client.close()
        os.remove(csv)

    def stop(self):
        if self.server:
            self.server.send_signal(signal.SIGINT)
            self.server.wait()


class SqliteClient:
    UPSERT = (
        "INSERT INTO bench VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET ts = excluded.ts,"
        " tenant = excluded.tenant, body = excluded.body, embedding = excluded.embedding"
    )
    BLOB = array.array("f", VECTOR).tobytes()

    def __init__(self, path):
        self.connection = sqlite3.connect(path, isolation_level=None, timeout=60, check_same_thread=False)
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "cache_size=-1000000", "mmap_size=4000000000"):
            self.connection.execute(f"PRAGMA {pragma}").fetchall()

    def upsert(self, key, tenant=7):
        self.connection.execute(self.UPSERT, (key, 1, tenant, BODY, self.BLOB))
        return 1

    def batch(self, keys):
        self.connection.execute("BEGIN IMMEDIATE")
        self.connection.executemany(self.UPSERT, [(key, 1, 7, BODY, self.BLOB) for key in keys])
        self.connection.execute("COMMIT")
        return 1

    def read(self, key):
        return len(self.connection.execute("SELECT * FROM bench WHERE id = ?", (key,)).fetchall())

    def tenant(self, key):
        return self.connection.execute("SELECT tenant FROM bench WHERE id = ?", (key,)).fetchone()[0]

    def aggregate(self):
        self.connection.execute(AGGREGATE).fetchall()

    def close(self):
        self.connection.close()


class Sqlite(Engine):
    def client(self):
        return SqliteClient(os.path.join(self.folder, "bench.sqlite"))

    def load(self):
        import duckdb

        path = os.path.join(self.folder, "bench.sqlite")
        for end in ("", "-wal", "-shm"):
            if os.path.exists(path + end):
                os.remove(path + end)
        client = self.client()
        client.connection.execute(
            "CREATE TABLE bench (id INTEGER PRIMARY KEY, ts INTEGER, tenant INTEGER, body TEXT, embedding BLOB)"
        )
        rows = duckdb.connect().execute(f"SELECT id, epoch_us(ts), tenant, body FROM '{self.parquet}'")
        client.connection.execute("BEGIN")
        while some := rows.fetchmany(50_000):
            client.connection.executemany(
                "INSERT INTO bench VALUES (?, ?, ?, ?, ?)", ((*row, SqliteClient.BLOB) for row in some)
            )
        client.connection.execute("COMMIT")
        client.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        client.close()


class DuckClient:
    UPSERT = PostgresClient.UPSERT.replace("%s", "?")

    def __init__(self, connection):
        self.cursor = connection.cursor()

    def retried(self, work):
        # Concurrent changes of rows that are near each other conflict; a user runs them again.
        import duckdb

        while True:
            try:
                work()
                return 1
            except duckdb.TransactionException:
                try:
                    self.cursor.execute("ROLLBACK")
                except duckdb.Error:
                    pass

    def upsert(self, key, tenant=7):
        return self.retried(lambda: self.cursor.execute(self.UPSERT, (key, NOW, tenant, BODY, VECTOR)))

    def batch(self, keys):
        def work():
            self.cursor.execute("BEGIN")
            self.cursor.executemany(self.UPSERT, [(key, NOW, 7, BODY, VECTOR) for key in keys])
            self.cursor.execute("COMMIT")

        return self.retried(work)

    def read(self, key):
        return len(self.cursor.execute("SELECT * FROM bench WHERE id = ?", (key,)).fetchall())

    def tenant(self, key):
        return self.cursor.execute("SELECT tenant FROM bench WHERE id = ?", (key,)).fetchone()[0]

    def aggregate(self):
        self.cursor.execute(AGGREGATE).fetchall()

    def close(self):
        self.cursor.close()


class Duckdb(Engine):
    processes = False

    def __init__(self, *args):
        super().__init__(*args)
        import duckdb

        path = os.path.join(self.folder, "bench.duckdb")
        for end in ("", ".wal"):
            if os.path.exists(path + end):
                os.remove(path + end)
        self.connection = duckdb.connect(path, config={"threads": self.threads})

    def client(self):
        return DuckClient(self.connection)

    def load(self):
        self.connection.execute(
            "CREATE TABLE bench (id BIGINT PRIMARY KEY, ts TIMESTAMP, tenant BIGINT, body VARCHAR, embedding FLOAT[16])"
        )
        self.connection.execute(f"INSERT INTO bench SELECT * FROM '{self.parquet}'")
        self.connection.execute("CHECKPOINT")

    def bulk(self, ask):
        cursor = self.connection.cursor()
        cursor.execute(f"DROP TABLE IF EXISTS {ask['table']}")
        cursor.execute(ask["create"])
        start = time.perf_counter()
        cursor.execute(f"INSERT INTO {ask['table']} SELECT * FROM '{ask['parquet']}'")
        seconds = time.perf_counter() - start
        start = time.perf_counter()
        cursor.execute("CHECKPOINT")
        checkpoint = time.perf_counter() - start
        rows = cursor.execute(f"SELECT count(*) FROM {ask['table']}").fetchone()[0]
        cursor.execute(f"DROP TABLE {ask['table']}")
        return {"seconds": seconds, "checkpoint_seconds": checkpoint, "rows": rows}


def main():
    name, folder, parquet, rows, threads = sys.argv[1:]
    kind = {"postgres": Postgres, "sqlite": Sqlite, "duckdb": Duckdb}[name]
    engine = kind(folder, parquet, int(rows), int(threads))
    try:
        print("{}", flush=True)
        for line in sys.stdin:
            try:
                answer = engine.do(json.loads(line))
            except Exception as e:
                answer = {"error": f"{type(e).__name__}: {e}"}
            print(json.dumps(answer), flush=True)
    finally:
        engine.stop()


if __name__ == "__main__":
    main()
