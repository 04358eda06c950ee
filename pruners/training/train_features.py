"""Training of the feature head: seconds to minutes on a processor, once texts are encoded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pruners.features.asked import question_facts
from pruners.features.facts import passage_facts
from pruners.features.features import sentence_features
from pruners.features.head import FeatureHead, Network, mean_logits
from pruners.features.sentence_set import SentenceSet
from pruners.training.labelled import LabelledPassage
from pruners.training.question_sets import QuestionSet, given_sets, with_near_passages
from pruners.training.sentence_vectors import RememberedVectors
from pruners.training.split import split_by_passage
from rag.protocols import Encoder
from rag.training.batch_order import generator
from rag.training.watching import Unwatched, Watcher

RECALLS = (0.9, 0.95, 0.98)
"""Shares of the gold sentences for which a threshold is recorded."""
_FEWEST, _MOST = 2, 8  # near passages that are added to a question's own
_VALIDATION = 0.12  # share of the examples that calibrates and sets the thresholds


@dataclass(frozen=True, slots=True)
class Fitting:
    """How a network is fitted; the defaults were chosen on validation data.

    Attributes:
        hidden: units of each of the two hidden layers.
        epochs: passes over the data.
        batch: sentences of a step.
        learning_rate: the highest one; it rises for a tenth of the steps, and falls to 0.
        weight_decay: of AdamW.
        dropout: share of hidden units left out in a step.
    """

    hidden: int = 64
    epochs: int = 8
    batch: int = 1024
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    dropout: float = 0.1


def train_features(
    examples: Sequence[LabelledPassage],
    encoder: Encoder,
    *,
    seed: int = 0,
    networks: int = 3,
    fitting: Fitting | None = None,
    vectors: RememberedVectors | None = None,
    progress: Watcher | None = None,
) -> FeatureHead:
    """Return a head trained on labelled passages; the same input gives the same bytes.

    A question is seen twice: with the passages that the data gives it, often one, and with 2 to 8
    near passages of other questions beside them, as a retriever would bring them. A part of the
    examples, split off by passage, fits no weights: it calibrates the probabilities (Platt 1999),
    and gives the thresholds that keep 90, 95 and 98 % of its gold sentences. The loss is the
    binary cross entropy a sentence. Equal bytes need an equal number of threads.

    Args:
        examples: questions with labelled passages; some sentence must be gold, and some not.
        encoder: of questions and sentences; the head works with no other.
        seed: of the splits, the near passages and the networks.
        networks: how many are averaged.
        fitting: of each network.
        vectors: knows sentence vectors already, by the same encoder.
        progress: told of the stages `encode`, `features` and `fit`.

    Raises:
        ValueError: if every sentence is gold or none is, or `networks` is below 1.
    """
    if networks < 1:
        raise ValueError(f"networks must be at least 1, got {networks}")
    watcher, fitting = progress or Unwatched(), fitting or Fitting()
    known = RememberedVectors(encoder) if vectors is None else vectors
    known.learn([one.passage() for one in examples], watcher)
    fit, check = split_by_passage(examples, _VALIDATION, seed + 1)
    fit_sets, check_sets = (
        _sets(part, encoder, known, seed + row) for row, part in enumerate((fit, check))
    )
    watcher.stage("features", len(fit_sets) + len(check_sets))
    features, gold = _features(fit_sets, fit, encoder, known, watcher)
    if not 0 < int(gold.sum()) < len(gold):
        raise ValueError(
            f"examples must hold sentences that are gold and some that are not, got "
            f"{int(gold.sum())} of {len(gold)}"
        )
    seen, kept = _features(check_sets, check, encoder, known, watcher)
    watcher.stage("fit", networks)
    fitted = []
    for row in range(networks):
        fitted.append(_fitted(features, gold, fitting, seed + row))
        watcher.advance()
    slope, offset, thresholds = 1.0, 0.0, {}
    if 0 < int(kept.sum()) < len(kept):
        logits = mean_logits(fitted, seen)
        slope, offset = _calibrated(logits, kept)
        odds = slope * logits + offset
        thresholds = {f"{recall:.2f}": _threshold(odds[kept], recall) for recall in RECALLS}
    about = {"seed": seed, "examples": len(examples), "sentences": len(gold)}
    return FeatureHead(
        tuple(fitted), encoder.name, encoder.fingerprint, slope, offset, thresholds, about
    )


def _sets(
    examples: Sequence[LabelledPassage], encoder: Encoder, known: RememberedVectors, seed: int
) -> list[QuestionSet]:
    """Return the question sets as given, and again with near passages.

    A question without any gold sentence and with one passage gets none: the passage that answers
    it may be among those near.
    """
    given = given_sets(examples)
    if not given:
        return []
    asked = encoder.encode_queries([one.question for one in given])
    means = np.stack([_unit(known(one.passage()).mean(axis=0)) for one in examples])
    rng = generator(seed)
    counts = [
        rng.randint(_FEWEST, _MOST) if any(one.gold) or len(one.rows) > 1 else 0 for one in given
    ]
    grown = with_near_passages(given, examples, asked, means, counts)
    return [*given, *(one for one, count in zip(grown, counts, strict=True) if count)]


def _features(
    sets: Sequence[QuestionSet],
    examples: Sequence[LabelledPassage],
    encoder: Encoder,
    known: RememberedVectors,
    watcher: Watcher,
) -> tuple[np.ndarray, np.ndarray]:
    """Return features, float32 (n, d), and which are gold, bool (n,), of all sentences in turn."""
    passages = [one.passage() for one in examples]
    facts = [passage_facts(passage) for passage in passages]
    asked = encoder.encode_queries([one.question for one in sets]) if sets else ()
    found: list[np.ndarray] = []
    gold: list[bool] = []
    for one, vector in zip(sets, asked, strict=True):
        vectors = np.concatenate([known(passages[row]) for row in one.rows])
        together = SentenceSet(
            question_facts(one.question), vector, [facts[row] for row in one.rows], vectors
        )
        found.append(sentence_features(together))
        for row, rows in zip(one.rows, one.gold, strict=True):
            gold += [sentence in rows for sentence in range(len(examples[row].sentences))]
        watcher.advance()
    return np.concatenate(found) if found else np.zeros((0, 0), np.float32), np.array(gold, bool)


def _fitted(features: np.ndarray, gold: np.ndarray, fitting: Fitting, seed: int) -> Network:
    """Return a network fitted to features (n, d) and labels (n,)."""
    import torch
    from torch import nn

    mean, scale = features.mean(axis=0), features.std(axis=0) + 1e-4
    inputs = torch.from_numpy(Network.standardised(features, mean, scale))
    wanted = torch.from_numpy(gold.astype(np.float32))
    size = min(fitting.batch, len(gold))
    steps = len(gold) // size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Linear(features.shape[1], fitting.hidden),
            nn.ReLU(),
            nn.Dropout(fitting.dropout),
            nn.Linear(fitting.hidden, fitting.hidden),
            nn.ReLU(),
            nn.Dropout(fitting.dropout),
            nn.Linear(fitting.hidden, 1),
        )
        optimiser = torch.optim.AdamW(
            model.parameters(), lr=fitting.learning_rate, weight_decay=fitting.weight_decay
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda step: _rate(step, fitting.epochs * steps)
        )
        for _ in range(fitting.epochs):
            order = torch.randperm(len(gold))
            for step in range(steps):
                rows = order[step * size : (step + 1) * size]
                loss = nn.functional.binary_cross_entropy_with_logits(
                    model(inputs[rows])[:, 0], wanted[rows]
                )
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                schedule.step()
    layers = tuple(
        (layer.weight.detach().numpy().T.copy(), layer.bias.detach().numpy().copy())
        for layer in model
        if isinstance(layer, nn.Linear)
    )
    return Network(mean, scale, layers)


def _rate(step: int, steps: int) -> float:
    """Return the share of the learning rate: up for a tenth of the steps, down to 0 as a cosine."""
    share = step / max(1, steps)
    return share / 0.1 if share < 0.1 else 0.5 * (1.0 + math.cos(math.pi * (share - 0.1) / 0.9))


def _calibrated(logits: np.ndarray, gold: np.ndarray) -> tuple[float, float]:
    """Return slope and offset of the logistic regression of labels on logits, by Newton's steps."""
    design = np.stack([logits, np.ones_like(logits)], axis=1)
    found = np.array([1.0, 0.0])
    for _ in range(50):
        chance = 1.0 / (1.0 + np.exp(-np.clip(design @ found, -50.0, 50.0)))
        # A little ridge around the start keeps the slope finite where the classes are separable.
        gradient = design.T @ (chance - gold) + (found - [1.0, 0.0])
        curve = (design * (chance * (1.0 - chance))[:, None]).T @ design + np.eye(2)
        step = np.linalg.solve(curve, gradient)
        found -= step
        if np.abs(step).max() < 1e-9:
            break
    return float(max(found[0], 1e-3)), float(found[1])


def _threshold(odds: np.ndarray, recall: float) -> float:
    """Return a probability that a share of the gold sentences, given by log-odds, is above."""
    ordered = np.sort(odds)[::-1]
    last = ordered[math.ceil(recall * len(ordered) - 1e-9) - 1]
    # Strictly below the last one kept, by less than shows.
    return float(1.0 / (1.0 + math.exp(-last)) * (1.0 - 1e-6))


def _unit(vector: np.ndarray) -> np.ndarray:
    unit: np.ndarray = vector / max(float(np.linalg.norm(vector)), 1e-12)
    return unit
