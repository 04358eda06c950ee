"""Generation with any text model: what it reads, what is kept of its reply, and what is counted."""

import time
from dataclasses import replace

import pytest

from rag.generation.cached import GenerateCached
from rag.generation.citations import SupportMatcher
from rag.generation.decoding import Sampling
from rag.generation.local_model import LocalModel
from rag.generation.templates import TEMPLATES, PromptTemplate
from rag.generation.text_generator import GenerateText
from rag.models.openai_compatible import OpenAICompatibleModel
from rag.models.reply import Reply
from rag.records import (
    Answer,
    Completion,
    Passage,
    Query,
    Selection,
    SentenceScore,
    Span,
    TokenUse,
    text_sha,
)
from rag.text import split_sentences

QUERY = Query("How are apples  kept?")


def passage_of(name, text, kept=None):
    spans = split_sentences(text)
    passage = Passage(name, f"{name}.md", text, Span(0, len(text)), spans, title=name.title())
    if kept is None:
        return passage
    scores = tuple(SentenceScore(s, 0.5, kept=row in kept) for row, s in enumerate(spans))
    return replace(passage, kept=Selection(name, text_sha(text), scores, "test"))


PASSAGES = [
    passage_of("apples", "Apples are kept in straw. They are red.", kept=(0,)),
    passage_of("gone", "Nothing of this stays.", kept=()),
    passage_of("bridges", "A bridge spans a river."),
]
ANSWER = "Apples are kept in straw."


class Streaming:
    """A text model that says its pieces one by one, and takes note of whether it was closed."""

    name, fingerprint = "streaming", "s"

    def __init__(self, *pieces, finish="stop", wait_s=0.0):
        self.pieces, self.finish, self.wait_s = pieces, finish, wait_s
        self.closed = False

    def complete(self, prompts, **options):
        raise AssertionError("it can stream")

    def logprobs(self, prompt, continuations):
        raise NotImplementedError

    def stream(self, prompt, **options):
        self.held = self._said()  # so that it is not closed by being forgotten
        return self.held

    def _said(self):
        try:
            for piece in self.pieces:
                yield piece
                time.sleep(self.wait_s)
            yield Reply(
                "".join(self.pieces).strip(), finish=self.finish, use=TokenUse(30, 0, 30, 5)
            )
        finally:
            self.closed = True


def answered(generate, passages=PASSAGES):
    *shown, answer = generate.stream(QUERY, passages)
    assert "".join(shown) == answer.text
    assert all(shown), "an empty piece says nothing"
    assert replace(generate(QUERY, passages), timings_ms={}) == replace(answer, timings_ms={})
    return answer


def test_an_answer_with_everything_that_a_cached_one_has(scripted):
    lm = scripted(f" {ANSWER}\nQuestion: no")
    answer = answered(GenerateText(lm))
    assert answer.text == ANSWER
    assert answer.passages == tuple(PASSAGES)
    (citation,) = answer.citations
    assert (citation.passage_id, citation.quote) == ("apples", ANSWER)
    assert (answer.abstained, answer.unsupported) == (False, ())
    assert (answer.mode, answer.model, answer.finish) == ("sequential", "scripted", "stop")
    assert answer.prompt == lm.prompts[0] == PromptTemplate().render(QUERY, PASSAGES)
    assert answer.prompt.index("A bridge spans") < answer.prompt.index(ANSWER), "best last"
    assert "They are red" not in answer.prompt
    assert "Nothing of this" not in answer.prompt
    assert answer.prompt.endswith("Question: How are apples kept?\nAnswer:")
    assert answer.tokens == TokenUse(0, 0, 0, 0)
    assert (answer.cache.hits, answer.cache.misses, answer.cache.bytes) == (0, 0, 0)
    assert answer.cache.reasons == dict.fromkeys(
        ("apples", "bridges"), "not cached: scripted is remote"
    )
    assert set(answer.timings_ms) == {"kv", "ttft", "decode"}


def test_the_model_is_asked_as_the_sampling_says(scripted):
    lm = scripted("x")
    GenerateText(lm, sampling=Sampling(9, 0.5, 3))(QUERY, PASSAGES)
    (options,) = lm.options
    assert options == {
        "max_tokens": 9, "temperature": 0.5, "seed": 3, "stop": ["\nTitle:", "\nQuestion:"],
    }  # fmt: skip


@pytest.mark.parametrize("passages", [[], [PASSAGES[1]]])
def test_with_nothing_to_read_the_model_is_not_asked(scripted, passages):
    lm = scripted("never")
    answer = answered(GenerateText(lm), passages)
    assert answer.abstained
    assert (answer.text, answer.passages, answer.model) == ("", tuple(passages), "scripted")
    assert lm.calls == []


def test_an_answer_that_nothing_supports_abstains(scripted):
    answer = answered(GenerateText(scripted("Zebras graze quietly.")))
    assert answer.abstained
    assert answer.unsupported == (Span(0, 21),)
    for threshold, abstains in ((0.9, True), (0.1, False)):
        support = SupportMatcher(threshold=threshold)
        generate = GenerateText(scripted("Straw and zebras."), support=support)
        assert generate(QUERY, PASSAGES).abstained is abstains


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("Answer: in straw", "in straw"),
        ("\n\nANSWER:in straw", "in straw"),
        ("**Answer:** in straw", "in straw"),
        ("Answer:\nin straw\nmore", "in straw"),
        ("Answers: many", "Answers: many"),
        ("The answer: straw", "The answer: straw"),
        ("Answer: Answer: x", "Answer: x"),
        ("An", "An"),
        ("A\nB", "A"),
        ("answer", "answer"),
        ("Answer:", ""),
        ("", ""),
        (" \n", ""),
        ("**straw**", "**straw**"),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 5, 50])
def test_the_word_answer_before_it_is_left_out_however_it_comes(said, text, size):
    pieces = [said[at : at + size] for at in range(0, len(said), size)]
    assert answered(GenerateText(Streaming(*pieces))).text == text


def test_a_stream_is_shown_as_it_comes_counted_and_timed():
    lm = Streaming("Apples are ", "kept in", " straw.", wait_s=0.02)
    answer = None
    seen = []
    for event in GenerateText(lm).stream(QUERY, PASSAGES):
        if isinstance(event, Answer):
            answer = event
        else:
            seen.append(event)
            assert not lm.closed or "straw" in event
    assert seen == ["Apples are", " kept in", " straw."]
    assert answer.tokens == TokenUse(30, 0, 30, 5)
    assert answer.timings_ms["kv"] == 0
    assert answer.timings_ms["decode"] > 30 > answer.timings_ms["ttft"]
    assert len(answer.citations) == 1


def test_a_reply_that_goes_on_is_cut_and_the_request_ended():
    lm = Streaming("in straw", "\n", "and", " more", finish="length")
    (shown, answer) = GenerateText(lm).stream(QUERY, PASSAGES)
    assert (shown, answer.text, answer.finish) == ("in straw", "in straw", "stop")
    assert lm.closed
    assert answer.tokens == TokenUse(0, 0, 0, 0), "nobody told"


def test_leaving_early_ends_the_request():
    lm = Streaming("Apples are kept", " in", " straw")
    events = GenerateText(lm).stream(QUERY, PASSAGES)
    assert next(events) == "Apples are kept"
    events.close()
    assert lm.closed


@pytest.mark.parametrize("finish", ["stop", "length", ""])
def test_why_it_ended_is_what_the_model_says(scripted, finish):
    assert GenerateText(scripted("in straw", finish=finish))(QUERY, PASSAGES).finish == finish
    assert GenerateText(Streaming("in straw", finish=finish))(QUERY, PASSAGES).finish == finish


def test_texts_that_end_an_answer_may_be_added(scripted):
    generate = GenerateText(scripted("in straw; dry"), sampling=Sampling(stop=(";",)))
    assert generate(QUERY, PASSAGES).text == "in straw"


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_prompt_is_one_text_with_question_and_kept_sentences(scripted, name):
    lm = scripted("in straw")
    answer = answered(GenerateText(lm, TEMPLATES[name]))
    assert lm.prompts[0] == answer.prompt
    assert answer.prompt.count(ANSWER) == answer.prompt.count("How are apples kept?") == 1
    assert "They are red" not in answer.prompt
    assert answer.text == "in straw"


def test_of_a_chat_the_instruction_stands_before_the_passages(scripted):
    prompt = GenerateText(scripted("x"), TEMPLATES["chat"]).prompt_text(QUERY, PASSAGES)
    instruction, opening, *_ = prompt.split("\n\n")
    assert instruction == TEMPLATES["chat"].prefix
    assert opening == "Passages:"
    assert prompt.endswith("Question: How are apples kept?")


def test_a_model_that_runs_here_reads_the_same_text_as_in_mode_sequential(checkpoint):
    lm = LocalModel.open(str(checkpoint), "float64")
    here = GenerateCached(lm.engine(), lm.prompt, mode="sequential", sampling=Sampling(8))
    there = GenerateText(lm, lm.prompt.template, Sampling(8))
    ours, theirs = here(QUERY, PASSAGES), there(QUERY, PASSAGES)
    assert theirs.prompt == ours.prompt.removeprefix("<s>")
    assert theirs.mode == ours.mode


def test_over_a_service(service):
    service.says(f"Answer: {ANSWER}", usage=(210, 8), pieces=3)
    lm = OpenAICompatibleModel("tiny", service.url)
    answer = answered(GenerateText(lm))
    lm.close()
    assert (answer.text, answer.tokens) == (ANSWER, TokenUse(210, 0, 210, 8))
    assert service.bodies[0]["messages"] == [{"role": "user", "content": answer.prompt}]
    assert len(answer.citations) == 1


@pytest.mark.parametrize(
    ("option", "what"),
    [
        ({"top_k": 5}, "scripted is remote and takes no top_k; it must be 0"),
        ({"top_p": 0.9}, "scripted is remote and takes no top_p; it must be 1.0"),
        ({"min_p": 0.1}, "scripted is remote and takes no min_p; it must be 0.0"),
    ],
)
def test_what_a_text_model_cannot_be_asked_is_an_error(scripted, option, what):
    with pytest.raises(ValueError, match=what):
        GenerateText(scripted("x"), sampling=Sampling(temperature=1.0, **option))


def test_what_is_no_text_model_is_an_error():
    with pytest.raises(ValueError, match=r"^lm must be a text model, .*, got int$"):
        GenerateText(3)


def test_log_probabilities_of_a_completion_change_nothing(scripted):
    told = Completion("in straw", ("in", " straw"), (-1.0, -2.0), "stop")
    assert answered(GenerateText(scripted(told))).text == "in straw"
