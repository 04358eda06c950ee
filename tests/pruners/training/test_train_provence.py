"""Training of a Provence model: learns, joins its prior, resumes bit for bit, and stops."""

import json

import numpy as np
import pytest
import torch

from pruners.provence.adapter import load_adapter, read_config
from pruners.provence.load import load_provence
from pruners.provence.top_layers import TopLayers
from pruners.training.augment import NO_AUGMENTATION, Augmentation
from pruners.training.held_out import held_out_figures, judged_examples
from pruners.training.losses import LossWeights
from pruners.training.provence_run import ProvenceRun
from pruners.training.recipe import ProvenceRecipe
from pruners.training.split import split_by_passage
from pruners.training.train_provence import train_provence
from rag.records import PassageScores, Query
from rag.training.journal import read_journal
from rag.training.lora import ALL_LINEARS, LoRA
from rag.training.run_state import STATE, TrainingStateError
from rag.training.training_run import TrainingFailedError

SHORT = {
    "steps": 12,
    "batch_size": 4,
    "learning_rate": 5e-3,
    "precision": "float32",
    "validation": 0.25,
    "looks": 3,
    "tuning": LoRA(4, 8.0, ALL_LINEARS),
}


def recipe(**changes):
    return ProvenceRecipe(**(SHORT | changes))


def tensors(folder):
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def steps_of(folder):
    records = read_journal(folder / "losses.jsonl")
    return [(one["step"], one["loss"]) for one in records if "loss" in one]


class Stops(KeyboardInterrupt):
    pass


class StopsAfter:
    """A watcher that interrupts as Ctrl-C would, once a stage has done so many steps."""

    def __init__(self, steps):
        self.steps = steps

    def stage(self, name, total):
        self.name, self.done = name, 0

    def advance(self, steps=1):
        self.done += steps
        if self.name == "train" and self.done >= self.steps:
            raise Stops


@pytest.mark.parametrize("tuning", [LoRA(8, 16.0, ALL_LINEARS), TopLayers(2)], ids=["lora", "top"])
@pytest.mark.parametrize("joined", [False, True])
def test_learns_eight_pairs_by_heart(tmp_path, fresh_trunk, examples, prior, tuning, joined):
    # A random trunk has no knowledge to adapt: it needs 80 steps where a trained one needs 20.
    made = recipe(
        steps=80,
        batch_size=8,
        learning_rate=1e-2,
        tuning=tuning,
        validation=0.0,
        augmentation=NO_AUGMENTATION,
    )
    trained = train_provence(
        examples(8), fresh_trunk(), made, tmp_path, prior=prior if joined else None
    )
    losses = [loss for _, loss in steps_of(tmp_path)]
    assert losses[0] > 1.0
    assert losses[-1] < 0.05
    assert (trained.steps, trained.stopped) == (80, "done")
    assert trained.before is trained.after is None
    # And the scorer that loads it knows them too.
    scorer = load_provence(str(tmp_path), base=fresh_trunk().name, prior=prior if joined else None)
    for one in examples(8):
        (found,) = scorer(Query(one.question), [one.passage()])
        kept = {row for row, score in enumerate(found.sentences) if score > 0.5}
        assert kept == one.gold


def test_a_prior_changes_nothing_that_is_trained(tmp_path, fresh_trunk, examples, prior):
    made = {}
    for name, of in (("alone", None), ("joined", prior)):
        folder = tmp_path / name
        folder.mkdir()
        train_provence(examples(40), fresh_trunk(), recipe(validation=0.0), folder, prior=of)
        made[name] = tensors(folder)
        assert steps_of(folder) == steps_of(tmp_path / "alone")
    assert made["joined"].keys() - made["alone"].keys() == {"alpha", "beta"}
    for name, alone in made["alone"].items():
        head = name.startswith(("token_head", "rerank_head"))
        assert torch.equal(made["joined"][name], alone / 2 if head else alone)  # without a look


class Knows:
    """A prior that is always right about the first forty examples."""

    name, fingerprint = "knows", "2" * 64

    def __init__(self, examples):
        self.gold = {one.id: one.gold for one in examples(40)}

    def __call__(self, query, passages):
        return [
            PassageScores(tuple(0.9 if row in self.gold[one.id] else 0.1 for row in range(3)))
            for one in passages
        ]


def test_a_model_that_has_learned_nothing_ranks_as_its_prior(tmp_path, fresh_trunk, examples):
    knows = Knows(examples)
    made = recipe()
    told = train_provence(examples(40), fresh_trunk(), made, tmp_path, prior=knows, minutes=1e-9)
    assert told.steps == 0
    scorer = load_provence(str(tmp_path), base=fresh_trunk().name, prior=knows)
    for one in examples(12):
        (found,) = scorer(Query(one.question), [one.passage()])
        low, high = min(found.sentences), max(found.sentences)
        assert all(
            (score > (low + high) / 2) == (row in one.gold) or low == high
            for row, score in enumerate(found.sentences)
        )


def test_the_figures_before_are_those_of_the_prior(tmp_path, fresh_trunk, examples):
    knows = Knows(examples)
    told = train_provence(examples(40), fresh_trunk(), recipe(steps=1), tmp_path, prior=knows)
    assert told.before.auc == 1.0
    assert 0.6 < told.before.compression < 0.9
    assert told.after == told.before or told.after.merit > told.before.merit


def test_saved_and_loaded_weights_are_the_same_bits(tmp_path, fresh_trunk, examples):
    trunk = fresh_trunk()
    train_provence(examples(24), trunk, recipe(), tmp_path)
    again = fresh_trunk()
    model = load_adapter(tmp_path, again.model, base_fingerprint=again.fingerprint, merge=False)
    trained = dict(trunk.model.named_parameters())
    loaded = dict(model.trunk.named_parameters())
    assert trained.keys() == loaded.keys()
    assert all(torch.equal(trained[name], loaded[name]) for name in trained)


def test_an_adapter_of_another_trunk_is_refused(tmp_path, fresh_trunk, examples):
    train_provence(examples(24), fresh_trunk(), recipe(), tmp_path)
    with pytest.raises(ValueError, match=r"was trained on base .* got one with fingerprint ffff"):
        load_adapter(tmp_path, fresh_trunk().model, base_fingerprint="f" * 64)


@pytest.mark.parametrize("stop", [1, 5, 9, 11])
@pytest.mark.parametrize("dropout", [False, True])
def test_an_interrupted_training_resumes_to_the_same_bits(
    tmp_path, fresh_trunk, examples, prior, stop, dropout
):
    made = recipe(dropout=dropout, looks=4)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
    data = examples(24)
    train_provence(data, fresh_trunk(), made, whole, prior=prior)
    with pytest.raises(Stops):
        train_provence(
            data,
            fresh_trunk(),
            made,
            parts,
            prior=prior,
            state_every=1,
            watcher=StopsAfter(stop + 1),
        )
    calls = prior.calls
    torch.manual_seed(stop)  # what else draws in this process does not matter
    told = train_provence(data, fresh_trunk(), made, parts, prior=prior, resume=True)
    assert told.steps == 12
    assert prior.calls == calls  # its log-odds were read from the folder
    first, second = tensors(whole), tensors(parts)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert steps_of(whole) == steps_of(parts)
    assert (whole / "config.json").read_text() == (parts / "config.json").read_text()
    assert {path.name for path in parts.iterdir()} == {
        "config.json",
        "losses.jsonl",
        "model.safetensors",
    }


def test_an_interrupted_training_leaves_a_valid_state_and_no_model(tmp_path, fresh_trunk, examples):
    with pytest.raises(Stops):
        train_provence(
            examples(24), fresh_trunk(), recipe(), tmp_path, state_every=2, watcher=StopsAfter(7)
        )
    assert not (tmp_path / "config.json").exists()
    assert (tmp_path / STATE).exists()
    told = train_provence(examples(24), fresh_trunk(), recipe(), tmp_path, resume=True)
    assert (told.steps, told.stopped) == (12, "done")
    assert [step for step, _ in steps_of(tmp_path)] == list(range(1, 13))


def test_a_state_of_other_data_or_another_recipe_is_refused(tmp_path, fresh_trunk, examples):
    with pytest.raises(Stops):
        train_provence(
            examples(24), fresh_trunk(), recipe(), tmp_path, state_every=1, watcher=StopsAfter(3)
        )
    with pytest.raises(TrainingStateError, match="other settings: examples was"):
        train_provence(examples(23), fresh_trunk(), recipe(), tmp_path, resume=True)
    with pytest.raises(TrainingStateError, match="other settings: recipe was"):
        train_provence(examples(24), fresh_trunk(), recipe(seed=1), tmp_path, resume=True)


def test_time_that_is_over_stops_cleanly_and_keeps_the_state(tmp_path, fresh_trunk, examples):
    told = train_provence(examples(24), fresh_trunk(), recipe(), tmp_path, minutes=1e-9)
    assert (told.steps, told.stopped) == (0, "time")
    assert (tmp_path / STATE).exists()
    assert read_config(tmp_path).recipe["best_step"] == 0


def test_ends_where_nothing_is_gained_and_keeps_the_best(tmp_path, fresh_trunk, examples):
    made = recipe(steps=400, looks=400, patience=3, learning_rate=1e-12)
    told = train_provence(examples(24), fresh_trunk(), made, tmp_path)
    assert told.stopped == "no gain"
    assert told.steps < 20
    assert told.best_step == told.steps - 3
    assert told.after.merit >= told.before.merit


def test_the_kept_weights_are_those_of_the_best_look(tmp_path, fresh_trunk, examples):
    made = recipe(steps=40, looks=20, patience=40, learning_rate=2e-2)
    told = train_provence(examples(40), fresh_trunk(), made, tmp_path)
    looks = [one for one in read_journal(tmp_path / "losses.jsonl") if "auc" in one]
    merits = {one["step"]: (one["auc"] + one["compression"]) / 2 for one in looks}
    assert told.after.merit == pytest.approx(max(merits.values()), abs=1e-5)
    assert merits[told.best_step] == pytest.approx(max(merits.values()), abs=1e-5)


@pytest.mark.parametrize("knowing", [False, True])
def test_the_model_that_is_written_has_the_figures_that_were_told(
    tmp_path, fresh_trunk, examples, prior, knowing
):
    made = recipe(steps=30, looks=15, patience=40)
    of = Knows(examples) if knowing else prior
    told = train_provence(examples(40), fresh_trunk(), made, tmp_path, prior=of)
    scorer = load_provence(str(tmp_path), base=fresh_trunk().name, prior=of)
    checked = split_by_passage(examples(40), made.validation, made.seed + 1)[1]
    found = held_out_figures(judged_examples(checked, scorer), resamples=1)
    assert found.figures["AUC"].mean == pytest.approx(told.after.auc, abs=1e-6)
    if knowing:  # nothing is gained over a prior that knows all
        assert told.best_step == 0
        assert not any(one.any() for name, one in tensors(tmp_path).items() if "lora_b" in name)


def test_the_rate_follows_its_schedule(tmp_path, fresh_trunk, examples):
    made = {}
    for decay in ("linear", "cosine"):
        folder = tmp_path / decay
        folder.mkdir()
        train_provence(examples(24), fresh_trunk(), recipe(decay=decay, validation=0.0), folder)
        made[decay] = tensors(folder)
    pairs = zip(made["linear"].values(), made["cosine"].values(), strict=True)
    assert any(not torch.equal(a, b) for a, b in pairs)


def test_two_seeds_differ_and_one_repeats(tmp_path, fresh_trunk, examples):
    made = {}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        folder = tmp_path / name
        folder.mkdir()
        train_provence(examples(24), fresh_trunk(), recipe(seed=seed), folder)
        made[name] = tensors(folder)
    assert all(torch.equal(made["a"][name], made["b"][name]) for name in made["a"])
    assert any(not torch.equal(made["a"][name], made["c"][name]) for name in made["a"])


def test_embeddings_and_base_weights_do_not_move(tmp_path, fresh_trunk, examples):
    trunk, untouched = fresh_trunk(), fresh_trunk()
    train_provence(examples(24), trunk, recipe(tuning=TopLayers(1), validation=0.0), tmp_path)
    before, after = untouched.model.state_dict(), trunk.model.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert all(name.startswith("encoder.layer.1.") for name in moved)


def test_near_passages_become_negatives(tmp_path, fresh_trunk, examples, encoder):
    from pruners.training.sentence_vectors import RememberedVectors

    alone, with_near = tmp_path / "alone", tmp_path / "near"
    for folder in (alone, with_near):
        folder.mkdir()
    told = train_provence(examples(24), fresh_trunk(), recipe(), alone)
    near = train_provence(
        examples(24),
        fresh_trunk(),
        recipe(near=3, negatives=2),
        with_near,
        encoder=encoder,
        vectors=RememberedVectors(encoder),
    )
    assert told.pairs == 18
    assert told.pairs < near.pairs <= 18 * 3


def test_half_precision_halves_the_file(tmp_path, fresh_trunk, examples):
    sizes = {}
    for stored in ("float32", "float16"):
        folder = tmp_path / stored
        folder.mkdir()
        train_provence(examples(24), fresh_trunk(), recipe(stored=stored), folder)
        sizes[stored] = sum(one.nbytes for one in tensors(folder).values())
    assert sizes["float16"] * 2 == sizes["float32"]


def test_bfloat16_trains_too(tmp_path, fresh_trunk, examples):
    told = train_provence(examples(24), fresh_trunk(), recipe(precision="bfloat16"), tmp_path)
    assert told.precision == "bfloat16"
    assert all(np.isfinite(loss) for _, loss in steps_of(tmp_path))


def test_the_probe_chooses_one_and_leaves_no_trace(tmp_path, fresh_trunk, examples, monkeypatch):
    probed = tmp_path / "probed"
    fixed = tmp_path / "fixed"
    for folder in (probed, fixed):
        folder.mkdir()

    def choose(step, device):
        for precision in ("float32", "bfloat16"):
            step(precision)
        return "float32"

    monkeypatch.setattr("rag.training.training_run.probed_precision", choose)
    train_provence(examples(24), fresh_trunk(), recipe(precision="auto"), probed)
    train_provence(examples(24), fresh_trunk(), recipe(), fixed)
    first, second = tensors(probed), tensors(fixed)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_loss_that_is_not_finite_ends_the_training(tmp_path, fresh_trunk, examples):
    trunk = fresh_trunk()
    with torch.no_grad():
        trunk.model.embeddings.word_embeddings.weight.fill_(float("nan"))
    with pytest.raises(TrainingFailedError, match="the loss of step 1 is nan"):
        train_provence(examples(24), trunk, recipe(validation=0.0), tmp_path)


def test_the_configuration_tells_how_it_was_made(tmp_path, fresh_trunk, examples, prior):
    told = train_provence(
        examples(24), fresh_trunk(), recipe(), tmp_path, prior=prior, facts={"data": "abc"}
    )
    config = read_config(tmp_path)
    assert config.base_fingerprint == fresh_trunk().fingerprint
    assert (config.prior, config.prior_fingerprint) == ("length", prior.fingerprint)
    assert config.threshold == pytest.approx(told.after.threshold)
    assert config.recipe["data"] == "abc"
    assert config.recipe["learning_rate"] == 5e-3
    assert config.recipe["tuning"]["kind"] == "LoRA"
    json.dumps(dict(config.recipe))


def test_refuses_what_does_not_fit(tmp_path, fresh_trunk, examples, encoder):
    trunk = fresh_trunk()
    with pytest.raises(ValueError, match="minutes must be above 0, got 0"):
        train_provence(examples(8), trunk, recipe(), tmp_path, minutes=0)
    with pytest.raises(ValueError, match="state_every must be at least 1, got 0"):
        train_provence(examples(8), trunk, recipe(), tmp_path, state_every=0)
    with pytest.raises(ValueError, match="encoder and vectors go together"):
        train_provence(examples(8), trunk, recipe(), tmp_path, encoder=encoder)
    with pytest.raises(ValueError, match="examples must hold gold sentences, got none in 0"):
        train_provence([], trunk, recipe(), tmp_path)
    with pytest.raises(ValueError, match="prior must have a fingerprint"):
        train_provence(examples(24), trunk, recipe(), tmp_path, prior=Nameless())


class Nameless:
    name = "nameless"

    def __call__(self, query, passages):
        return []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"epochs": 0.0}, "epochs must be above 0, got 0.0"),
        ({"validation": 1.0}, r"validation must be in \[0, 1\), got 1.0"),
        ({"precision": "int8"}, "precision must be 'auto', 'float32' or 'bfloat16', got 'int8'"),
        ({"stored": "int8"}, "stored must be 'float32' or 'float16', got 'int8'"),
    ],
)
def test_a_recipe_refuses_numbers_out_of_range(changes, message):
    with pytest.raises(ValueError, match=message):
        recipe(**changes)


def test_a_validation_part_that_tells_nothing_is_not_used(tmp_path, fresh_trunk, examples):
    data = [one for one in examples(40) if not one.gold][:6] + examples(3)
    told = train_provence(data, fresh_trunk(), recipe(validation=0.12), tmp_path)
    assert told.before is None
    assert told.best_step == told.steps == 12


def test_epochs_count_the_steps(tmp_path, fresh_trunk, examples):
    told = train_provence(
        examples(24), fresh_trunk(), recipe(steps=None, epochs=2, validation=0.0), tmp_path
    )
    assert told.planned == told.steps == 2 * 6


def test_weights_of_the_parts_steer_the_training(fresh_trunk, tmp_path, examples):
    made = recipe(weights=LossWeights(sentence=0.0, rerank=0.0), augmentation=Augmentation())
    train_provence(examples(24), fresh_trunk(), made, tmp_path)
    for one in read_journal(tmp_path / "losses.jsonl"):
        if "loss" in one:
            assert one["loss"] == pytest.approx(one["token"], rel=1e-4)


def test_a_run_without_pairs_says_so(fresh_trunk, tmp_path):
    run = ProvenceRun(fresh_trunk(), recipe(), tmp_path, [], [], {})
    with pytest.raises(ValueError, match="examples must hold text that the tokenizer can read"):
        run.train(StopsAfter(99), deadline=None, state_every=1)
