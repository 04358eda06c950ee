"""Figures on held-out data: by hand, paired against a baseline, and told in a card."""

import pytest

from pruners.training.card import Made, model_card
from pruners.training.held_out import held_out_figures, judged_examples
from rag.records import PassageScores


class Knows:
    """Gives gold sentences 0.9 and others 0.2, but errs on every passage that `wrong` names."""

    name = "knows"

    def __init__(self, examples, wrong=()):
        self._gold = {one.id: one.gold for one in examples}
        self._wrong = set(wrong)

    def __call__(self, query, passages):
        return [
            PassageScores(
                tuple(
                    0.9 if (row in self._gold[one.id]) != (one.id in self._wrong) else 0.2
                    for row in range(len(one.sentences))
                )
            )
            for one in passages
        ]


def test_a_scorer_that_knows_prunes_all_that_is_not_gold(examples):
    data = examples(12)
    found = held_out_figures(judged_examples(data, Knows(data)), resamples=50)
    assert (found.questions, found.sentences) == (12, 36)
    assert found.figures["AUC"].mean == found.figures["AP"].mean == 1.0
    spans = [(one, row) for one in data for row in range(3)]
    lengths = [len(one.passage().sentences[row]) for one, row in spans]
    gold = [row in one.gold for one, row in spans]
    kept = sum(size for size, needed in zip(lengths, gold, strict=True) if needed)
    assert found.figures["comp@R95"].mean == pytest.approx(1 - kept / sum(lengths))
    assert found.baseline == found.difference == {}
    assert found.thresholds[0.95] == pytest.approx(0.2)


def test_differences_are_paired(examples):
    data = examples(12)
    good = judged_examples(data, Knows(data))
    worse = judged_examples(data, Knows(data, wrong=[data[0].id, data[1].id]))
    found = held_out_figures(good, worse, resamples=200)
    assert found.difference["AUC"].mean == pytest.approx(
        found.figures["AUC"].mean - found.baseline["AUC"].mean
    )
    assert found.difference["AUC"].low >= 0
    same = held_out_figures(good, good, resamples=50)
    assert same.difference["AUC"].low == same.difference["AUC"].high == 0.0
    with pytest.raises(ValueError, match="baseline must be 12 questions, got 3"):
        held_out_figures(good, good[:3])


def test_the_watcher_hears_of_every_question(examples):
    heard = []

    class Watcher:
        def stage(self, name, total):
            heard.append((name, total))

        def advance(self, steps=1):
            heard.append(steps)

    judged_examples(examples(3), Knows(examples(3)), watcher=Watcher())
    assert heard == [("held out", 3), 1, 1, 1]


def test_the_card_tells_data_licences_figures_and_limits(examples):
    data = examples(12)
    good = judged_examples(data, Knows(data))
    made = Made(
        title="A pruner",
        what="What it is.",
        command="dovetail train pruner data -o out",
        seed=7,
        data_sha="abc",
        licences=("Topics MIT",),
        trained=data,
        held_out=3,
        dropped=2,
        left_out=("hotpotqa",),
        parts={"trunk tiny": "f" * 64},
        course={"steps": "12 of 12"},
        recipe={"rate": 0.5, "tuning": {"rank": 4, "pattern": "a|b"}},
    )
    card = model_card(made, held_out_figures(good, good, resamples=20), "cosine")
    for part in (
        "# A pruner\n",
        "    dovetail train pruner data -o out",
        "- seed: 7",
        "- steps: 12 of 12",
        f"- made for trunk tiny: `{'f' * 16}`",
        "- 12 question-passage pairs, 9 of them with a gold sentence (topics 12)",
        "- 2 pairs left out because their passage stands in evaluation data (hotpotqa)",
        "- licence: Topics MIT",
        "| comp@R95: characters pruned at 95 % recall | ",
        "| +0.000 [+0.000, +0.000] |",
        "| tuning.pattern | `a\\|b` |",
        "## Limits",
    ):
        assert part in card
    assert "Nothing was held out" in model_card(made, None)
    alone = model_card(made, held_out_figures(good, resamples=20))
    assert "| cosine |" not in alone
