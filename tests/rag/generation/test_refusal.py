"""Refusals: what counts as one, and that such an answer abstains and cites nothing anywhere."""

from dataclasses import replace

import pytest
import torch

from rag.bounds import require_share
from rag.evaluation import Outcome, Question, outcome_metrics
from rag.generation.assemble import AssembleAnswer
from rag.generation.attention_citations import AttentionMatcher
from rag.generation.cached import GenerateCached
from rag.generation.citations import SupportMatcher
from rag.generation.decoding import Sampling
from rag.generation.engine import Engine
from rag.generation.ensemble import GenerateEnsemble
from rag.generation.local_model import LocalModel
from rag.generation.merge_answers import MergeAnswers
from rag.generation.prefilled import Prefilled
from rag.generation.prompt import PromptEncoder
from rag.generation.refusal import REFUSAL, is_refusal, refusing_if_sure
from rag.generation.text_generator import GenerateText
from rag.generation.vote import Vote
from rag.models.language_model import LoadedModel
from rag.records import Answer, Attention, CacheUse, Passage, Query, Span
from rag.text import split_sentences

QUERY = Query("Is the riddle solved?")
# A passage that holds the word would support it as an answer.
TEXT = "The riddle is unanswerable. It is old."
PASSAGE = Passage("p", "d", TEXT, Span(0, len(TEXT)), split_sentences(TEXT), title="Riddle")


@pytest.mark.parametrize(
    "text", ["unanswerable", " Unanswerable.\n", "UNANSWERABLE .", "unanswerable .", REFUSAL]
)
def test_refusals(text):
    assert is_refusal(text)


@pytest.mark.parametrize(
    "text", ["", ".", "unanswerable..", "unanswerable!", "It is unanswerable.", "answerable", "no"]
)
def test_answers(text):
    assert not is_refusal(text)


def abstains(answer, said=REFUSAL):
    assert answer.text == said
    assert (answer.abstained, answer.citations, answer.unsupported) == (True, (), ())


def test_the_word_alone_would_be_cited_and_is_not():
    found = SupportMatcher()(QUERY, REFUSAL, [PASSAGE])
    assert found.citations, "the passage holds the word"
    abstains(found.attached_to(Answer(REFUSAL, (PASSAGE,))))
    answer = found.attached_to(Answer("It is unanswerable.", (PASSAGE,)))
    assert (answer.abstained, answer.citations) == (False, found.citations)


class Scripted(Engine):
    """An engine that reads as ever, and then says what it is told."""

    script = ()

    def decode(self, state, sampling, stop):
        yield from self.script[: sampling.max_tokens]


@pytest.fixture
def saying(tiny_model, tiny_tokenizer, identity):
    def build(text, **options):
        engine = Scripted(tiny_model(max_position_embeddings=4096), identity())
        engine.script = tiny_tokenizer(text, add_special_tokens=False)["input_ids"]
        return GenerateCached(engine, PromptEncoder(tiny_tokenizer, identity()), **options)

    return build


@pytest.mark.parametrize("mode", ["ape", "sequential", "graph"])
def test_a_cached_answer(saying, mode):
    made = saying(f" {REFUSAL}\nQuestion: no", mode=mode)
    answer = made(QUERY, [PASSAGE])
    abstains(answer)
    assert answer.passages == (PASSAGE,)
    assert answer.tokens.prompt > 0
    other = saying(" The riddle is unanswerable.\n", mode=mode)(QUERY, [PASSAGE])
    assert not other.abstained
    assert other.citations


def test_citations_by_attention():
    shares = lambda _: (Attention("p", 0.9, (0.8, 0.1)),)  # noqa: E731
    found = AttentionMatcher()(REFUSAL, [PASSAGE], shares)
    assert found.citations, "the model looked at the passage"
    abstains(found.attached_to(Answer(REFUSAL, (PASSAGE,))))


def test_a_remote_models_answer(scripted):
    abstains(GenerateText(scripted(f"Answer: {REFUSAL}"))(QUERY, [PASSAGE]))


def test_an_ensembles_answer(tiny_model, tiny_tokenizer, identity, monkeypatch):
    ids = tiny_tokenizer(f" {REFUSAL}\n", add_special_tokens=False)["input_ids"]
    monkeypatch.setattr("rag.generation.ensemble.Mixture.decode", lambda *_, **__: iter(ids))
    loaded = LoadedModel(
        tiny_model(dtype=torch.float64, max_position_embeddings=4096),
        tiny_tokenizer,
        identity("float64"),
    )
    abstains(GenerateEnsemble(LocalModel(loaded))(QUERY, [PASSAGE]))


def test_an_assembled_answer():
    abstains(AssembleAnswer()(QUERY, f"No hint. So the answer is: {REFUSAL}.", [PASSAGE]))


def test_refusals_of_parts_are_not_shown_and_a_merged_one_abstains(scripted):
    refused = SupportMatcher()(QUERY, REFUSAL, [PASSAGE]).attached_to(Answer(REFUSAL, (PASSAGE,)))
    said = [Answer("old", (PASSAGE,)), Answer("red", (PASSAGE,)), refused]
    lm = scripted(REFUSAL)
    abstains(MergeAnswers(lm)(QUERY, said))
    facts = lm.prompts[0].rpartition("\n\n")[2]
    assert "Fact: old\nFact: red\nQuestion" in facts


def test_a_refusal_does_not_vote():
    refused = Answer(REFUSAL, (PASSAGE,), abstained=True)
    assert Vote()([refused, refused, Answer("old", (PASSAGE,))]).text == "old"
    abstains(Vote()([refused, refused]))


def test_evaluation_counts_it_as_an_abstention_and_never_as_an_answer():
    refused = SupportMatcher()(QUERY, REFUSAL, [PASSAGE]).attached_to(Answer(REFUSAL, (PASSAGE,)))
    unanswerable = Question("q", QUERY.text, unanswerable=True)
    answerable = Question("r", QUERY.text, (REFUSAL,))
    told, found = outcome_metrics([unanswerable, answerable], [Outcome(answer=refused)] * 2)
    assert told["Abstain"] == 1.0
    assert (found["EM"], found["F1"], found["Abstain"]) == (0.0, 0.0, 1.0)


class Says:
    """An engine that gives the tokens of each text the probabilities that it is told."""

    def __init__(self, *probabilities):
        self.probabilities = dict(probabilities)

    def score(self, state, token_ids):
        return torch.tensor(self.probabilities[token_ids], dtype=torch.float64).log()


def first_logits(*probabilities):
    return Prefilled(torch.tensor(probabilities).log(), None, 5, CacheUse(0, 0, 0, {}), 0.0)


REFUSES = (2, 7, 9)


@pytest.mark.parametrize(
    ("first", "rest", "least", "stays"),
    [
        (0.8, (0.99, 0.98), 0.7, True),  # sure
        (0.6, (0.99, 0.98), 0.7, False),  # not sure enough
        (0.6, (0.99, 0.98), 0.5, True),
        (0.8, (0.9, 0.9), 0.7, False),  # 0.65 as a whole
        (0.6, (0.1, 0.9), 0.7, True),  # another answer that begins alike
        (0.6, (0.99, 0.98), 0.0, True),  # every refusal is believed
    ],
)
def test_a_refusal_is_believed_where_it_is_probable_enough(first, rest, least, stays):
    state = first_logits(0.3, 0.05, first, 0.01)
    found = refusing_if_sure(Says((REFUSES, [first, *rest])), state, [REFUSES], least)
    assert int(found.logits.argmax()) == (2 if stays else 0)
    assert int(state.logits.argmax()) == 2
    others = [0, 1, 3]
    assert torch.equal(found.logits[others], state.logits[others])


def test_an_answer_that_does_not_begin_as_a_refusal_is_not_looked_at():
    state = first_logits(0.5, 0.1, 0.4, 0.0)
    assert refusing_if_sure(None, state, [REFUSES], 0.7) is state


@pytest.mark.parametrize(("least", "best"), [(0.7, 1), (0.55, 2)])
def test_spellings_of_a_refusal_count_together(least, best):
    shouted = (3, 8)
    state = first_logits(0.1, 0.2, 0.4, 0.25)
    engine = Says((REFUSES, [0.4, 1.0, 0.9]), (shouted, [0.25, 0.95]))
    found = refusing_if_sure(engine, state, [REFUSES, shouted], least)
    assert int(found.logits.argmax()) == best


@pytest.mark.parametrize("value", [-0.1, 1.1])
def test_a_threshold_that_is_no_probability_is_refused(value):
    with pytest.raises(ValueError, match=rf"refusal_threshold must be in \[0, 1\], got {value}"):
        require_share("refusal_threshold", value)


def test_answers_alone_in_a_batch_and_several_doubt_refusals_alike(
    tiny_model, tiny_tokenizer, identity, monkeypatch
):
    adapted = replace(identity("float64"), adapter="a" * 64)
    model = tiny_model(dtype=torch.float64, max_position_embeddings=4096)
    engine = Engine(model, adapted)
    made = GenerateCached(
        engine, PromptEncoder(tiny_tokenizer, adapted), mode="ape", sampling=Sampling(4)
    )
    plain = made(QUERY, [PASSAGE]).text
    best = int(engine.prefill(made.plan(QUERY, [PASSAGE])).logits.argmax())
    # What the model says first is taken for a refusal that it is not sure of.
    monkeypatch.setattr(PromptEncoder, "refusals", property(lambda _: [(best,)]))
    doubted = made(QUERY, [PASSAGE])
    assert doubted.text != plain
    assert made.batch(query=[QUERY], passages=[[PASSAGE]])[0].text == doubted.text
    assert made.several(QUERY, [PASSAGE], 1)[0].text == doubted.text
    assert replace(made, refusal_threshold=0.0)(QUERY, [PASSAGE]).text == plain
    other = Engine(model, identity("float64"), tested=True)
    untaught = GenerateCached(
        other, PromptEncoder(tiny_tokenizer, identity("float64")), mode="ape", sampling=Sampling(4)
    )
    assert untaught(QUERY, [PASSAGE]).text == plain
