"""Labels of tokens: from gold sentences to tokens and back, and nothing kept where nothing is."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pruners.training.augment import NO_AUGMENTATION, Augmentation, TrainingPair
from pruners.training.items import Caps, augmented_items, batch_of, items_of
from pruners.training.remembered_tokens import RememberedTokens

words = st.sampled_from(["apple", "river", "old", "x1y", "Stone,", "a-b"])
sentences = st.lists(st.lists(words, min_size=1, max_size=6).map(" ".join), min_size=1, max_size=8)


@pytest.fixture(scope="session")
def tokenizer(trunk_folder):
    from pruners.provence.trunk import load_trunk

    return load_trunk(str(trunk_folder)).tokenizer


@given(sentences.flatmap(lambda s: st.tuples(st.just(s), st.sets(st.integers(0, len(s) - 1)))))
def test_labels_go_to_tokens_and_come_back(tokenizer, drawn):
    texts, gold = drawn
    pair = TrainingPair("what is old?", "the apple", tuple(texts), frozenset(gold))
    items = items_of(tokenizer, [pair], Caps(window=40, query=8, title=8))
    batch, kept = batch_of(items, 0)
    back, told = set(), set()
    for line in range(len(items)):
        for row, keep in zip(batch.rows[line].tolist(), kept[line].tolist(), strict=True):
            if row >= 0:
                told.add(row)
                if keep:
                    back.add(row)
            else:
                assert not keep
    assert told == set(range(len(texts)))
    assert back == gold


def test_a_pair_to_prune_whole_has_no_token_to_keep(tokenizer):
    pair = TrainingPair("what?", "", ("the apple.", "the river."), frozenset())
    _, kept = batch_of(items_of(tokenizer, [pair], Caps()), 0)
    assert not kept.any()


def test_padding_is_never_kept_and_priors_follow_their_sentence(tokenizer):
    pairs = [
        TrainingPair("what?", "", ("the apple.",), frozenset({0}), (1.5,)),
        TrainingPair(
            "what?", "old", ("the river is old.", "the apple."), frozenset({1}), (2.0, 3.0)
        ),
    ]
    items = items_of(tokenizer, pairs, Caps())
    assert [one.pair for one in items] == [0, 1]
    batch, kept = batch_of(items, 0)
    assert kept.shape == batch.ids.shape == batch.prior.shape
    assert not kept[~batch.mask].any()
    assert not kept[batch.rows < 0].any()
    assert set(batch.prior[batch.rows == 1].tolist()) == {3.0}
    assert batch.passage_prior.tolist() == [1.5, 3.0]


def test_a_long_passage_becomes_blocks_of_one_pair(tokenizer):
    pair = TrainingPair("what?", "", ("the apple is old.",) * 12, frozenset({11}))
    items = items_of(tokenizer, [pair], Caps(window=30, query=8, title=4))
    assert len(items) > 2
    assert {one.pair for one in items} == {0}
    assert all(len(one.block) <= 30 for one in items)


def test_augmentation_depends_on_seed_epoch_and_place_alone(tokenizer):
    texts = ("the apple.", "the river.", "the stone.")
    pairs = [TrainingPair("what?", "old", texts, frozenset({1}))] * 6
    change = Augmentation(0.5, 0.5, 0.5, 0.5)

    def made(seed, epoch):
        return augmented_items(tokenizer, pairs, Caps(), change, seed=seed, epoch=epoch)

    assert made(0, 0) == made(0, 0)
    assert made(0, 0) != made(0, 1)
    assert made(0, 0) != made(1, 0)
    plain = augmented_items(tokenizer, pairs, Caps(), NO_AUGMENTATION, seed=0, epoch=0)
    assert plain == items_of(tokenizer, pairs, Caps())
    assert len({one.block for one in made(0, 0)}) > 1


def test_a_remembering_tokenizer_says_the_same_and_reads_once(tokenizer):
    class Counts:
        read = 0

        def __getattr__(self, name):
            return getattr(tokenizer, name)

        def __call__(self, text, pair=None, **settings):
            Counts.read += 1
            return tokenizer(text, pair, **settings)

    remembered = RememberedTokens(Counts())
    pair = TrainingPair("what?", "old", ("the apple.", "the river."), frozenset())
    first = items_of(remembered, [pair], Caps())
    assert first == items_of(tokenizer, [pair], Caps())
    seen = Counts.read
    assert items_of(remembered, [pair], Caps()) == first
    assert Counts.read == seen
    assert remembered.pad_token_id == 0


def test_batches_hold_integers_that_the_model_takes(tokenizer):
    batch, kept = batch_of(
        items_of(tokenizer, [TrainingPair("q", "", ("apple",), frozenset())], Caps()), 0
    )
    assert batch.ids.dtype == torch.int64
    assert kept.dtype == torch.bool
    assert batch.prior is None
