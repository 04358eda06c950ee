"""The next sentence of an answer, with the probability of each of its tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from rag.bounds import Bounds
from rag.generation.decoding import Sampling
from rag.generation.templates import THOUGHT, PromptTemplate
from rag.generation.worked_examples import ANSWER_MARK
from rag.protocols import TextModel
from rag.records import Completion, Passage, Query
from rag.text.sentences import split_sentences

Style = Literal["answer", "thought"]
STYLES: tuple[Style, ...] = get_args(Style)
TEMPLATES: dict[Style, PromptTemplate] = {"answer": PromptTemplate(), "thought": THOUGHT}


@dataclass(frozen=True)
class GenerateSentence:
    """Writes the next sentence of an answer, and tells how sure the model was of each token.

    The unit of active retrieval (FLARE, arXiv:2305.06983) and of interleaved chains of thought
    (IRCoT, arXiv:2212.10509). The model reads the kept sentences of the passages, the best passage
    last, the question, and the text so far; without passages it answers from memory.

    Attributes:
        lm: continues texts; one that gives no log-probabilities leaves `tokens` empty.
        style: `answer` answers in few words as the examples do, `thought` reasons in sentences and
            ends with "So the answer is:".
        max_tokens: the most to read from the model, at least 1; 64 as FLARE looks ahead.
        temperature: 0 is greedy.
        seed: of the sampler.
        stop: the answer ends before the first of these texts.

    Raises:
        ValueError: if a number is out of range, or the style is unknown.
    """

    lm: TextModel
    style: Style = "answer"
    max_tokens: Annotated[int, Bounds(low=1)] = 64
    temperature: Annotated[float, Bounds(low=0)] = 0.0
    seed: int = 0
    stop: tuple[str, ...] = ("\n",)

    def __post_init__(self) -> None:
        if self.style not in STYLES:
            raise ValueError(f"style must be one of {', '.join(STYLES)}, got {self.style!r}")
        Sampling(self.max_tokens, self.temperature, self.seed)

    def __call__(
        self, query: Query, passages: Sequence[Passage] = (), text: str = ""
    ) -> Completion:
        """Return the sentence that follows `text`; its text is empty if the answer is complete.

        `finish` is `stop` if nothing follows the sentence, `length` if `max_tokens` cut it, and
        empty if the answer goes on. A thought that has come to its answer is complete: the model is
        not asked again.

        Args:
            query: the question.
            passages: best first; only kept sentences are read.
            text: the answer so far.
        """
        return self.batch(query=[query], passages=[passages], text=[text])[0]

    def batch(
        self,
        *,
        query: Sequence[Query],
        passages: Sequence[Sequence[Passage]] | None = None,
        text: Sequence[str] | None = None,
    ) -> list[Completion]:
        """Return the next sentence of each of several answers, as a loop would.

        Args:
            query: the questions.
            passages: for each its passages; None if there are none.
            text: for each the answer so far; None if none has begun.
        """
        begun = [""] * len(query) if text is None else list(text)
        read = [()] * len(query) if passages is None else passages
        open_rows = [row for row, sofar in enumerate(begun) if not self._complete(sofar)]
        template = TEMPLATES[self.style]
        written = self.lm.complete(
            [template.render(query[row], read[row], begun[row]) for row in open_rows],
            max_tokens=self.max_tokens,
            stop=self.stop,
            temperature=self.temperature,
            seed=self.seed,
        )
        sentences = [Completion("", finish="stop")] * len(query)
        for row, completion in zip(open_rows, written, strict=True):
            sentences[row] = first_sentence(completion)
        return sentences

    def _complete(self, begun: str) -> bool:
        """Return whether the text has come to its answer."""
        mark = ANSWER_MARK.search(begun) if self.style == "thought" else None
        return mark is not None and bool(begun[mark.end() :].strip())


def first_sentence(completion: Completion) -> Completion:
    """Return a completion cut after its first sentence, with that sentence's tokens alone.

    White space before the sentence is no part of it, nor are tokens of white space alone there.
    `finish` is kept if the sentence is all there is, and empty if more follows.
    """
    spans = split_sentences(completion.text)
    if not spans:
        return Completion("", finish=completion.finish)
    sentence = spans[0].of(completion.text).rstrip()
    raw = "".join(completion.tokens)
    lead = len(raw) - len(raw.lstrip())
    end = lead + len(sentence)
    tokens, logprobs, at = [], [], 0
    for token, logprob in zip(completion.tokens, completion.logprobs, strict=True):
        begins, at = at, at + len(token)
        # An empty token is a part of the character that a later one finishes.
        if begins < end and (at > lead or begins >= lead):
            tokens.append(token[: end - begins])
            logprobs.append(logprob)
    finish = completion.finish if len(spans) == 1 else ""
    return Completion(sentence, tuple(tokens), tuple(logprobs), finish)
