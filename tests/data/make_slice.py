#!/usr/bin/env python3
"""Cuts the small data set of this folder out of the full one.

    python3 make_slice.py FOLDER        # FOLDER holds packages.parquet and queries.parquet

Needs pyarrow and numpy. The same input gives the same rows in the same order. Chosen are

* every package that has a download rank,
* the nearest packages of every query, so that a search finds good answers,
* others, spread evenly (by a hash of their names), until ROWS are reached,

without those whose summary holds an address or coarse language. Embeddings are rounded to 16-bit floats
and stored byte by byte (first all high bytes, then all low ones), which compresses well.
"""

import hashlib
import json
import pathlib
import re
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROWS = 3_600
NEAREST = 30
QUERIES = [3, 4, 7, 8, 10, 11, 12, 17, 22, 23, 26, 33]
DIMS = 384
MAX_BYTES = 3_000_000

UNWANTED = re.compile(r"@|https?:|www\.|porn|nsfw|fuck|shit|sexy|\bass\b", re.IGNORECASE)


def matrix(column):
    return column.combine_chunks().flatten().to_numpy().reshape(-1, DIMS)


def halves(rows):
    """A HALFVEC(384) column: a fixed-size list of 16-bit floats that says so in its metadata."""
    flat = pa.array(rows.astype(np.float16).reshape(-1))
    item = pa.field("item", pa.float16())
    return pa.FixedSizeListArray.from_arrays(flat, type=pa.list_(item, DIMS))


def halfvec_field(name):
    metadata = {
        "ARROW:extension:name": "triune.halfvec",
        "ARROW:extension:metadata": json.dumps({"dims": DIMS}, separators=(",", ":")),
    }
    return pa.field(name, pa.list_(pa.field("item", pa.float16()), DIMS), metadata=metadata)


def choose(packages, vectors, queries):
    summaries = packages["summary"].to_pylist()
    names = packages["name"].to_pylist()
    ranks = packages["download_rank"].to_pylist()
    fit = np.array([UNWANTED.search(s + " " + n) is None for s, n in zip(summaries, names)])

    chosen = {i for i, rank in enumerate(ranks) if rank is not None and fit[i]}
    similarity = np.where(fit[:, None], vectors @ queries.T, -2.0)
    for column in similarity.T:
        chosen.update(np.argsort(-column, kind="stable")[:NEAREST].tolist())
    spread = sorted((hashlib.sha256(n.encode()).hexdigest(), i) for i, n in enumerate(names) if fit[i])
    for _, i in spread:
        if len(chosen) >= ROWS:
            break
        chosen.add(i)
    # The most downloaded first; the others by name.
    return sorted(chosen, key=lambda i: (ranks[i] is None, ranks[i] or 0, names[i]))


def write(table, path):
    pq.write_table(
        table,
        path,
        compression="zstd",
        compression_level=19,
        use_dictionary=False,
        column_encoding={"embedding.list.item": "BYTE_STREAM_SPLIT"},
        row_group_size=1_200,
        use_compliant_nested_type=False,
        store_schema=True,
    )
    return path.stat().st_size


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    source = pathlib.Path(sys.argv[1])
    target = pathlib.Path(__file__).resolve().parent

    queries = pq.read_table(source / "queries.parquet")
    query_vectors = matrix(queries["embedding"])
    packages = pq.read_table(source / "packages.parquet")
    vectors = matrix(packages["embedding"])

    keep = choose(packages, vectors, query_vectors)
    columns = ["id", "name", "version", "released", "download_rank", "summary"]
    fields = [packages.schema.field(c) for c in columns] + [halfvec_field("embedding")]
    arrays = [packages[c].take(keep).combine_chunks() for c in columns] + [halves(vectors[keep])]
    size = write(pa.Table.from_arrays(arrays, schema=pa.schema(fields)), target / "packages.parquet")

    rows = [queries["id"].to_pylist().index(q) for q in QUERIES]
    fields = [queries.schema.field("id"), queries.schema.field("query"), halfvec_field("embedding")]
    arrays = [queries["id"].take(rows), queries["query"].take(rows), halves(query_vectors[rows])]
    size += write(pa.Table.from_arrays(arrays, schema=pa.schema(fields)), target / "queries.parquet")

    print(f"{len(keep)} packages, {len(rows)} queries, {size:,} bytes")
    if size > MAX_BYTES:
        sys.exit(f"more than {MAX_BYTES:,} bytes: lower ROWS")


if __name__ == "__main__":
    main()
