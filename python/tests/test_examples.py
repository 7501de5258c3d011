"""The notebooks of `examples`, run from their first cell to their last, and what they must have found."""

import pathlib

import nbclient
import nbformat
import pytest

EXAMPLES = pathlib.Path(__file__).parent.parent / "examples"
CHECKS = {
    "semantic-search": """
assert len(hits.fetchall()) == 5
first = [list(f["n"][:3]) for f in near.values()]; last = [list(f["n"][-3:]) for f in near.values()]
assert sum(first[0]) < sum(last[0]) and sum(first[1]) > sum(last[1]), (first, last)
counts = {q: sum(float(1 - r["v"] @ vector(q)) < 0.6 for r in rows) for q in near}
assert {q: f["n"].sum() for q, f in near.items()} == counts and min(counts.values()) > 50
""",
    "htap": """
assert {m[1] for m in moments} == {ACCOUNTS * 1000}, moments
assert wrong == [] and len(booked) > 5 and moments[-1][3] > moments[0][3]
""",
    "time-series": """
assert {(s, t) for s, t in zip(found["sensor"], found["at"])} == set(faults), (found, faults)
assert nearest.fetchone()[2] < 1e-3
assert {(s, d) for s, d in zip(odd["sensor"], odd["day"])} == {(s, str(t)[:10]) for s, t in faults}
""",
}


def test_every_notebook_is_checked():
    assert {p.stem for p in EXAMPLES.glob("*.ipynb")} == set(CHECKS)


@pytest.mark.parametrize("name", sorted(CHECKS))
def test_notebook(name, tmp_path):
    notebook = nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "notebooks are kept without outputs"
    notebook.cells.append(nbformat.v4.new_code_cell(CHECKS[name]))
    nbclient.NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(tmp_path)}}).execute()
    pictures = [o for c in notebook.cells for o in c.get("outputs", []) if "image/png" in o.get("data", {})]
    assert len(pictures) >= 1
