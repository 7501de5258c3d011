"""Batches of tensors. Where torch is not installed numpy stands in for it: what is checked then is the batches, not torch."""

import sys
import types

import numpy
import pytest


@pytest.fixture
def torch(monkeypatch):
    try:
        import torch

        return torch
    except ImportError:
        pass
    stand_in = types.ModuleType("torch")

    class Generator:
        def manual_seed(self, seed):
            self.random = numpy.random.default_rng(seed)

    stand_in.Generator = Generator
    stand_in.from_numpy = lambda array: array
    stand_in.arange = numpy.arange
    stand_in.randperm = lambda n, generator: generator.random.permutation(n)
    monkeypatch.setitem(sys.modules, "torch", stand_in)
    return stand_in


@pytest.fixture
def rows(db, torch):
    data = {"id": numpy.arange(25), "t": [f"text {i}" for i in range(25)], "v": numpy.arange(75, dtype="float32").reshape(25, 3)}
    db.write("docs", data, mode="create", key="id")
    return db.sql("SELECT * FROM docs ORDER BY id")


def passed(batches):
    got = list(batches)
    for batch in got:
        # A row stays together: its text and vector are those of its id.
        assert batch["t"] == [f"text {int(i)}" for i in batch["id"]]
        assert numpy.array_equal(numpy.asarray(batch["v"])[:, 0], numpy.asarray(batch["id"]) * 3)
        assert batch["v"].shape == (len(batch["t"]), 3)
    return [len(b["t"]) for b in got], [int(i) for b in got for i in b["id"]]


def test_in_order(rows):
    assert passed(rows.to_torch(batch_size=10)) == ([10, 10, 5], list(range(25)))
    assert passed(rows.to_torch(batch_size=10, drop_last=True)) == ([10, 10], list(range(20)))


def test_shuffled(rows):
    batches = rows.to_torch(batch_size=10, shuffle=True, seed=7)
    (_, first), (_, second) = passed(batches), passed(batches)
    assert sorted(first) == sorted(second) == list(range(25))
    assert first != second and first != sorted(first)
    again = rows.to_torch(batch_size=10, shuffle=True, seed=7)
    assert [passed(again)[1], passed(again)[1]] == [first, second]


def test_a_whole_result(rows, db):
    whole = rows.torch()
    assert whole["v"].shape == (25, 3) and len(whole["t"]) == 25
    # What is written to a tensor is written to nothing else.
    whole["v"][0] = 99
    assert db.sql("SELECT v FROM docs WHERE id = 0").fetchone() == ([0.0, 1.0, 2.0],)
    assert passed(db.sql("SELECT * FROM docs WHERE id < 0").to_torch()) == ([], [])
    with pytest.raises(ValueError, match="the column 'n' holds NULLs, which tensors do not"):
        db.sql("SELECT NULLIF(id, 3) AS n FROM docs").torch()


def test_what_is_not_installed_is_named(db, monkeypatch):
    rows = db.sql("SELECT 1 AS a")
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match="tensors need torch: pip install torch"):
        rows.torch()
    with pytest.raises(ImportError, match="needs matplotlib: pip install matplotlib"):
        rows.plot()
