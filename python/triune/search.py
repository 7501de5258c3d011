"""Searches that are built step by step and run as one SQL statement.

>>> import triune
>>> db = triune.connect()
>>> _ = db.execute("CREATE TABLE docs (id BIGINT PRIMARY KEY, lang VARCHAR, body VARCHAR, v VECTOR(2))")
>>> _ = db.execute("INSERT INTO docs VALUES (1, 'en', 'red fox', [0, 1]), (2, 'de', 'roter Fuchs', [1, 0]), "
...                "(3, 'en', 'blue whale', [0.5, 0.5])")
>>> db.table("docs").search([1, 0]).where("lang = $l", l="en").select("id").limit(1).fetchall()
[(3,)]
>>> db.table("docs").search().text("fox").select("id").fetchall()
[(1,)]
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Sequence

from . import _params
from ._names import identifier, qualified
from ._values_sql import literal
from .errors import _interface
from .relation import Relation

if TYPE_CHECKING:
    from .connection import Connection


class Search(Relation):
    """A search of a table by a vector, by words, or by both. Each method gives a new search."""

    def __init__(self, connection: "Connection", table: str, vector: Any = None, column: Optional[str] = None,
                 options: Optional[Dict[str, Any]] = None) -> None:
        super().__init__(connection, "")
        self._table = table
        self._vector = vector
        self._words: Optional[str] = None
        self._column = column
        self._text_columns: Optional[Sequence[str]] = None
        self._options = dict(options or {})
        self._conditions: List[str] = []
        self._values: Dict[str, Any] = {}
        self._chosen: Optional[str] = None
        self._k = 10
        self._offset = 0
        if isinstance(vector, str) and column is None:
            # A text is words to look for; a vector may be given as a text with its column's name.
            self._vector, self._words = (vector, None) if vector.lstrip().startswith("[") else (None, vector)
        self._build()

    def _but(self, **changes: Any) -> "Search":
        other = Search.__new__(Search)
        other.__dict__.update(self.__dict__)
        other._conditions, other._values, other._options = list(self._conditions), dict(self._values), dict(self._options)
        other._fields, other._rows, other._count = None, None, None
        for name, value in changes.items():
            setattr(other, name, value)
        return other

    def where(self, condition: str, **params: Any) -> "Search":  # type: ignore[override]
        """Only rows for which a condition holds; it is applied before the nearest are taken."""
        text, mine = _params.merged(condition, params, self._values)
        return self._but(_conditions=[*self._conditions, text], _values={**self._values, **mine})._built()

    filter = where  # type: ignore[assignment]

    def select(self, *columns: str) -> "Search":  # type: ignore[override]
        """The columns of the answer, SQL expressions; ``_distance`` or ``_score`` is among what they may name."""
        return self._but(_chosen=", ".join(columns))._built()

    project = select  # type: ignore[assignment]

    def limit(self, n: int, offset: int = 0) -> "Search":  # type: ignore[override]
        """How many rows, after ``offset``."""
        return self._but(_k=int(n), _offset=int(offset))._built()

    def text(self, words: str, columns: Optional[Sequence[str]] = None) -> "Search":
        """Rows that match words (BM25): ``'fox "red fox" -whale'``."""
        return self._but(_words=words, _text_columns=[columns] if isinstance(columns, str) else columns)._built()

    def hybrid(self, words: Optional[str] = None, fusion: str = "rrf", **options: Any) -> "Search":
        """One list of the vector's and the words' rows: ``fusion`` is ``rrf`` or ``weighted`` (with ``alpha``)."""
        other = self._but(_words=words if words is not None else self._words)
        if other._vector is None or other._words is None:
            raise _interface("a hybrid search needs a vector and words: search(vector).hybrid('words')")
        other._options.update(fusion=fusion, **options)
        return other._built()

    def with_options(self, **options: Any) -> "Search":
        """Options of ``vector_search``, ``text_search`` or ``hybrid_search``: ``metric``, ``nprobes``, ``exact`` …"""
        other = self._but()
        other._options.update(options)
        return other._built()

    def metric(self, name: str) -> "Search":
        """The distance: ``l2``, ``cosine``, ``ip`` …"""
        return self.with_options(metric=name)

    def rerank(self, function: Callable[[Any], Any], candidates: Optional[int] = None) -> Relation:
        """Rows in an order of one's own: the function takes the candidates as a dict of lists and gives a number for
        each, the greatest first. They come with it as ``_rerank``.

        >>> import triune
        >>> db = triune.connect()
        >>> _ = db.execute("CREATE TABLE d (id BIGINT PRIMARY KEY, v VECTOR(1))")
        >>> _ = db.execute("INSERT INTO d VALUES (1, [1]), (2, [2]), (3, [3])")
        >>> best = db.table("d").search([1.0]).select("id").limit(1).rerank(lambda c: c["id"], candidates=3)
        >>> best.project("id").fetchall()
        [(3,)]
        """
        wide = self._but(_k=max(candidates or self._k * 5, self._k + self._offset), _offset=0)._built()
        data = wide.read()
        fields = data.schema.fields()
        columns = {name: data.column(i).to_pylist() for i, (name, _, _) in enumerate(fields)}
        scores = [float(s) for s in function(columns)]
        if len(scores) != len(data):
            raise _interface(f"the function gave {len(scores)} numbers for {len(data)} rows")
        from . import _data, _triune

        scored = _triune.batches_of_columns(
            [data.column(i) for i in range(len(fields))] + [_data.column("_rerank", scores)]
        ) if len(data) else data
        ranked = self._connection.from_arrow(scored)
        if not len(data):
            return ranked
        return ranked.order("_rerank DESC").limit(self._k, self._offset)

    # ── the statement ───────────────────────────────────────────────────────

    def _vector_column(self) -> str:
        if self._column is not None:
            return self._column
        fields = self._connection._schema(f"SELECT * FROM {qualified(self._table)}").fields()
        vectors = [name for name, kind, _ in fields if kind.startswith(("VECTOR(", "HALFVEC(", "TINYVEC(", "BITVEC("))]
        if len(vectors) == 1:
            self._column = vectors[0]
            return vectors[0]
        found = f"has {len(vectors)}: {', '.join(vectors)}" if vectors else "has none"
        raise _interface(f"name the vector column, the table {self._table} {found}")

    def _built(self) -> "Search":
        self._build()
        return self

    def _build(self) -> None:
        if self._vector is None and self._words is None:
            self._sql, self._params = "", None
            return
        table, k = qualified(self._table), self._k + self._offset
        values = dict(self._values)
        options = [f"k => {k}"]
        options += [f"{name} => {literal(value)}" for name, value in self._options.items()]
        if self._vector is not None:
            values["_vector"] = self._vector
        if self._words is not None:
            values["_words"] = self._words
        if self._vector is not None and self._words is not None:
            source = f"hybrid_search({table}, vector => $_vector, text => $_words, {', '.join(options)})"
            order = "_score DESC"
        elif self._vector is not None:
            source = f"vector_search({table}, {identifier(self._vector_column())}, $_vector, {', '.join(options)})"
            order = "_distance"
        else:
            if self._text_columns:
                options.insert(0, f"columns => {literal(list(self._text_columns))}")
            source = f"text_search({table}, $_words, {', '.join(options)})"
            order = "_score DESC"
        chosen = self._chosen if self._chosen is not None else "*"
        where = f" WHERE {' AND '.join(f'({c})' for c in self._conditions)}" if self._conditions else ""
        self._sql = f"SELECT {chosen} FROM {source}{where} ORDER BY {order} LIMIT {self._k}"
        if self._offset:
            self._sql += f" OFFSET {self._offset}"
        self._params = values

    def _run(self) -> Any:
        if not self._sql:
            raise _interface("a search needs a vector or words: .search(vector), .text('words')")
        return super()._run()
