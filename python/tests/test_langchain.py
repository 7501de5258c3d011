"""The adapter for LangChain: LangChain's own tests of vector stores, and filters against plain Python."""

import operator

import numpy
import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_tests.integration_tests import VectorStoreIntegrationTests

import triune
from triune.integrations.langchain import TriuneVectorStore


class TestStandard(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self):
        with triune.connect() as db:
            yield TriuneVectorStore(db, self.get_embeddings())


EMBEDDING = DeterministicFakeEmbedding(size=8)
METADATA = [
    {"year": 2020, "lang": "en", "done": True}, {"year": 2021, "lang": "de", "done": False}, {"year": "2020", "lang": "en"},
    {"year": 2020.5, "lang": 'a"b', "deep": {"x": 1}}, {"lang": None, "year": 2**60 + 1}, {}, {"year": -1, "lang": "true"},
]
SIGNS = {"$eq": operator.eq, "$gt": operator.gt, "$gte": operator.ge, "$lt": operator.lt, "$lte": operator.le}


def same_kind(a, b):
    texts = isinstance(a, str) and isinstance(b, str)
    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in (a, b))
    return texts or numbers or (isinstance(a, bool) and isinstance(b, bool))


def holds(value, sign, wanted):
    if sign in ("$in", "$nin"):
        return any(holds(value, "$eq", w) for w in wanted) == (sign == "$in")
    if sign == "$ne":
        return not holds(value, "$eq", wanted)
    if wanted is None:
        return value is None
    return same_kind(value, wanted) and SIGNS[sign](value, wanted)


@pytest.fixture
def store(db):
    store = TriuneVectorStore(db, EMBEDDING, table="Some docs", metric="l2")
    store.add_texts([f"text {i}" for i in range(len(METADATA))], METADATA, ids=[str(i) for i in range(len(METADATA))])
    return store


@pytest.mark.parametrize("key", ["year", "lang", "done", "it's not there"])
def test_filters_find_what_python_finds(store, key):
    wanted = [("$eq", v) for v in (2020, 2020.5, "2020", "en", 'a"b', True, False, None, "true", 2**60 + 1, 2**60)]
    wanted += [(s, v) for s in ("$gt", "$gte", "$lt", "$lte", "$ne") for v in (2020, "en", -1.5, "2020")]
    wanted += [(s, v) for s in ("$in", "$nin") for v in ([2020, "en"], [], [None, 2021, True])]
    for sign, value in wanted:
        expected = [str(i) for i, m in enumerate(METADATA) if holds(m.get(key), sign, value)]
        found = store.similarity_search("text 1", k=99, filter={key: {sign: value}})
        assert sorted(d.id for d in found) == expected, (key, sign, value)


def test_nearest_are_those_of_numpy(store):
    query = numpy.array(EMBEDDING.embed_query("what"), dtype="float32")
    vectors = numpy.array(EMBEDDING.embed_documents([f"text {i}" for i in range(len(METADATA))]), dtype="float32")
    distances = numpy.linalg.norm(vectors - query, axis=1)
    found = store.similarity_search_with_score("what", k=3, filter={"year": {"$ne": "2020"}})
    allowed = [i for i in numpy.argsort(distances) if i != 2][:3]
    assert [d.id for d, _ in found] == [str(i) for i in allowed]
    assert [s for _, s in found] == pytest.approx([float(distances[i]) for i in allowed], rel=1e-5)
    assert len(store.max_marginal_relevance_search("what", k=2)) == 2
    assert [d.id for d in store.as_retriever(search_kwargs={"k": 1}).invoke("text 4")] == ["4"]


def test_the_table_is_an_ordinary_one(store, db):
    sql = """SELECT count(*) FROM "some docs" WHERE metadata->>'lang' = 'en'"""
    assert db.sql(sql).fetchone() == (2,)
    assert TriuneVectorStore(db, EMBEDDING, table="Some docs").get_by_ids(["6", "0", "nope"])[0].metadata == METADATA[6]
    store.delete()
    assert db.sql('SELECT count(*) FROM "some docs"').fetchone() == (0,)


def test_a_variable_of_the_tables_name_is_not_the_table(db):
    docs = [{"id": "x"}]  # noqa: F841
    store = TriuneVectorStore(db, EMBEDDING, table="docs")
    assert store.similarity_search("a") == []
    store.add_texts(["a"])
    assert [d.page_content for d in store.similarity_search("a")] == ["a"]


def test_mistakes_are_named(db, store):
    with pytest.raises(triune.Error, match=r"operator '\$near' of the filter on 'year' is unknown; accepted are \$eq"):
        store.similarity_search("a", filter={"year": {"$near": 1}})
    with pytest.raises(triune.Error, match=r"year \$in needs a list, not 'en'"):
        store.similarity_search("a", filter={"year": {"$in": "en"}})
    with pytest.raises(triune.Error, match="metadata of 'q' cannot be kept as JSON"):
        store.add_texts(["a"], [{"x": {1, 2}}], ids=["q"])
    with pytest.raises(ValueError, match="1 metadatas for 2 texts"):
        store.add_texts(["a", "b"], [{}])
    with pytest.raises(triune.Error, match="metric 'far' is unknown"):
        TriuneVectorStore(db, EMBEDDING, metric="far")
    db.execute("CREATE TABLE other (id INT PRIMARY KEY)")
    with pytest.raises(triune.Error, match="other is no store of texts and vectors: it lacks text, metadata, embedding"):
        TriuneVectorStore(db, EMBEDDING, table="other")
