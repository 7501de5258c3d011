"""LlamaIndex's vector store over a table.

.. code-block:: python

    from llama_index.core import StorageContext, VectorStoreIndex
    from triune.integrations.llama_index import TriuneVectorStore

    store = TriuneVectorStore(triune.connect("my.db"), table="nodes")
    index = VectorStoreIndex(nodes, storage_context=StorageContext.from_defaults(vector_store=store))
    index.as_retriever(similarity_top_k=3).retrieve("foxes")

Nodes are kept whole; their metadata is in the JSON column ``metadata``, where filters find it before the nearest are taken.
Needs ``llama-index-core``.
"""

from __future__ import annotations

from typing import Any, List, Optional, Sequence, Tuple

try:
    from llama_index.core.bridge.pydantic import PrivateAttr
    from llama_index.core.schema import BaseNode, MetadataMode
    from llama_index.core.vector_stores.types import (
        BasePydanticVectorStore,
        FilterCondition,
        FilterOperator,
        MetadataFilters,
        VectorStoreQuery,
        VectorStoreQueryMode,
        VectorStoreQueryResult,
    )
    from llama_index.core.vector_stores.utils import metadata_dict_to_node, node_to_metadata_dict
except ImportError as error:
    raise ImportError("triune.integrations.llama_index needs llama-index-core: pip install llama-index-core") from error

from ..errors import _make
from ._store import Condition, Store

_OPERATORS = {
    FilterOperator.EQ: "$eq", FilterOperator.NE: "$ne", FilterOperator.GT: "$gt", FilterOperator.GTE: "$gte",
    FilterOperator.LT: "$lt", FilterOperator.LTE: "$lte", FilterOperator.IN: "$in", FilterOperator.NIN: "$nin",
}


class TriuneVectorStore(BasePydanticVectorStore):
    """Nodes, their metadata and vectors in a table of a database.

    ``metric`` is ``cosine``, ``l2`` or ``ip``. Similarities are greater where nodes are nearer: ``1 - distance`` for
    ``cosine``, ``1 / (1 + distance)`` for ``l2``, the inner product for ``ip``.
    """

    stores_text: bool = True
    _store: Store = PrivateAttr()

    def __init__(self, connection: Any, table: str = "llama_index", *, metric: str = "cosine") -> None:
        super().__init__()
        self._store = Store(connection, table, metric)

    @classmethod
    def class_name(cls) -> str:
        return "TriuneVectorStore"

    @property
    def client(self) -> Any:
        """The connection."""
        return self._store.connection

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> List[str]:
        """Writes nodes with their embeddings, in place of those with the same ids; all of them or none."""
        self._store.put(
            (node.node_id, node.get_content(metadata_mode=MetadataMode.NONE),
             node_to_metadata_dict(node, remove_text=False), node.get_embedding())
            for node in nodes
        )
        return [node.node_id for node in nodes]

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Deletes the nodes of a document."""
        condition = Condition()
        self._store.delete(condition.compare("ref_doc_id", "$eq", ref_doc_id), condition.params)

    def delete_nodes(self, node_ids: Optional[List[str]] = None, filters: Optional[MetadataFilters] = None,
                     **delete_kwargs: Any) -> None:
        """Deletes the nodes of ids, for which the filters hold too; without either it does nothing."""
        if node_ids is None and filters is None:
            return
        where, condition = _where(filters, node_ids)
        self._store.delete(where, condition.params or None)

    def clear(self) -> None:
        """Deletes all nodes."""
        self._store.delete()

    def get_nodes(self, node_ids: Optional[List[str]] = None, filters: Optional[MetadataFilters] = None) -> List[BaseNode]:
        """The nodes of ids, or for which filters hold."""
        where, condition = _where(filters, None)
        return [metadata_dict_to_node(row[2]) for row in self._store.get(node_ids, where, condition.params)]

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """The nodes nearest to the query's vector. Modes other than the default are refused."""
        if query.mode != VectorStoreQueryMode.DEFAULT:
            raise _make("unsupported", f"a query of the mode {query.mode.value!r}", "the mode 'default' is there", None, False)
        if query.query_embedding is None:
            raise _make("invalid", "a query needs a vector: query_embedding is None", None, None, False)
        # An index whose store keeps the texts gives an empty list of ids, and means all.
        where, condition = _where(query.filters, query.node_ids or None, query.doc_ids or None)
        found = self._store.search(query.query_embedding, query.similarity_top_k, where, condition.params)
        return VectorStoreQueryResult(
            nodes=[metadata_dict_to_node(row[2]) for row, _ in found],
            similarities=[self._similarity(distance) for _, distance in found],
            ids=[row[0] for row, _ in found],
        )

    def _similarity(self, distance: float) -> float:
        metric = self._store.metric
        return 1 - distance if metric == "cosine" else 1 / (1 + distance) if metric == "l2" else -distance


def _where(filters: Optional[MetadataFilters], ids: Optional[List[str]],
           documents: Optional[List[str]] = None) -> Tuple[str, Condition]:
    condition = Condition()
    parts = [_filters(condition, filters)] if filters is not None and filters.filters else []
    if ids is not None:
        parts.append("id = ANY($_some)")
        condition.params["_some"] = list(ids)
    if documents is not None:
        parts.append(condition.compare("ref_doc_id", "$in", documents))
    return " AND ".join(parts), condition


def _filters(condition: Condition, filters: MetadataFilters) -> str:
    parts = []
    for one in filters.filters:
        if isinstance(one, MetadataFilters):
            parts.append(_filters(condition, one))
            continue
        operator = _OPERATORS.get(one.operator)
        if operator is None:
            accepted = ", ".join(o.value for o in _OPERATORS)
            raise _make("unsupported", f"the filter {one.key} {one.operator.value}", f"accepted are {accepted}", None, False)
        parts.append(condition.compare(one.key, operator, one.value))
    if filters.condition == FilterCondition.NOT:
        return f"(NOT ({' OR '.join(parts)}))"
    return f"({(' OR ' if filters.condition == FilterCondition.OR else ' AND ').join(parts) or 'TRUE'})"


__all__ = ["TriuneVectorStore"]
