"""LangChain's ``VectorStore`` over a table.

.. code-block:: python

    from triune.integrations.langchain import TriuneVectorStore

    store = TriuneVectorStore(triune.connect("my.db"), embedding, table="docs")
    store.add_texts(["red fox", "blue whale"], [{"lang": "en", "year": 2020}, {"lang": "en", "year": 2023}])
    store.similarity_search("foxes", k=3, filter={"lang": "en", "year": {"$gte": 2020}})
    store.as_retriever(search_type="mmr")

The table has the columns ``id``, ``text``, ``metadata`` (JSON) and ``embedding``; it is made with the first texts, and SQL
reads and joins it like any other. Filters hold before the nearest are taken. Needs ``langchain-core``.
"""

from __future__ import annotations

import uuid
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Tuple

try:
    import numpy
    from langchain_core.documents import Document
    from langchain_core.embeddings import Embeddings
    from langchain_core.vectorstores import VectorStore
    from langchain_core.vectorstores.utils import maximal_marginal_relevance
except ImportError as error:
    raise ImportError("triune.integrations.langchain needs langchain-core: pip install langchain-core") from error

from ._store import Condition, Row, Store


class TriuneVectorStore(VectorStore):
    """Texts, metadata and vectors in a table of a database.

    ``metric`` is ``cosine``, ``l2`` or ``ip`` (the negative inner product). Scores are distances: the least is nearest.
    """

    def __init__(self, connection: Any, embedding: Embeddings, table: str = "langchain", *, metric: str = "cosine") -> None:
        self._embedding = embedding
        self._store = Store(connection, table, metric)

    @property
    def embeddings(self) -> Embeddings:
        return self._embedding

    # ── writing ─────────────────────────────────────────────────────────────

    def add_texts(self, texts: Iterable[str], metadatas: Optional[List[Dict[str, Any]]] = None, *,
                  ids: Optional[Sequence[Optional[str]]] = None, **kwargs: Any) -> List[str]:
        """Embeds and writes texts, in place of those with the same ids; all of them or none. Gives their ids."""
        texts = list(texts)
        metas: Sequence[Dict[str, Any]] = metadatas if metadatas is not None else [{}] * len(texts)
        given: Sequence[Optional[str]] = ids if ids is not None else [None] * len(texts)
        for name, some in (("metadatas", metas), ("ids", given)):
            if len(some) != len(texts):
                raise ValueError(f"{len(some)} {name} for {len(texts)} texts")
        names = [id or str(uuid.uuid4()) for id in given]
        if texts:
            vectors = self._embedding.embed_documents(texts)
            self._store.put(zip(names, texts, metas, vectors))
        return names

    def delete(self, ids: Optional[List[str]] = None, **kwargs: Any) -> Optional[bool]:
        """Deletes texts by their ids, all of them where none are given. Ids that are not there are passed over."""
        if ids is None:
            self._store.delete()
        elif ids:
            self._store.delete("id = ANY($_ids)", {"_ids": list(ids)})
        return True

    @classmethod
    def from_texts(cls, texts: List[str], embedding: Embeddings, metadatas: Optional[List[Dict[str, Any]]] = None, *,
                   ids: Optional[List[str]] = None, connection: Any = None, **kwargs: Any) -> "TriuneVectorStore":
        """A store with these texts; without ``connection`` of a database in memory."""
        if connection is None:
            from .. import connect

            connection = connect()
        store = cls(connection, embedding, **kwargs)
        store.add_texts(texts, metadatas, ids=ids)
        return store

    # ── reading ─────────────────────────────────────────────────────────────

    def get_by_ids(self, ids: Sequence[str], /) -> List[Document]:
        """The texts of ids, in their order; ids that are not there are passed over."""
        return [_document(row) for row in self._store.get(list(ids))]

    def _nearest(self, vector: Sequence[float], k: int, filter: Optional[Dict[str, Any]]) -> List[Tuple[Row, float]]:  # noqa: A002
        condition = Condition()
        where = condition.of_dict(filter) if filter else ""
        return self._store.search(vector, k, where, condition.params)

    def similarity_search(self, query: str, k: int = 4, filter: Optional[Dict[str, Any]] = None,  # noqa: A002
                          **kwargs: Any) -> List[Document]:
        return self.similarity_search_by_vector(self._embedding.embed_query(query), k, filter)

    def similarity_search_by_vector(self, embedding: List[float], k: int = 4,
                                    filter: Optional[Dict[str, Any]] = None, **kwargs: Any) -> List[Document]:  # noqa: A002
        return [_document(row) for row, _ in self._nearest(embedding, k, filter)]

    def similarity_search_with_score(self, query: str, k: int = 4, filter: Optional[Dict[str, Any]] = None,  # noqa: A002
                                     **kwargs: Any) -> List[Tuple[Document, float]]:
        """The nearest texts with their distances."""
        found = self._nearest(self._embedding.embed_query(query), k, filter)
        return [(_document(row), distance) for row, distance in found]

    def max_marginal_relevance_search(self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5,
                                      filter: Optional[Dict[str, Any]] = None, **kwargs: Any) -> List[Document]:  # noqa: A002
        vector = self._embedding.embed_query(query)
        return self.max_marginal_relevance_search_by_vector(vector, k, fetch_k, lambda_mult, filter)

    def max_marginal_relevance_search_by_vector(self, embedding: List[float], k: int = 4, fetch_k: int = 20,
                                                lambda_mult: float = 0.5, filter: Optional[Dict[str, Any]] = None,  # noqa: A002
                                                **kwargs: Any) -> List[Document]:
        """Of the ``fetch_k`` nearest, ``k`` that also differ among themselves."""
        rows = [row for row, _ in self._nearest(embedding, max(fetch_k, k), filter)]
        if not rows:
            return []
        vectors = [row[3] for row in rows]
        chosen = maximal_marginal_relevance(numpy.array(embedding, dtype=float), vectors, lambda_mult, min(k, len(rows)))
        return [_document(rows[at]) for at in chosen]

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        if self._store.metric == "cosine":
            return self._cosine_relevance_score_fn
        if self._store.metric == "l2":
            return self._euclidean_relevance_score_fn
        return lambda distance: -distance


def _document(row: Row) -> Document:
    return Document(id=row[0], page_content=row[1], metadata=row[2])


__all__ = ["TriuneVectorStore"]
