"""A language model that says what a test wrote down, and counts how often it is asked."""

import pytest

from rag.records import Citation, Completion, Passage, Span


class ScriptedModel:
    """Gives the scripted continuations in turn, the last one for ever; keeps what it was asked."""

    name = "scripted"
    fingerprint = "scripted"

    def __init__(self, *script, finish="stop", yes_no=None):
        self.script = list(script)
        self.finish = finish
        self.yes_no = yes_no
        self.calls = []
        self.options = []

    @property
    def prompts(self):
        return [prompt for call in self.calls for prompt in call]

    def complete(self, prompts, **options):
        self.calls.append(list(prompts))
        self.options.append(options)
        return [self._next() for _ in prompts]

    def logprobs(self, prompt, continuations):
        if self.yes_no is None:
            raise NotImplementedError("this model does not tell")
        self.calls.append([prompt])
        assert continuations == (" yes", " no")
        return list(self.yes_no)

    def _next(self):
        said = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        return said if isinstance(said, Completion) else Completion(said, finish=self.finish)


@pytest.fixture
def scripted():
    """Return a function (*continuations, finish=, yes_no=) -> a text model that says them."""
    return ScriptedModel


@pytest.fixture
def passage():
    """Return a function (id, text, **fields) -> passage of one sentence."""

    def build(id_, text="A text.", **fields):
        whole = Span(0, len(text))
        return Passage(id_, f"doc-{id_}", text, whole, (whole,), **fields)

    return build


@pytest.fixture
def cited():
    """Return a function (passage id, start, end) -> citation of these characters of an answer."""

    def build(passage_id, start, end, quote_start=0, number=1):
        span = (quote_start, quote_start + 5)
        return Citation(number, passage_id, "doc", *span, "quote", start, end, 1.0)

    return build
