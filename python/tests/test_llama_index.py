"""The adapter for LlamaIndex: an index over it finds what LlamaIndex's own store in memory finds."""

import numpy
import pytest
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores import MetadataFilter, MetadataFilters, SimpleVectorStore, VectorStoreQuery
from llama_index.core.vector_stores.types import FilterCondition, VectorStoreQueryMode

import triune
from triune.integrations.llama_index import TriuneVectorStore


def nodes():
    random = numpy.random.default_rng(5)
    made = []
    for i in range(40):
        relationships = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=f"doc{i % 4}")}
        made.append(TextNode(id_=f"n{i:02}", text=f"text {i}", metadata={"year": 2000 + i % 7, "lang": "en" if i % 3 else "de"},
                             embedding=random.normal(size=6).tolist(), relationships=relationships))
    return made


@pytest.fixture
def store(db):
    store = TriuneVectorStore(db, table="nodes")
    assert store.add(nodes()) == [n.node_id for n in nodes()]
    return store


def filters(*some, condition=FilterCondition.AND):
    made = [f if isinstance(f, MetadataFilters) else MetadataFilter(key=f[0], operator=f[1], value=f[2]) for f in some]
    return MetadataFilters(filters=made, condition=condition)


@pytest.mark.parametrize("wanted", [
    None,
    filters(("lang", "==", "en")),
    filters(("lang", "!=", "en"), ("year", ">=", 2003)),
    filters(("lang", "==", "de"), ("year", "<", 2002), condition=FilterCondition.OR),
    filters(("year", "nin", [2001, 2002, 2003])),
    filters(("lang", "==", "fr")),
])
def test_queries_find_what_the_store_in_memory_finds(store, wanted):
    memory = SimpleVectorStore()
    memory.add(nodes())
    query = VectorStoreQuery(query_embedding=[1.0, -1, 0.5, 0, 2, 1], similarity_top_k=5, filters=wanted)
    ours, theirs = store.query(query), memory.query(query)
    assert ours.ids == theirs.ids
    assert ours.similarities == pytest.approx(theirs.similarities, abs=1e-6)


def test_filters_may_be_nested(store):
    inner = filters(("lang", "==", "de"), ("year", "==", 2003), condition=FilterCondition.OR)
    found = store.get_nodes(filters=filters(("year", "in", [2001, 2003]), inner))
    assert [n.node_id for n in found] == [n.node_id for n in nodes() if n.metadata["year"] == 2003
                                          or (n.metadata["year"] == 2001 and n.metadata["lang"] == "de")]
    found = store.get_nodes(filters=filters(inner, condition=FilterCondition.NOT))
    assert [n.node_id for n in found] == [n.node_id for n in nodes() if n.metadata["year"] != 2003 and n.metadata["lang"] == "en"]


def test_nodes_come_back_whole_and_go(store):
    first = nodes()[0]
    back = store.get_nodes(["n00"])[0]
    assert (back.text, back.metadata, back.ref_doc_id) == (first.text, first.metadata, "doc0")
    assert store.query(VectorStoreQuery(query_embedding=[0.0] * 5 + [1], similarity_top_k=9, doc_ids=["doc1"], node_ids=["n01", "n02"])).ids == ["n01"]
    store.delete("doc0")
    assert len(store.get_nodes()) == 30 and store.get_nodes(["n00"]) == []
    store.delete_nodes(filters=filters(("lang", "==", "de")))
    assert {n.metadata["lang"] for n in store.get_nodes()} == {"en"}
    store.delete_nodes(["n01", "n02"])
    assert "n01" not in [n.node_id for n in store.get_nodes()]
    store.clear()
    assert store.get_nodes() == []


class Lengths(BaseEmbedding):
    def _get_text_embedding(self, text):
        return [float(text.count(c)) + 0.01 for c in "abcde"]

    _get_query_embedding = _get_text_embedding

    async def _aget_query_embedding(self, query):
        return self._get_query_embedding(query)


def test_an_index_over_it(db):
    store = TriuneVectorStore(db)
    index = VectorStoreIndex([TextNode(text=t) for t in ("aaa", "bbb", "ccc")], embed_model=Lengths(),
                             storage_context=StorageContext.from_defaults(vector_store=store))
    assert [n.text for n in index.as_retriever(similarity_top_k=1).retrieve("bb")] == ["bbb"]
    again = VectorStoreIndex.from_vector_store(store, embed_model=Lengths())
    assert [n.text for n in again.as_retriever(similarity_top_k=1).retrieve("cc")] == ["ccc"]


def test_what_is_not_there_is_refused(store):
    with pytest.raises(triune.NotSupportedError, match="mode 'hybrid'"):
        store.query(VectorStoreQuery(query_embedding=[0.0] * 6, mode=VectorStoreQueryMode.HYBRID))
    with pytest.raises(triune.NotSupportedError, match="filter lang text_match"):
        store.get_nodes(filters=filters(("lang", "text_match", "e")))
