"""Pictures of results: what is on the axes."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as pyplot  # noqa: E402
import numpy  # noqa: E402
import pytest  # noqa: E402


@pytest.fixture(autouse=True)
def closed():
    yield
    pyplot.close("all")


def lines(ax):
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in ax.lines}


def test_lines_over_a_column(db):
    rows = db.from_df([{"t": 1, "a": 2, "b": 3}, {"t": 2, "a": 4, "b": 5}])
    ax = rows.plot()
    assert lines(ax) == {"a": ([1, 2], [2, 4]), "b": ([1, 2], [3, 5])} and ax.get_xlabel() == "t"
    one = rows.plot(x="a", y="b", color="tab:red")
    assert lines(one) == {"b": ([2, 4], [3, 5])} and one.lines[0].get_color() == "tab:red" and one.get_ylabel() == "b"


def test_a_line_for_each_value(db):
    rows = db.values([(1, "x", 5), (1, "y", 6), (2, "x", 7), (2, "y", 8)]).project("col0 AS t, col1 AS k, col2 AS n")
    assert lines(rows.plot(x="t", y="n", color="k")) == {"x": ([1, 2], [5, 7]), "y": ([1, 2], [6, 8])}
    with pytest.raises(ValueError, match="there is no column 'nn'; the columns are t, k, n"):
        rows.plot(x="t", y="nn")


def test_points_of_vectors(db):
    db.write("p", [{"id": i, "k": "ab"[i % 2], "v": [float(i), 1.0, 0.5 * i]} for i in range(6)], mode="create", key="id")
    with pytest.raises(ValueError, match="v has 3 dimensions: project=True"):
        db.table("p").plot()
    ax = db.table("p").plot(color="k", project=True)
    assert [c.get_label() for c in ax.collections] == ["a", "b"]
    found = numpy.vstack([c.get_offsets() for c in ax.collections])
    # All points are on one line, whose length the projection keeps.
    assert numpy.ptp(found[:, 0]) == pytest.approx(5 * 1.25**0.5, rel=1e-5) and numpy.ptp(found[:, 1]) == pytest.approx(0, abs=1e-5)
