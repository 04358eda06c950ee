"""REPLUG: each passage in a prompt of its own, and one answer from all their distributions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

from rag.bounds import Bounds
from rag.errors import UnsupportedModelError
from rag.generation.citations import SupportMatcher
from rag.generation.context_plan import narrowed, whole_sentences
from rag.generation.decoding import Sampling, TextStream
from rag.generation.finish import Telling, abstention, attributed, token_use
from rag.generation.local_model import LocalModel
from rag.generation.plan import ContextWeights, EncodingPlan, PlacedRows, parallel_plan
from rag.generation.prompt import rows_of_sentences
from rag.protocols import Encoder, PassageCache
from rag.records import Answer, Passage, Query

if TYPE_CHECKING:
    from torch import Tensor

    from rag.generation.engine import Engine
    from rag.generation.prefilled import Prefilled

MODE = "ensemble"
BETWEEN_PROMPTS = "\n\n----\n\n"


@dataclass(frozen=True)
class GenerateEnsemble:
    """Answers from a mixture of distributions: every passage stands in a prompt of its own.

    At each step p(token) = sum over passages of weight * p(token | passage, question, answer so
    far); weights are the softmax of the passages' scores. Source: REPLUG, arXiv:2301.12652. Every
    prompt is exact: a passage that is read whole has nothing but the prefix before it, so its
    cached KV is its sequential KV; of a pruned one the kept sentences are read anew. A token costs
    one forward pass a passage.

    Attributes:
        lm: a local model: a distribution over the vocabulary is needed at every step.
        kv: keeps the KV of whole passages between runs; None keeps it in the model's own budget.
        encoder: compares sentences by meaning for citations; None attributes by terms alone.
        weight_temperature: the scores are divided by it before the softmax, above 0; 1 as in the
            paper, whose scores are cosines. Large values weigh all passages alike.
        max_tokens: the most to generate, at least 1.
        temperature: 0 takes the most probable token of the mixture, above 0 samples from it.
        seed: of the sampler.
        threshold: least support for a citation, in [0, 1].

    Raises:
        UnsupportedModelError: if the model does not run here.
        ValueError: if a number is out of range.
    """

    lm: LocalModel
    kv: PassageCache | None = None
    encoder: Encoder | None = None
    weight_temperature: Annotated[float, Bounds(low=0, open_low=True)] = 1.0
    max_tokens: Annotated[int, Bounds(low=1)] = 64
    temperature: Annotated[float, Bounds(low=0)] = 0.0
    seed: int = 0
    threshold: Annotated[float, Bounds(0, 1)] = 0.5

    def __post_init__(self) -> None:
        if not self.weight_temperature > 0:
            raise ValueError(f"weight_temperature must be above 0, got {self.weight_temperature}")
        self._sampling()
        self._support()
        if not isinstance(self.lm, LocalModel):
            raise UnsupportedModelError(
                "an ensemble mixes probabilities of the whole vocabulary, so lm must be a model "
                f"that runs here, got {type(self.lm).__name__}"
            )

    def __call__(self, query: Query, passages: Sequence[Passage]) -> Answer:
        """Return the answer; see `stream`."""
        for event in self.stream(query, passages):
            if isinstance(event, Answer):
                return event
        raise AssertionError("stream ends with an Answer")

    def stream(self, query: Query, passages: Sequence[Passage]) -> Iterator[str | Answer]:
        """Yield pieces of the answer as they are decoded, and the `Answer` last.

        A passage of which no sentence is kept has no prompt. With nothing to read the model is not
        asked, and the answer abstains. Token counts are sums over the prompts.

        Args:
            query: the question.
            passages: best first; where one has no score all weigh alike.

        Raises:
            UnsupportedModelError: if a prompt does not fit into the model's window.
        """
        telling = Telling(TextStream(self.lm.prompt.text, self.lm.prompt.template.stop))
        pruned = [narrowed(passage) for passage in passages if passage.kept_rows]
        read = [passage for passage in pruned if passage.kept_rows]
        if not read:
            yield abstention(passages, mode=MODE, model=self.lm.name)
            return
        engine = self.lm.engine(self.kv)
        plans = [self.plan(query, passage) for passage in read]
        states = engine.prefill_all(plans)
        mixture = Mixture(engine, states, self.weights(read))
        room = engine.room(max(state.position for state in states), self.max_tokens)
        stop = self.lm.prompt.stop_ids
        yield from telling.pieces(mixture.decode(self._sampling(), stop, room))
        engine.store(states[-1].fresh)
        use = states[-1].use
        answer = Answer(
            text=telling.shown.text,
            passages=tuple(map(whole_sentences, passages)),
            cache=use,
            tokens=token_use(plans, use, len(telling.shown.ids)),
            timings_ms=telling.timings_ms(sum(state.kv_ms for state in states)),
            mode=MODE,
            model=self.lm.name,
            adapter=self.lm.identity.adapter,
            prompt=BETWEEN_PROMPTS.join(self.lm.prompt.plan_text(plan) for plan in plans),
            finish=telling.finish(room),
        )
        yield replace(attributed(answer, query, self._support()), passages=tuple(passages))

    def plan(self, query: Query, passage: Passage) -> EncodingPlan:
        """Return the plan of one passage's prompt; at least one sentence of it is kept."""
        prompt = self.lm.prompt
        prefix, question = prompt.prefix(), prompt.question(query)
        segment = prompt.passage(passage, prefix)
        rows = rows_of_sentences(segment, passage.kept_rows)
        if rows is None:
            whole = ((segment, None),)
            return parallel_plan(prefix, whole, question, ContextWeights(), mode=MODE)
        kept = PlacedRows(segment, len(prefix), rows).token_ids
        return EncodingPlan(MODE, PlacedRows(prefix, 0), (), (*kept, *question), len(prefix))

    def weights(self, passages: Sequence[Passage]) -> Tensor:
        """Return the weights of passages: float64 (n,), sum 1; equal where a score is missing."""
        import torch

        scores = [passage.score for passage in passages]
        known = [score for score in scores if score is not None]
        logits = known if len(known) == len(scores) else [0.0] * len(scores)
        return torch.softmax(torch.tensor(logits).double() / self.weight_temperature, 0)

    def _sampling(self) -> Sampling:
        return Sampling(self.max_tokens, self.temperature, self.seed)

    def _support(self) -> SupportMatcher:
        return SupportMatcher(self.encoder, self.threshold)


class Mixture:
    """Several prompts that are continued by the same tokens, drawn from their mixed distribution.

    Args:
        engine: read the prompts.
        states: one a prompt; they are spent.
        weights: (n,), sum 1.
    """

    def __init__(self, engine: Engine, states: Sequence[Prefilled], weights: Tensor) -> None:
        self._engine = engine
        self._states = list(states)
        self._log_weights = weights.log()

    def log_probs(self) -> Tensor:
        """Return the log-probabilities of the next token: (vocabulary,), float32 or float64.

        Mixed in log space, where a product of small numbers does not vanish.
        """
        import torch

        each = torch.stack([state.logits for state in self._states]).log_softmax(-1)  # (n, v)
        return (each + self._log_weights.to(each)[:, None]).logsumexp(0)

    def advance(self, token: int) -> None:
        """Append a token to every prompt."""
        self._states = [self._engine.advance(state, token) for state in self._states]

    def decode(self, sampling: Sampling, stop: frozenset[int], room: int) -> Iterator[int]:
        """Yield token ids until a stop token (not yielded) or `room` tokens."""
        generator = sampling.generator()
        for count in range(1, room + 1):
            token = sampling.choose(self.log_probs(), generator)
            if token in stop:
                return
            yield token
            if count < room:
                self.advance(token)
