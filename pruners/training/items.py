"""Items of a batch: blocks of a Provence model with labels, and their tensors."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pruners.provence.batches import PairBatch, collate
from pruners.provence.pair_tokens import Block, pair_blocks
from pruners.training.augment import Augmentation, TrainingPair
from pruners.training.labelled import LabelledPassage
from rag.training.batch_order import generator

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Item:
    """A block, and what is known of the passage that it is from.

    Attributes:
        block: token ids and the sentence row of each.
        gold: rows of the sentences to keep.
        prior: log-odds of a prior for each sentence of the passage; empty without one.
        pair: which of the pairs it is from.
    """

    block: Block
    gold: frozenset[int]
    prior: tuple[float, ...]
    pair: int


@dataclass(frozen=True, slots=True)
class Caps:
    """The most tokens that a block may have, in all and for two of its parts.

    Attributes:
        window: of the block, control tokens included.
        query: of the question.
        title: of the title.
    """

    window: int = 256
    query: int = 48
    title: int = 32


def items_of(tokenizer: Any, pairs: Sequence[TrainingPair], caps: Caps) -> list[Item]:
    """Return the blocks of pairs, in their order; a passage without tokens has none.

    Labels follow the text: a token has the label of the sentence that it was made of.

    Args:
        tokenizer: a fast tokenizer.
        pairs: as the model shall see them.
        caps: of a block.
    """
    items = []
    for place, pair in enumerate(pairs):
        shown = LabelledPassage("", "", pair.question, pair.title, pair.sentences, pair.gold)
        blocks = pair_blocks(
            tokenizer,
            pair.question,
            shown.passage(),
            caps.window,
            caps.query,
            title_tokens=caps.title,
        )
        items += [Item(block, pair.gold, pair.prior, place) for block in blocks]
    return items


def augmented_items(
    tokenizer: Any,
    pairs: Sequence[TrainingPair],
    caps: Caps,
    change: Augmentation,
    *,
    seed: int,
    epoch: int,
) -> list[Item]:
    """Return the blocks of an epoch's pairs, each changed by its own generator.

    Args:
        tokenizer: a fast tokenizer.
        pairs: of the epoch.
        caps: of a block.
        change: what may be changed.
        seed: of the run.
        epoch: from 0.
    """
    shown = []
    for place, pair in enumerate(pairs):
        rng: random.Random = generator(seed, epoch, place)
        shown.append(change(pair, rng))
    return items_of(tokenizer, shown, caps)


def batch_of(items: Sequence[Item], pad_id: int) -> tuple[PairBatch, Tensor]:
    """Return items as a padded batch, and which tokens are to be kept, bool (blocks, tokens).

    Args:
        items: at least one, all with a prior or all without.
        pad_id: id of the padding token.
    """
    import torch

    priors = [one.prior for one in items] if items[0].prior else None
    batch = collate([one.block for one in items], pad_id, priors)
    longest = batch.ids.shape[1]
    gold = [
        [*(row in one.gold for row in one.block.rows), *[False] * (longest - len(one.block))]
        for one in items
    ]
    return batch, torch.tensor(gold)
