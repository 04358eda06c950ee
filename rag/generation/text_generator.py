"""Generation with a model that runs elsewhere: the passages are sent as text, no KV is reused."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from rag.generation.citations import SupportMatcher
from rag.generation.context_plan import dropped, keeps, narrowed, whole_sentences
from rag.generation.decoding import Sampling, TextStream
from rag.generation.finish import Telling, abstention, attributed
from rag.generation.templates import PromptTemplate
from rag.models.reply import Reply, StreamingModel
from rag.protocols import TextModel
from rag.records import Answer, CacheUse, Completion, ContextStep, Passage, Query, TokenUse

MODE = "sequential"
_MARK = re.compile(r"\s*\**answer:\**\s*", re.IGNORECASE)


@dataclass(frozen=True)
class GenerateText:
    """Answers a question from passages with any text model; satisfies `LanguageModel`.

    The model reads what mode `sequential` of `GenerateCached` reads, as one text: kept sentences
    only, the best passage last. Citations are attributed in the same way. A model that streams
    (`rag.models.reply.StreamingModel`) shows its answer as it comes; of any other the whole reply
    counts as the time to the first token. Chat models repeat the word "Answer:" at times: it is
    left out.

    Attributes:
        lm: continues texts.
        template: the text around passages and question; of a chat, its turns are written one below
            the other. The answer ends where its `stop` appears after the first word.
        sampling: how tokens are chosen; a text model takes no top-k, top-p or min-p.
        support: attributes citations.

    Raises:
        ValueError: if `lm` cannot continue texts, or for a filter of `sampling`.
    """

    lm: TextModel
    template: PromptTemplate = PromptTemplate()
    sampling: Sampling = Sampling()
    support: SupportMatcher = field(default_factory=SupportMatcher)

    def __post_init__(self) -> None:
        if not callable(getattr(self.lm, "complete", None)):
            raise ValueError(  # noqa: TRY004 as every other wrong argument
                "lm must be a text model, as from_chat_model makes one of LangChain's chat models, "
                f"got {type(self.lm).__name__}"
            )
        for name, off in (("top_k", 0), ("top_p", 1.0), ("min_p", 0.0)):
            if getattr(self.sampling, name) != off:
                raise ValueError(f"{self.lm.name} is remote and takes no {name}; it must be {off}")

    def __call__(self, query: Query, passages: Sequence[Passage]) -> Answer:
        """Return the answer; see `stream`."""
        for event in self.stream(query, passages):
            if isinstance(event, Answer):
                return event
        raise AssertionError("stream ends with an Answer")

    def stream(self, query: Query, passages: Sequence[Passage]) -> Iterator[str | Answer]:
        """Yield pieces of the answer as they come, and the `Answer` last.

        A passage of which no sentence is kept is not read. With nothing to read the model is not
        asked, and the answer abstains. Token counts are the service's own, and 0 where it does not
        tell them, as when the answer had to be cut. `cache.reasons` says of each passage why
        nothing of it was cached.

        Args:
            query: the question.
            passages: best first.

        Raises:
            RemoteModelError: if the model's service cannot be reached or refuses.
        """
        name = self.lm.name
        context = tuple(
            ContextStep(passage.id, "text", f"{name} is remote")
            if keeps(passage)
            else dropped(passage)
            for passage in passages
        )
        read = [narrowed(passage) for passage in passages if keeps(passage)]
        if not read:
            yield abstention(passages, mode=MODE, model=name)
            return
        prompt = self.prompt_text(query, read)
        said = _Said()
        stop = self.template.stop, *self.sampling.stop
        telling = Telling(TextStream(said.after, *stop))
        with closing(self._pieces(prompt)) as pieces:
            yield from filter(None, telling.pieces(said.numbered(pieces)))
        stopped = telling.shown.stopped
        answer = Answer(
            text=telling.shown.text,
            passages=tuple(map(whole_sentences, passages)),
            cache=CacheUse(reasons={p.id: f"not cached: {name} is remote" for p in read}),
            tokens=said.use,
            timings_ms=telling.timings_ms(0.0),
            mode=MODE,
            model=name,
            prompt=prompt,
            finish="stop" if stopped else said.finish,
            context=context,
        )
        yield replace(attributed(answer, query, self.support), passages=tuple(passages))

    def prompt_text(self, query: Query, passages: Sequence[Passage]) -> str:
        """Return the exact text that the model is sent."""
        if not self.template.chat:
            return self.template.render(query, passages)
        turns = self.template.messages(query, passages)
        return "\n\n".join(turn["content"] for turn in turns)

    def _pieces(self, prompt: str) -> Generator[str | Completion, None, None]:
        """Yield pieces of the reply, and the completion last."""
        options: dict[str, Any] = {
            "max_tokens": self.sampling.max_tokens,
            "stop": self._next_blocks,
            "temperature": self.sampling.temperature,
            "seed": self.sampling.seed,
        }
        if isinstance(self.lm, StreamingModel):
            yield from self.lm.stream(prompt, **options)
            return
        (completion,) = self.lm.complete([prompt], **options)
        yield completion.text
        yield completion

    @property
    def _next_blocks(self) -> list[str]:
        """What begins another passage or question: a model that goes on after its answer.

        The template's own stop text is not sent: chat models begin with a line break at times.
        """
        heads = (self.template.header, self.template.question)
        begins = (head.partition("{")[0].strip() for head in heads)
        return [f"\n{begin}" for begin in begins if begin]


class _Said:
    """The pieces of a reply in order, each with its number for `TextStream`.

    Attributes:
        finish: why the model ended; empty if nothing is known.
        use: tokens as the service counted them, else 0.
    """

    def __init__(self) -> None:
        self.finish: Literal["stop", "length", ""] = ""
        self.use = TokenUse(0, 0, 0, 0)
        self._pieces: list[str] = []
        self._complete = False

    def numbered(self, pieces: Iterator[str | Completion]) -> Iterator[int]:
        """Yield the number of each piece as it comes."""
        for piece in pieces:
            if isinstance(piece, str):
                self._pieces.append(piece)
                yield len(self._pieces) - 1
                continue
            self.finish = piece.finish
            if isinstance(piece, Reply) and piece.use is not None:
                self.use = piece.use
        self._complete = True

    def after(self, numbers: tuple[int, ...]) -> str:
        """Return the text of the first pieces without "Answer:" before it; empty in doubt."""
        text = "".join(self._pieces[: len(numbers)])
        if not self._complete and "answer:".startswith(text.strip(" \n*").lower()):
            return ""
        mark = _MARK.match(text)
        return text[mark.end() :] if mark else text
