"""Citations: what supports what, where quotes stand, and what is left unsupported."""

import re
import zlib
from dataclasses import replace

import numpy as np
import pytest

from rag.generation.citations import SupportMatcher, marked
from rag.records import Attention, Passage, Query, Selection, SentenceScore, Span, text_sha

QUERY = Query("Tell me about the place.")


class WordEncoder:
    """Unit vectors of hashed words: texts that share words are close."""

    name, fingerprint, dim = "words", "w" * 64, 256

    def encode_queries(self, texts):
        return self.encode(texts)

    def encode(self, texts, *, progress=None):
        vectors = np.full((len(texts), self.dim), 1e-3, np.float32)
        for row, text in enumerate(texts):
            for word in re.findall(r"\w+", text.lower()):
                vectors[row, zlib.crc32(word.encode()) % self.dim] += 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture(params=[None, WordEncoder()], ids=["terms", "terms and vectors"])
def match(request):
    return SupportMatcher(request.param)


def passage_of(*pieces, name="p", before="", kept=None, **fields):
    """A passage of these sentences that stands after `before` in its document."""
    spans, start = [], 0
    for piece in pieces:
        spans.append(Span(start, start + len(piece)))
        start += len(piece)
    text = "".join(pieces)
    passage = Passage(
        name, f"{name}.md", text, Span(0, start).shifted(len(before)), tuple(spans), **fields
    )
    if kept is None:
        return passage
    scores = tuple(SentenceScore(s, 0.5, kept=row in kept) for row, s in enumerate(spans))
    return replace(passage, kept=Selection(name, text_sha(text), scores, "test"))


SYDNEY = passage_of(
    "The harbour bridge opened in 1932. ",
    "Granite for its pylons came from Moruya. ",
    "Ferries cross under it all day.",
)


def test_a_sentence_is_cited_from_the_sentence_that_says_it(match):
    answer = "Granite for the pylons came from Moruya."
    found = match(QUERY, answer, [SYDNEY])
    (citation,) = found.citations
    assert citation.quote == "Granite for its pylons came from Moruya."
    assert (citation.number, citation.passage_id, citation.document) == (1, "p", "p.md")
    assert answer[citation.answer_start : citation.answer_end] == answer
    assert 0.5 <= citation.score <= 1
    assert (found.unsupported, found.abstained) == ((), False)


def test_support_grows_with_the_share_of_terms_that_are_found():
    match = SupportMatcher(threshold=0.0)

    def support(answer):
        return match(QUERY, answer, [SYDNEY]).citations[0].score

    assert support("Granite pylons.") == pytest.approx(1.0)
    assert support("Granite pylons.") > support("Granite walls and towers.")
    assert match(QUERY, "Zebras graze quietly.", [SYDNEY]).abstained


def test_what_nothing_supports_is_reported_where_it_stands(match):
    answer = "  Granite came from Moruya.  Zebras graze quietly! "
    found = match(QUERY, answer, [SYDNEY])
    assert [s.of(answer) for s in found.unsupported] == ["Zebras graze quietly!"]
    assert [answer[c.answer_start : c.answer_end] for c in found.citations] == [
        "Granite came from Moruya."
    ]
    assert not found.abstained


def test_an_answer_that_nothing_supports_abstains(match):
    found = match(QUERY, "Zebras graze quietly. Lions sleep.", [SYDNEY])
    assert found.abstained
    assert len(found.unsupported) == 2


@pytest.mark.parametrize("passages", [[], [passage_of("   ")], [replace(SYDNEY, sentences=())]])
def test_without_evidence_everything_is_unsupported(match, passages):
    found = match(QUERY, "The bridge opened in 1932.", passages)
    assert found.abstained
    assert found.unsupported == (Span(0, 26),)


@pytest.mark.parametrize("answer", ["", "  \n"])
def test_an_empty_answer_abstains_and_blames_nothing(match, answer):
    found = match(QUERY, answer, [SYDNEY])
    assert found.abstained
    assert all(span.of(answer).strip() == "" for span in found.unsupported)


@pytest.mark.parametrize(
    ("said", "written"),
    [("1937", "1932"), ("300", "2,300"), ("2.5", "2"), ("2", "2.5"), ("19", "1932")],
)
def test_another_number_never_supports(match, said, written):
    passage = passage_of(f"The harbour bridge has number {written} painted on it.")
    for threshold in (0.5, 0.01):
        found = replace(match, threshold=threshold)(
            QUERY, f"The harbour bridge has number {said} painted on it.", [passage]
        )
        assert found.abstained, threshold
    same = match(QUERY, f"The harbour bridge has number {written} painted on it.", [passage])
    assert not same.abstained


def test_a_number_that_the_question_gave_need_not_be_repeated(match):
    found = match(
        Query("Which bridge opened in 1932?"), "In 1932 the Moruya granite bridge.",
        [passage_of("The Moruya granite bridge opened.")],
    )  # fmt: skip
    assert not found.abstained


def test_quotes_point_into_the_document(match):
    before = "# Ünïcode 😀\n\nA preamble. "
    pieces = ("  The café of Zoë 😀 sells madeleines.\n\n", "Its naïve rôle is small. ")
    passage = passage_of(*pieces, before=before, page=7)
    document = before + passage.text + "More."
    found = match(QUERY, "Zoë's café sells madeleines. The naïve rôle is small.", [passage])
    assert len(found.citations) == 2
    for citation in found.citations:
        assert document[citation.start : citation.end] == citation.quote
        assert citation.quote == citation.quote.strip()
        assert citation.page == 7
    assert found.citations[0].quote == "The café of Zoë 😀 sells madeleines."


def test_a_passage_without_pages_cites_none(match):
    (citation,) = match(QUERY, "The bridge opened in 1932.", [SYDNEY]).citations
    assert citation.page is None


def test_only_kept_sentences_are_cited(match):
    answer = "Granite for its pylons came from Moruya."
    pieces = [span.of(SYDNEY.text) for span in SYDNEY.sentences]
    assert match(QUERY, answer, [passage_of(*pieces, kept={0, 2})]).abstained
    assert not match(QUERY, answer, [passage_of(*pieces, kept={1})]).abstained
    assert match(QUERY, answer, [passage_of(*pieces, kept=set())]).abstained


def test_numbers_follow_first_use_and_a_passage_keeps_its_own(match):
    other = passage_of("Apples ripen in autumn orchards.", name="q")
    answer = (
        "Apples ripen in autumn orchards. Granite for its pylons came from Moruya. "
        "Ferries cross under it all day. Apples ripen in autumn orchards."
    )
    found = match(QUERY, answer, [SYDNEY, other])
    assert [(c.number, c.passage_id) for c in found.citations] == [
        (1, "q"), (2, "p"), (2, "p"), (1, "q"),
    ]  # fmt: skip
    assert found.citations[1].quote != found.citations[2].quote
    assert [c.answer_start for c in found.citations] == sorted(
        c.answer_start for c in found.citations
    )


def test_of_two_that_say_the_same_the_better_passage_is_cited(match):
    text = "Granite for its pylons came from Moruya."
    first, second = passage_of(text, name="z"), passage_of(text, name="a")
    (citation,) = match(QUERY, text, [first, second]).citations
    assert citation.passage_id == "z"


def test_each_mark_stands_after_its_sentence(match):
    answer = "Granite came from Moruya. Zebras graze quietly. Ferries cross under it."
    found = match(QUERY, answer, [SYDNEY])
    assert marked(answer, found.citations, found.unsupported) == (
        "Granite came from Moruya. [1] Zebras graze quietly. [unsupported] "
        "Ferries cross under it. [1]"
    )
    assert marked("As it is.", (), ()) == "As it is."


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
@pytest.mark.parametrize("name", ["threshold", "lexical_weight"])
def test_numbers_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=rf"{name} must be in \[0, 1\], got {value}"):
        SupportMatcher(**{name: value})


MORUYA = "Granite for its pylons came from Moruya."
QUARRY = passage_of(MORUYA, name="z")


def shares(**of):
    """The same shares of attention for every sentence of an answer."""
    return lambda _: [Attention(name, share) for name, share in of.items()]


def test_of_several_that_support_the_one_looked_at_is_cited(match):
    for looked, cited in (({"p": 0.9, "z": 0.1}, "p"), ({"p": 0.1, "z": 0.9}, "z")):
        (citation,) = match(QUERY, MORUYA, [SYDNEY, QUARRY], shares(**looked)).citations
        assert (citation.passage_id, citation.quote) == (cited, MORUYA)


def test_attention_is_asked_for_each_sentence_where_it_stands(match):
    asked = []

    def looked(span):
        asked.append(span)
        return [Attention("z" if len(asked) == 2 else "p", 1.0)]

    answer = f" {MORUYA}  {MORUYA} {MORUYA}"
    found = match(QUERY, answer, [SYDNEY, QUARRY], looked)
    assert [(span.start, span.of(answer)) for span in asked] == [
        (1, MORUYA),
        (len(MORUYA) + 3, MORUYA),
        (2 * len(MORUYA) + 4, MORUYA),
    ]
    assert [(c.passage_id, c.number) for c in found.citations] == [("p", 1), ("z", 2), ("p", 1)]


def test_attention_makes_nothing_support_that_does_not(match):
    sure = replace(match, attention_weight=100.0)
    away = shares(z=0.01, q=0.99)
    other = passage_of("Apples ripen in autumn orchards.", name="q")
    (citation,) = sure(QUERY, MORUYA, [other, QUARRY], away).citations
    assert citation.passage_id == "z"
    assert sure(QUERY, "Zebras graze quietly.", [other, QUARRY], away).abstained
    assert sure(QUERY, MORUYA, [passage_of(MORUYA, name="q", kept=set())], away).abstained


def test_a_citation_keeps_the_score_of_its_support(match):
    answer = "Granite came from Moruya by ship."
    (with_it,) = match(QUERY, answer, [QUARRY], shares(z=1.0)).citations
    (without,) = match(QUERY, answer, [QUARRY]).citations
    assert with_it == without


def test_more_support_outweighs_some_attention_and_less_support_much():
    match = SupportMatcher(threshold=0.4, attention_weight=1.0)
    half = passage_of("Granite came by ship.", name="q")
    answer = "Granite came from Moruya."

    def cited(share):
        looked = shares(q=share, z=1 - share)
        return match(QUERY, answer, [half, QUARRY], looked).citations[0].passage_id

    assert (cited(0.6), cited(0.7)) == ("z", "q"), "support is 2/3 and 1"


@pytest.mark.parametrize("looked", [None, shares(), shares(p=0.5, z=0.5), shares(other=1.0)])
def test_attention_that_prefers_nothing_changes_nothing(match, looked):
    answer = f"{MORUYA} Ferries cross under it all day. Zebras graze."
    passages = [QUARRY, SYDNEY]
    assert match(QUERY, answer, passages, looked) == match(QUERY, answer, passages)


def test_a_weight_of_zero_is_as_without_attention(match):
    deaf = replace(match, attention_weight=0.0)
    passages = [SYDNEY, QUARRY]
    looked = shares(p=0.0, z=1.0)
    assert deaf(QUERY, MORUYA, passages, looked) == match(QUERY, MORUYA, passages)
    assert match(QUERY, MORUYA, passages, looked) != match(QUERY, MORUYA, passages)


@pytest.mark.parametrize("value", [-0.1, float("nan")])
def test_a_negative_weight_is_refused(value):
    with pytest.raises(ValueError, match=f"attention_weight must be at least 0, got {value}"):
        SupportMatcher(attention_weight=value)
