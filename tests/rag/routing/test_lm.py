"""Routing by a language model: scores and corrections by hand, the prompt, a real tiny model."""

import math

import pytest

from rag.records import Query
from rag.routing import LMRouter

TOLD = {"pets": ("about animals", "never shown"), "sky": "about the\nsky"}


class Told:
    """A model that says given log-probabilities, by the question at the prompt's end."""

    name = fingerprint = "told"

    def __init__(self, **scores):
        self.scores = scores
        self.prompts = []

    def logprobs(self, prompt, continuations):
        assert continuations == [" pets", " sky"]
        self.prompts.append(prompt)
        question = prompt.rsplit("Question: ", 1)[1].removesuffix("\nSource:")
        return self.scores[question]


LM = {"cat": [-1.0, -2.0], "sun": [-1.0, -1.5], "N/A": [-1.0, -3.0]}


def test_scores_are_a_softmax_over_labels():
    route = LMRouter(Told(**LM), TOLD, correction="none")(Query("cat"))
    assert route.labels == ("pets",)
    assert route.probs["pets"] == pytest.approx(1 / (1 + math.exp(-1)))
    assert (route.source, route.fallback) == ("lm", False)


def test_what_is_favoured_without_content_loses_its_advantage():
    lm = Told(**LM)
    router = LMRouter(lm, TOLD)
    first, second = router.batch(query=[Query("cat"), Query("sun")])
    assert first.labels == second.labels == ("sky",)
    assert first.probs["sky"] == pytest.approx(1 / (1 + math.exp(-1)))
    router(Query("cat"))
    assert sum("N/A" in prompt for prompt in lm.prompts) == 1


def test_the_mean_of_a_batch_is_subtracted():
    router = LMRouter(Told(**LM), TOLD, correction="batch")
    first, second = router.batch([Query("cat"), Query("sun")])
    assert first.labels == ("pets",)
    assert second.labels == ("sky",)
    # differences of 1 and 0.5, less their mean of 0.75
    assert first.probs["pets"] == pytest.approx(1 / (1 + math.exp(-0.25)))
    assert router(Query("cat")).labels == ("pets",)
    assert router.batch([]) == []


def test_the_prompt_lists_labels_and_examples():
    router = LMRouter(Told(), TOLD, {"sky": ["Where is\nit?"]})
    assert router.prompt(" my  cat") == (
        "Which source answers the question?\n\npets: about animals\nsky: about the sky\n\n"
        "Question: Where is it?\nSource: sky\n\nQuestion: my cat\nSource:"
    )


def test_a_local_model_is_asked(checkpoint):
    from rag.generation.local_model import LocalModel

    lm = LocalModel.open(str(checkpoint), "float32")
    router = LMRouter(lm, TOLD, correction="none")
    route = router(Query("cat"))
    scores = lm.logprobs(router.prompt("cat"), [" pets", " sky"])
    assert route.probs["pets"] == pytest.approx(1 / (1 + math.exp(scores[1] - scores[0])))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"descriptions": {"a": "b"}}, r"descriptions must hold at least 2 labels, got \['a'\]"),
        ({"examples": {"x": ["y"]}}, "examples must be of labels pets, sky, got 'x'"),
        ({"correction": "some"}, "correction must be one of none, content_free, batch, got 'some'"),
    ],
)
def test_mistakes_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        LMRouter(Told(), **{"descriptions": TOLD, **options})
