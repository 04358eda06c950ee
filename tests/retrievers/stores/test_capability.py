"""What stores promise: records, the self-check of score direction, filters that cannot be said."""

import pytest

from rag.interop.langchain import as_embeddings
from rag.records import Query
from retrievers.filters import Filter
from retrievers.stores.capability import (
    IN_MEMORY,
    MILVUS,
    PGVECTOR,
    QDRANT,
    Capability,
    capability_of,
)
from retrievers.stores.extras import need, shown
from retrievers.stores.native_filters import NothingPasses, native_filter
from retrievers.stores.pgvector import open_pgvector
from retrievers.stores.store import VectorStoreSearch

langchain = pytest.importorskip("langchain_core.vectorstores")
QUERY = Query("what of it")


def store_of(kind, encoder, texts=("a", "b", "c")):
    store = kind(as_embeddings(encoder))
    store.add_texts(list(texts))
    return store


class Distances(langchain.InMemoryVectorStore):
    """Returns distances where its parent returns similarities, and says nothing of it."""

    def similarity_search_with_score_by_vector(self, *args, **kwargs):
        found = super().similarity_search_with_score_by_vector(*args, **kwargs)
        return [(document, 1.0 - score) for document, score in found]


class Elsewhere(langchain.InMemoryVectorStore):
    """Returns everything but the best."""

    def similarity_search_with_score_by_vector(self, embedding, k=4, **kwargs):
        return super().similarity_search_with_score_by_vector(embedding, k=k + 1, **kwargs)[1:]


def test_a_store_that_scores_otherwise_than_its_record_is_refused(encoder):
    search = VectorStoreSearch(store_of(Distances, encoder), encoder)
    with pytest.raises(
        ValueError, match=r"must score by similarity .*but scores rise down the list"
    ):
        search(QUERY)
    right = Capability("Distances", "cosine_distance", score_by_vector=True, get_by_ids=True)
    found = VectorStoreSearch(store_of(Distances, encoder), encoder, capability=right)(QUERY)
    scores = [passage.score for passage in found]
    assert scores == sorted(scores, reverse=True)


def test_a_store_that_does_not_find_its_own_text_is_refused(encoder):
    with pytest.raises(ValueError, match="a stored text is not among the best for itself"):
        VectorStoreSearch(store_of(Elsewhere, encoder), encoder)(QUERY)


def test_a_store_filled_by_another_encoder_is_refused(encoder):
    class Other(type(encoder)):
        def encode(self, texts, *, progress=None):
            return super().encode([text + "!" for text in texts])

    search = VectorStoreSearch(store_of(langchain.InMemoryVectorStore, Other()), encoder)
    with pytest.raises(ValueError, match="or the store was filled by another encoder"):
        search(QUERY)


def test_the_check_runs_once(encoder):
    search = VectorStoreSearch(store_of(langchain.InMemoryVectorStore, encoder), encoder)
    search(QUERY)
    encoder.encoded = 0
    search(QUERY)
    assert encoder.encoded == 1


def test_an_unknown_store_needs_a_record(encoder):
    class Strange:
        pass

    with pytest.raises(ValueError, match="capability must be given for Strange; only "):
        VectorStoreSearch(Strange(), encoder)
    assert capability_of(store_of(Distances, encoder)) is IN_MEMORY


@pytest.mark.parametrize(
    ("kind", "score", "product"),
    [("similarity", 0.3, 0.3), ("cosine_distance", 0.7, 0.3), ("euclidean", 1.0, 0.5), ("squared_euclidean", 1.0, 0.5)],
)  # fmt: skip
def test_every_kind_of_score_becomes_an_inner_product(kind, score, product):
    assert Capability("x", kind).inner_product(score) == pytest.approx(product)


def test_what_a_store_cannot_say_is_an_error(encoder):
    plain = Capability("Plain", "similarity", score_by_vector=True)
    with pytest.raises(ValueError, match="Plain takes no filters"):
        native_filter(plain, Filter.parse({"x": 1}))
    pytest.importorskip("qdrant_client")
    with pytest.raises(ValueError, match="cannot order text"):
        native_filter(QDRANT, Filter.parse({"day": {"gt": "2024-01-01"}}))


def test_large_numbers_are_refused_where_they_are_not_exact():
    with pytest.raises(ValueError, match=r"filter.n must be below 2\*\*53"):
        native_filter(PGVECTOR, Filter.parse({"n": 2**53}))


def test_a_filter_that_nothing_passes_asks_nothing():
    with pytest.raises(NothingPasses):
        native_filter(MILVUS, Filter.parse({"or": []}))
    assert native_filter(MILVUS, Filter.parse({})) is None
    assert native_filter(MILVUS) is None


def test_literals_of_a_query_language_hold_no_quotes():
    text = native_filter(MILVUS, Filter.parse({'a"] or 1 == 1': 'x\' or "" == "', "flag": True}))
    assert text.count('"') % 2 == 0
    assert " 1 == 1" not in text
    assert "'" not in text


def test_secrets_are_not_shown():
    address = "postgresql://me:secret@db.example:5432/notes?password=secret"
    assert shown(address) == "postgresql://db.example:5432/notes"
    assert shown("http://u:p@[bad") == "http://…"
    with pytest.raises(ValueError, match="table must be letters, digits and underscores"):
        open_pgvector(address, 'x"; drop table y; --', None)
    with pytest.raises(ValueError, match="url must begin with postgresql://, got 'mysql://db'"):
        open_pgvector("mysql://me:secret@db", "t", None)


def test_a_missing_extra_names_its_command():
    from rag.errors import MissingExtraError

    with pytest.raises(MissingExtraError, match=r"pip install 'dovetail-rag\[qdrant\]'"):
        need("qdrant", "json", "no_such_module_at_all")


def test_options_out_of_range_are_named(encoder):
    store = store_of(langchain.InMemoryVectorStore, encoder)
    with pytest.raises(ValueError, match="top_k must be at least 1, got 0"):
        VectorStoreSearch(store, encoder, top_k=0)
    with pytest.raises(ValueError, match="filter must map fields to conditions"):
        VectorStoreSearch(store, encoder, where=3)
