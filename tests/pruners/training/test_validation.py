"""Validation: the scores are the scorer's own, and the figures those of their curve."""

import numpy as np
import pytest
import torch

from pruners.provence.adapter import new_model
from pruners.provence.scorer import ProvenceScorer, prior_logits
from pruners.training.augment import TrainingPair
from pruners.training.items import Caps
from pruners.training.stacking import join_prior
from pruners.training.validation import Figures, Validation
from rag.evaluation.pruning_curve import auc, compression_at_recall
from rag.records import Query
from rag.training.lora import ALL_LINEARS, LoRA

CAPS = Caps(window=64, query=16, title=8)


@pytest.fixture
def drawn(fresh_trunk):
    """A model whose heads and updates are random, and its tokenizer."""
    trunk = fresh_trunk()
    generator = torch.Generator().manual_seed(5)
    model = new_model(trunk.model, LoRA(4, 8.0, ALL_LINEARS), residual=False, generator=generator)
    with torch.no_grad():
        for parameter in model.trainable_parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model.eval(), trunk.tokenizer


def pairs_of(examples, prior):
    found = []
    for one in examples:
        (scores,) = prior(Query(one.question), [one.passage()])
        prior_ = tuple(prior_logits(scores))
        found.append(TrainingPair(one.question, one.title, one.sentences, one.gold, prior_))
    return found


def test_scores_are_those_of_the_scorer(drawn, examples, prior):
    model, tokenizer = drawn
    data = examples(9)
    long = data[0].__class__("l", "s", "what?", "", ("the apple is old.",) * 30, frozenset({3}))
    data = [*data, long]
    validation = Validation(pairs_of(data, prior), tokenizer, CAPS, pad_id=0, batch_size=4)
    found = validation.scores(model)
    join_prior(model, *validation.stacks(model))
    scorer = ProvenceScorer(
        model, tokenizer, prior=prior, window=64, query_tokens=16, title_tokens=8
    )
    for one, scores in zip(data, found, strict=True):
        (wanted,) = scorer(Query(one.question), [one.passage()])
        assert scores == pytest.approx(wanted.sentences, abs=1e-5)


def test_figures_are_those_of_the_curve(drawn, examples, prior):
    model, tokenizer = drawn
    data = examples(12)
    validation = Validation(pairs_of(data, prior), tokenizer, CAPS, pad_id=0, batch_size=5)
    scores = np.concatenate(validation.scores(model)).tolist()
    gold = [row in one.gold for one in data for row in range(3)]
    lengths = [len(sentence) for one in data for sentence in one.sentences]
    found = validation.figures(model)
    assert found.auc == pytest.approx(auc(scores, gold))
    assert found.compression == pytest.approx(compression_at_recall(scores, gold, lengths))
    kept = [score > found.threshold for score in scores]
    share = sum(k and g for k, g in zip(kept, gold, strict=True)) / sum(gold)
    assert share >= 0.95


def test_leaves_the_mode_as_it_was(drawn, examples, prior):
    model, tokenizer = drawn
    validation = Validation(pairs_of(examples(4), prior), tokenizer, CAPS, pad_id=0, batch_size=4)
    for mode in (True, False):
        model.train(mode)
        validation.scores(model)
        assert model.training is mode


def test_a_sentence_without_tokens_scores_one(drawn):
    model, tokenizer = drawn
    pair = TrainingPair("what?", "", ("\u200b", "the apple."), frozenset({1}), (0.0, 0.0))
    (scores,) = Validation([pair], tokenizer, CAPS, pad_id=0, batch_size=4).scores(model)
    assert scores[0] == 1.0
    assert 0 < scores[1] < 1


@pytest.mark.parametrize("gold", [(), (0, 1)])
def test_refuses_pairs_that_tell_nothing_apart(drawn, gold):
    pair = TrainingPair("what?", "", ("the apple.", "the river."), frozenset(gold))
    with pytest.raises(ValueError, match=f"got {len(gold)} gold of 2"):
        Validation([pair], drawn[1], CAPS, pad_id=0, batch_size=4)


def test_merit_is_the_mean_of_area_and_compression():
    assert Figures(0.9, 0.5, 0.1).merit == pytest.approx(0.7)
