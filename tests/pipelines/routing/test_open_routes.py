"""Routes of a corpora folder and of a plain index, each searched alone."""

import pytest

from pipelines.routing.open_routes import OpenRoutes
from rag.errors import IndexFolderError
from rag.records import Query


def test_each_corpus_is_searched_alone(corpora):
    with OpenRoutes(corpora, top_k=2) as routes:
        assert set(routes.labels) >= {"paragraph", "table"}
        for label, modality in (("paragraph", "text"), ("table", "table")):
            found = routes([Query("height of the tower"), Query("king")], label)
            assert all(1 <= len(one) <= 2 for one in found)
            assert {passage.modality for one in found for passage in one} == {modality}


def test_the_budget_and_the_fingerprint_follow_the_options(corpora):
    with OpenRoutes(corpora, tokens=1) as small, OpenRoutes(corpora) as usual:
        assert len(small([Query("tower")], "paragraph")[0]) == 1
        assert len(usual([Query("tower")], "paragraph")[0]) > 1
        assert small.fingerprint != usual.fingerprint


def test_a_plain_index_is_the_corpus_of_paragraphs(index):
    with OpenRoutes(index, top_k=1) as routes:
        assert routes.labels == ("paragraph",)
        assert routes([Query("apples")], "paragraph")[0][0].document == "notes/apples.md"


def test_mistakes_are_named(corpora, index, tmp_path):
    with pytest.raises(IndexFolderError, match="nowhere"):
        OpenRoutes(tmp_path / "nowhere")
    with OpenRoutes(index) as routes:
        with pytest.raises(ValueError, match="must name corpora with passages"):
            routes([Query("x")], "table")
        with pytest.raises(ValueError, match=r"lm must be a language model .* got none"):
            routes.answers()
