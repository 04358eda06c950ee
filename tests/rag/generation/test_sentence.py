"""The next sentence: exactly one, with its own tokens, from any text model."""

import pytest

from rag.generation.sentence import GenerateSentence, first_sentence
from rag.generation.templates import THOUGHT, PromptTemplate
from rag.records import Completion, Passage, Query, Span
from rag.text import split_sentences

QUERY = Query("What is  lazy?")


class Told:
    """A text model that says what it is told, and remembers what it was asked."""

    name, fingerprint = "told", "t"

    def __init__(self, *says):
        self.says = list(says)
        self.asked = []

    def complete(self, prompts, **options):
        self.asked += [(prompt, options) for prompt in prompts]
        return [self.says.pop(0) for _ in prompts]


def completion(*tokens, finish="stop"):
    logprobs = tuple(-float(n) for n in range(1, len(tokens) + 1))
    return Completion("".join(tokens).strip(), tokens, logprobs, finish)


def passage_of(name, text):
    return Passage(name, "d", text, Span(0, len(text)), split_sentences(text), title=name)


PASSAGES = [passage_of("yield", "A yield is lazy. It waits."), passage_of("b", "Nothing.")]


def test_one_sentence_with_its_tokens_and_more_to_come():
    lm = Told(completion(" A", " yield", " is", " lazy", ".", " It", " waits", "."))
    found = GenerateSentence(lm)(QUERY, PASSAGES)
    assert found == Completion(
        "A yield is lazy.", (" A", " yield", " is", " lazy", "."), (-1, -2, -3, -4, -5), ""
    )


@pytest.mark.parametrize("finish", ["stop", "length"])
def test_the_last_sentence_tells_why_it_ended(finish):
    found = first_sentence(completion(" It", " waits", finish=finish))
    assert (found.text, found.finish) == ("It waits", finish)
    assert found.logprobs == (-1, -2)


def test_a_token_that_holds_both_sentences_is_cut():
    found = first_sentence(completion(" Lazy", ". It", " waits."))
    assert (found.text, found.tokens, found.logprobs) == ("Lazy.", (" Lazy", "."), (-1, -2))


def test_white_space_before_the_sentence_has_no_probability_in_it():
    found = first_sentence(completion(" ", "\n", " Lazy", "."))
    assert (found.tokens, found.logprobs) == ((" Lazy", "."), (-3, -4))


def test_a_character_of_several_tokens_keeps_all_their_probabilities():
    found = first_sentence(completion(" ", "", "", "日本。", "次"))
    assert (found.text, found.tokens, found.logprobs) == (
        "日本。",
        ("", "", "日本。"),
        (-2, -3, -4),
    )


def test_a_dot_inside_an_abbreviation_ends_no_sentence():
    assert first_sentence(completion("See Dr. Smith. He knows.")).text == "See Dr. Smith."


@pytest.mark.parametrize("finish", ["stop", "length"])
def test_a_model_that_stops_gives_an_empty_text(finish):
    assert first_sentence(completion(" ", finish=finish)) == Completion("", finish=finish)
    assert first_sentence(Completion("", finish=finish)) == Completion("", finish=finish)


def test_a_model_without_probabilities_gives_the_text_alone():
    found = first_sentence(Completion("Lazy. It waits.", finish="stop"))
    assert found == Completion("Lazy.")


def test_the_model_reads_the_template_and_goes_on_after_what_is_begun():
    lm = Told(completion(" It", "."))
    GenerateSentence(lm, max_tokens=7, temperature=0.5, seed=3, stop=("\n", "#"))(
        QUERY, PASSAGES, "Lazy. "
    )
    ((prompt, options),) = lm.asked
    assert prompt == PromptTemplate().render(QUERY, PASSAGES, "Lazy.")
    assert prompt.endswith("Question: What is lazy?\nAnswer: Lazy.")
    assert prompt.index("Nothing.") < prompt.index("A yield is lazy. It waits.")
    assert options == {"max_tokens": 7, "temperature": 0.5, "seed": 3, "stop": ("\n", "#")}


def test_without_passages_the_model_answers_from_memory():
    lm = Told(completion(" Lazy."))
    assert GenerateSentence(lm)(QUERY, []).text == "Lazy."
    assert lm.asked[0][0] == PromptTemplate().prefix + "Question: What is lazy?\nAnswer:"


def test_a_thought_reads_worked_chains_of_thought():
    lm = Told(completion(" A thought."))
    GenerateSentence(lm, style="thought")(QUERY, PASSAGES)
    assert lm.asked[0][0] == THOUGHT.render(QUERY, PASSAGES)
    assert lm.asked[0][0].count("So the answer is: ") == 2


@pytest.mark.parametrize("mark", ["So the answer is:", "so the answer is", "The answer is:"])
def test_a_thought_that_has_its_answer_is_complete(mark):
    lm = Told(completion(" More."), completion(" Paris."))
    generate = GenerateSentence(lm, style="thought")
    assert generate(QUERY, PASSAGES, f"It is. {mark} Paris.") == Completion("", finish="stop")
    assert lm.asked == []
    assert generate(QUERY, PASSAGES, f"It is. {mark}").text == "More."
    assert GenerateSentence(lm)(QUERY, PASSAGES, f"It is. {mark} Paris.").text == "Paris."


def test_a_batch_equals_a_loop_and_asks_once():
    says = [completion(" One. Two."), completion(" Three", finish="length"), completion(" ")]
    queries = [Query(f"Which {n}?") for n in range(4)]
    texts = ["", "Begun.", "So the answer is: 4.", "Two."]
    passages = [PASSAGES, [], PASSAGES, PASSAGES[:1]]
    lm = Told(*says)
    together = GenerateSentence(lm, style="thought").batch(
        query=queries, passages=passages, text=texts
    )
    alone = Told(*says)
    loop = [
        GenerateSentence(alone, style="thought")(*item)
        for item in zip(queries, passages, texts, strict=True)
    ]
    assert together == loop
    assert [text for text, _ in lm.asked] == [text for text, _ in alone.asked]
    assert [c.text for c in together] == ["One.", "Three", "", ""]
    assert GenerateSentence(Told(says[0])).batch(query=queries[:1], passages=[[]])[0].text == "One."
    assert GenerateSentence(Told()).batch(query=[], passages=[]) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"style": "poem"}, "style must be one of answer, thought, got 'poem'"),
        ({"max_tokens": 0}, "max_tokens must be at least 1, got 0"),
        ({"temperature": -1.0}, "temperature must be at least 0, got -1.0"),
    ],
)
def test_refuses_what_makes_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        GenerateSentence(Told(), **options)
