"""What of a passage is read: rows of words by definition, narrowed texts, selections that are off."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.generation.context_plan import (
    ContextPlan,
    by_sentence,
    foreign,
    keeps,
    kept_pieces,
    narrowed,
    whole_sentences,
)
from rag.generation.prompt import PromptEncoder, PromptTemplate, sentence_piece
from rag.generation.readable import absent, readable
from rag.protocols import Lookup
from rag.records import (
    ContextStep,
    ModelIdentity,
    Passage,
    Query,
    Selection,
    SentenceScore,
    Span,
    text_sha,
)

TEMPLATE = PromptTemplate(
    prefix="Answer.\n\n", header="# {title}:", closing="\n\n", question="Q: {question}\nA:"
)
PIECES = (
    "The yield  checks. ",
    "A\tyield is lazy — 日本 😀.\n",
    "    code(x)\n      y = 1\n\n",
    "End",
)
WORD = re.compile(r"\S+\s*|\s+")


def passage_of(*pieces):
    spans, at = [], 0
    for piece in pieces:
        spans.append(Span(at, at + len(piece)))
        at += len(piece)
    return Passage("p", "d", "".join(pieces), Span(0, at), tuple(spans), title="T")


def selected(passage, spans, kept, unit="word"):
    scores = tuple(SentenceScore(s, 0.5, kept=n in kept) for n, s in enumerate(spans))
    selection = Selection(passage.id, text_sha(passage.text), scores, "test", unit=unit)
    return replace(passage, kept=selection)


def words_of(passage):
    return [Span(*match.span()) for match in WORD.finditer(passage.text)]


PASSAGE = passage_of(*PIECES)
WORDS = words_of(PASSAGE)
SUBSETS = st.sets(st.integers(0, len(WORDS) - 1))


@pytest.fixture(scope="module")
def prompt(tiny_tokenizer):
    identity = ModelIdentity("tiny", "weights", "rope", "float32", "tokenizer")
    return PromptEncoder(tiny_tokenizer, identity, TEMPLATE)


def rows_by_definition(prompt, passage, segment):
    """Decode each token to find which letter it ends with: slow, and without any offsets.

    White space is no letter, and pieces change nothing but white space; a token of it alone goes
    with the letter after it.
    """
    kept = {at for span in passage.kept.spans for at in range(span.start, span.end)}
    rows = set()
    for sentence, (first, last) in zip(passage.sentences, segment.sentence_rows, strict=True):
        letters = [at for at in range(sentence.start, sentence.end) if passage.text[at].strip()]
        seen = b""
        for row in range(first, last):
            token = prompt.tokenizer.convert_ids_to_tokens(segment.token_ids[row])
            mapping = {c: b for b, c in bytes_to_characters().items()}
            own = bytes(mapping[c] for c in token)
            seen += own
            whole = seen.decode("utf-8", "ignore")
            complete = whole.encode() == seen
            count = sum(bool(c.strip()) for c in whole)
            # A token that ends inside of a letter, or in white space, goes with the one to come.
            inside = not complete or not own[-1:].strip()
            at = count if inside else count - 1
            if letters[min(at, len(letters) - 1)] in kept:
                rows.add(row)
    return rows


def bytes_to_characters():
    """The table of byte-level BPE: printable bytes are themselves, the others come after 255."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {byte: chr(byte) for byte in plain}
    rest = [byte for byte in range(256) if byte not in table]
    return table | {byte: chr(256 + n) for n, byte in enumerate(rest)}


@given(kept=SUBSETS.filter(bool))
def test_a_token_is_kept_if_its_last_character_is(prompt, kept):
    passage = selected(PASSAGE, WORDS, kept)
    segment = prompt.passage(passage, prompt.prefix())
    rows = prompt.rows_of_spans(passage, segment, passage.kept.spans)
    first, last = segment.sentence_rows[0][0], segment.sentence_rows[-1][1]
    frame = {*range(first), *range(last, len(segment))}
    assert set(rows) == frame | rows_by_definition(prompt, passage, segment)
    assert list(rows) == sorted(rows)


def test_words_are_read_as_they_stand_in_the_cached_text(prompt):
    passage = selected(PASSAGE, WORDS, {n for n, w in enumerate(WORDS) if w.of(PASSAGE.text).strip()
                                        in ("yield", "lazy", "code(x)", "End")})  # fmt: skip
    one = readable(prompt, passage, prompt.prefix())
    segment, rows = one.cached
    shown = prompt.text(tuple(segment.token_ids[row] for row in rows))
    assert shown == "# T: yield yield lazy\n    code(x) End\n\n"
    assert prompt.text(one.text[0].token_ids) == "# T: yield yield lazy code(x) End\n\n"
    assert not one.refused


@given(kept=SUBSETS)
def test_text_of_words_is_the_same_for_every_generator(prompt, kept):
    passage = selected(PASSAGE, WORDS, kept)
    if not "".join(kept_pieces(passage)).strip():
        return
    segment = prompt.kept_text(passage, prompt.prefix())
    shown = TEMPLATE.render(Query("?"), [narrowed(passage)])
    assert shown == f"Answer.\n\n{prompt.text(segment.token_ids)}Q: ?\nA:"
    assert len(segment.sentence_rows) == len(passage.sentences)
    letters = "".join(span.of(passage.text) for span in passage.kept.spans).split()
    assert "".join(narrowed(passage).text.split()) == "".join(letters)


def test_all_words_are_all_rows(prompt):
    passage = selected(PASSAGE, WORDS, set(range(len(WORDS))))
    assert readable(prompt, passage, prompt.prefix()).cached[1] is None
    sentences = selected(PASSAGE, PASSAGE.sentences, {0, 1, 2, 3}, "sentence")
    assert readable(prompt, sentences, prompt.prefix()).cached[1] is None


@given(kept=st.sets(st.integers(0, 3), min_size=1))
def test_rows_of_kept_sentences_are_the_tokens_of_the_pruned_text(prompt, kept):
    passage = selected(PASSAGE, PASSAGE.sentences, kept, "sentence")
    segment, rows = readable(prompt, passage, prompt.prefix()).cached
    read = segment.token_ids if rows is None else tuple(segment.token_ids[row] for row in rows)
    assert read == prompt.kept_text(passage, prompt.prefix()).token_ids
    # The rule for words comes to the same rows.
    by_character = prompt.rows_of_spans(passage, segment, passage.kept.spans)
    assert by_character == (tuple(range(len(segment))) if rows is None else rows)


def test_other_sentences_than_the_passages_own_are_read_by_their_characters(prompt):
    halves = Span(0, 10), Span(10, len(PASSAGE.text))
    passage = selected(PASSAGE, halves, {0}, "sentence")
    assert not by_sentence(passage)
    segment, rows = readable(prompt, passage, prompt.prefix()).cached
    assert prompt.text(tuple(segment.token_ids[row] for row in rows)) == "# T: The yield\n\n"


def test_part_of_a_token_is_text(prompt, tiny_tokenizer):
    text = "It is the."
    (piece,) = prompt._plain([sentence_piece(text)])
    token = next(t for t in map(tiny_tokenizer.decode, [[i] for i in piece]) if len(t.strip()) > 1)
    at = text.index(token.strip())
    spans = [Span(0, at), Span(at, at + 1), Span(at + 1, len(text))]
    begun = selected(passage_of(text), spans, {1})
    one = readable(prompt, begun, prompt.prefix())
    assert one.refused == "no token tells which words it holds"
    assert prompt.text(one.text[0].token_ids) == f"# T: {text[at]}\n\n"


def test_a_tokenizer_without_offsets_is_text(prompt, monkeypatch):
    passage = selected(PASSAGE, WORDS, {0})
    slow = PromptEncoder(Slow(prompt.tokenizer), prompt.identity, TEMPLATE)
    one = readable(slow, passage, slow.prefix())
    assert one.refused
    assert one.cached[1] is None
    assert prompt.text(one.text[0].token_ids) == "# T: The\n\n"


class Slow:
    """A tokenizer that does not tell where its tokens are."""

    is_fast = False

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer

    def __getattr__(self, name):
        return getattr(self._tokenizer, name)

    def __call__(self, *args, **options):
        assert "return_offsets_mapping" not in options
        return self._tokenizer(*args, **options)


def test_a_selection_of_another_text_is_refused_and_all_is_read(prompt):
    old = replace(selected(PASSAGE, WORDS, {0}).kept, text_sha=text_sha("older"))
    passage = replace(PASSAGE, kept=old)
    assert foreign(passage)
    assert keeps(passage)
    one = readable(prompt, passage, prompt.prefix())
    assert "another text" in one.refused
    assert one.text == (prompt.passage(PASSAGE, prompt.prefix()), None)
    assert narrowed(passage) == whole_sentences(passage) == PASSAGE
    assert prompt.kept_text(passage, prompt.prefix()) == one.text[0]


def test_nothing_kept_is_nothing_to_read(prompt):
    gone = selected(PASSAGE, PASSAGE.sentences, set(), "sentence")
    assert not keeps(gone)
    assert not keeps(replace(PASSAGE, text="", span=Span(0, 0), sentences=()))
    assert keeps(PASSAGE)


def test_a_sentence_is_kept_if_a_word_of_it_is(prompt):
    where = [n for n, word in enumerate(WORDS) if word.start >= PASSAGE.sentences[1].start]
    passage = selected(PASSAGE, WORDS, {0, where[-1]})
    coarse = whole_sentences(passage)
    assert coarse.kept_rows == (0, 3)
    assert coarse.kept.unit == "sentence"
    assert [s.span for s in coarse.kept.sentences] == list(PASSAGE.sentences)
    assert whole_sentences(PASSAGE) is PASSAGE
    sentences = selected(PASSAGE, PASSAGE.sentences, {1}, "sentence")
    assert whole_sentences(sentences) is narrowed(sentences) is sentences


def test_a_passage_after_no_prefix_has_no_parent(prompt):
    one = readable(prompt, PASSAGE, prompt.prefix(), see_prefix=False, anew="why")
    assert one.cached[0].parents == ()
    assert one.anew == "why"


class Cache:
    def __init__(self, kv=None, reason="absent"):
        self.kv, self.reason = kv, reason

    def get(self, segment):
        return Lookup(self.kv, self.reason)


class Knowing(Cache):
    def contains(self, segment):
        return self.kv is not None

    def get(self, segment):
        raise AssertionError("it was only asked whether it has the segment")


def test_a_store_says_what_it_has_and_loads_nothing_if_it_can(prompt):
    segment = prompt.prefix()
    assert absent(None, segment) == "no store"
    assert absent(Cache(object()), segment) == ""
    assert absent(Cache(None, "corrupt: checksum"), segment) == "corrupt: checksum"
    assert absent(Knowing(object()), segment) == ""
    assert absent(Knowing(), segment) == "absent"


def test_as_text_gives_what_the_steps_say(prompt):
    words = selected(PASSAGE, WORDS, {0, 1})
    read = [readable(prompt, one, prompt.prefix()) for one in (words, PASSAGE)]
    steps = ContextStep("p", "rows", ""), ContextStep("p", "full", "")
    assert ContextPlan(tuple(read), steps).as_text() == [narrowed(words), PASSAGE]
    assert narrowed(words).text == "The yield  "
