"""Question sets with what a prior says of them: where the pairs of a training come from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pruners.provence.scorer import prior_logits
from pruners.training.augment import TrainingPair
from pruners.training.labelled import LabelledPassage
from pruners.training.question_sets import QuestionSet, given_sets, with_near_passages
from pruners.training.split import question_key
from rag.protocols import Encoder, SentenceScorer
from rag.records import Passage, Query
from rag.training.batch_order import generator
from rag.training.watching import Unwatched, Watcher

Vectors = Callable[[Passage], np.ndarray]


@dataclass(frozen=True, slots=True)
class ScoredSet:
    """A question with its passages as pairs, of which the first are its own.

    Attributes:
        pairs: one a passage.
        given: how many of them the data gives; the others are near passages of other questions.
    """

    pairs: tuple[TrainingPair, ...]
    given: int


def grown_sets(
    examples: Sequence[LabelledPassage],
    encoder: Encoder,
    vectors: Vectors,
    *,
    most: int,
    seed: int,
) -> list[QuestionSet]:
    """Return the question sets, each with up to `most` near passages of other questions.

    How many is drawn evenly from 0 to `most`: at use a pruner meets a passage alone, and among
    many. Near are passages whose mean sentence vector is close to the question's.

    Args:
        examples: labelled passages.
        encoder: of the questions.
        vectors: gives the vectors of a passage's sentences, by the same encoder.
        most: near passages of a set, at least 0.
        seed: of the draw.
    """
    sets = given_sets(examples)
    if not most or not sets:
        return sets
    questions = encoder.encode_queries([one.question for one in sets])
    means = np.stack([_unit(vectors(one.passage()).mean(0)) for one in examples])
    rng = generator(seed, -1)
    counts = [rng.randint(0, most) for _ in sets]
    return with_near_passages(sets, examples, questions, means, counts)


def priors_of(
    sets: Sequence[QuestionSet],
    examples: Sequence[LabelledPassage],
    prior: SentenceScorer,
    watcher: Watcher | None = None,
) -> np.ndarray:
    """Return a prior's log-odds of every sentence of every passage of every set, float32 (n,).

    Args:
        sets: of the examples.
        examples: labelled passages.
        prior: scores the passages of a set together.
        watcher: told of every set.
    """
    watcher = watcher or Unwatched()
    watcher.stage("prior", len(sets))
    found: list[float] = []
    for one in sets:
        passages = [examples[row].passage() for row in one.rows]
        for scores in prior(Query(one.question), passages):
            found += prior_logits(scores)
        watcher.advance()
    return np.array(found, np.float32)


def scored_sets(
    sets: Sequence[QuestionSet],
    examples: Sequence[LabelledPassage],
    priors: np.ndarray | None = None,
) -> list[ScoredSet]:
    """Return the sets as pairs.

    Args:
        sets: of the examples.
        examples: labelled passages.
        priors: what `priors_of` returned for these sets; None without a prior.

    Raises:
        ValueError: if there are not as many priors as sentences.
    """
    total = sum(len(examples[row].sentences) for one in sets for row in one.rows)
    if priors is not None and len(priors) != total:
        raise ValueError(f"priors must be one a sentence, {total}, got {len(priors)}")
    start, made = 0, []
    for one in sets:
        pairs = []
        for row, gold in zip(one.rows, one.gold, strict=True):
            of = examples[row]
            end = start + len(of.sentences)
            said = () if priors is None else tuple(priors[start:end].tolist())
            pairs.append(TrainingPair(one.question, of.title, of.sentences, gold, said))
            start = end
        made.append(ScoredSet(tuple(pairs), _given(one, examples)))
    return made


def pairs_of_epoch(
    sets: Sequence[ScoredSet], negatives: int, seed: int, epoch: int
) -> list[TrainingPair]:
    """Return the pairs of an epoch: all given ones, and some near ones drawn for each question.

    Args:
        sets: of the training.
        negatives: near passages of each question in this epoch, at least 0.
        seed: of the run.
        epoch: from 0.
    """
    rng = generator(seed, epoch, -2)
    pairs: list[TrainingPair] = []
    for one in sets:
        near = list(one.pairs[one.given :])
        pairs += [*one.pairs[: one.given], *rng.sample(near, min(negatives, len(near)))]
    return pairs


def _given(one: QuestionSet, examples: Sequence[LabelledPassage]) -> int:
    """Return how many passages are the question's own; these come first."""
    asked = question_key(one.question)
    return sum(question_key(examples[row].question) == asked for row in one.rows)


def _unit(vector: np.ndarray) -> np.ndarray:
    unit: np.ndarray = vector / max(float(np.linalg.norm(vector)), 1e-12)
    return unit
