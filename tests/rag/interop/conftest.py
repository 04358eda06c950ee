"""Small stand-ins with answers that can be worked out by hand, and a recorder of callbacks."""

import asyncio
import hashlib
import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest

pytest.importorskip("langchain_core")

from langchain_core.callbacks import BaseCallbackHandler

from rag.records import (
    Answer,
    Completion,
    Passage,
    Query,
    Selection,
    SentenceScore,
    Span,
    text_sha,
)
from rag.text import split_sentences


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Run LangChain's asynchronous tests, which carry no mark, whatever plugin is installed."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


def passage(own_id, text, **others):
    return Passage(
        own_id, f"{own_id}.md", text, Span(0, len(text)), split_sentences(text), **others
    )


PASSAGES = (
    passage("bread", "Yeast makes dough rise. Bread is baked hot.", title="Bread", score=0.9),
    passage("chess", "Castling moves the king.", score=0.5, page=3),
    passage("reef", "The reef is long. It lies in the sea. Corals built it.", score=0.25),
)


@dataclass(frozen=True)
class Shelf:
    """Retriever that always gives its passages, best first."""

    passages: tuple[Passage, ...] = PASSAGES
    top_k: int = 3

    def __call__(self, query: Query) -> list[Passage]:
        return list(self.passages[: self.top_k])


class WordTokens:
    """Stands for a tokenizer: a token a word."""

    def whole(self, text):
        return tuple(range(len(text.split())))


class LengthModel:
    """Text model that replies with the prompt's last line and its length, a token a word."""

    prompt = WordTokens()

    name = "length"
    fingerprint = "f" * 64

    def __init__(self, reply="{last} has {n} letters."):
        self.reply = reply
        self.calls = []

    def complete(self, prompts, *, max_tokens=64, stop=(), temperature=0.0, seed=0):
        self.calls.append((list(prompts), max_tokens, tuple(stop), temperature, seed))
        return [self._completion(prompt) for prompt in prompts]

    def _completion(self, prompt):
        last = prompt.removesuffix("\nAssistant:").splitlines()[-1]
        text = self.reply.format(last=last, n=len(last))
        words = tuple(f"{word} " for word in text.split())
        return Completion(text, words, (0.0,) * len(words), "stop")

    def logprobs(self, prompt, continuations):
        raise NotImplementedError


class WordEncoder:
    """Unit vectors from hashes of the texts."""

    name = "words"
    fingerprint = "e" * 64
    dim = 16

    def encode_queries(self, texts):
        return self.encode(texts)

    def encode(self, texts, *, progress=None):
        rows = [np.frombuffer(hashlib.sha256(t.encode()).digest(), np.uint16) for t in texts]
        vectors = np.array(rows, np.float32).reshape(-1, self.dim) - 32767.5
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class Echo:
    """Generator that says the query and the passages' ids, a word at a time."""

    def __call__(self, query: Query, passages: list[Passage]) -> Answer:
        return list(self.stream(query, passages))[-1]

    def stream(self, query, passages):
        words = [query.text, *(p.id for p in passages)]
        yield from (f"{word} " for word in words)
        yield Answer(" ".join(words), tuple(passages))


class Recorder(BaseCallbackHandler):
    """Notes each callback as (what, name of the run or the token)."""

    def __init__(self):
        self.seen = []

    def on_chain_start(self, serialized, inputs, *, name=None, **others):
        self.seen.append(("chain start", name))

    def on_chain_end(self, outputs, **others):
        self.seen.append(("chain end", outputs))

    def on_chain_error(self, error, **others):
        self.seen.append(("chain error", str(error)))

    def on_retriever_start(self, serialized, query, *, name=None, **others):
        self.seen.append(("retriever start", name))

    def on_retriever_end(self, documents, **others):
        self.seen.append(("retriever end", len(documents)))

    def on_llm_start(self, serialized, prompts, *, name=None, **others):
        self.seen.append(("model start", name))

    def on_chat_model_start(self, serialized, messages, *, name=None, **others):
        self.seen.append(("chat start", name))

    def on_llm_new_token(self, token, **others):
        self.seen.append(("token", token))

    def on_llm_end(self, response, **others):
        self.seen.append(("model end", response.generations[0][0].text))

    def on_llm_error(self, error, **others):
        self.seen.append(("model error", str(error)))


@dataclass(frozen=True)
class KeepFirst:
    """Pruner that keeps the first sentence of each passage, and nothing of chess."""

    def __call__(self, query: Query, passages: Sequence[Passage]) -> list[Passage]:
        return [replace(p, kept=self._selection(p)) for p in passages]

    def _selection(self, passage):
        scores = [
            SentenceScore(span, 1.0 / rank, kept=rank == 1 and "king" not in passage.text)
            for rank, span in enumerate(passage.sentences, start=1)
        ]
        return Selection(passage.id, text_sha(passage.text), tuple(scores), "first")


@pytest.fixture
def keep_first():
    return KeepFirst()


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def shelf():
    return Shelf()


@pytest.fixture
def length_model():
    return LengthModel()


@pytest.fixture
def word_encoder():
    return WordEncoder()


@pytest.fixture
def echo():
    return Echo()


@pytest.fixture
def make_passage():
    return passage
