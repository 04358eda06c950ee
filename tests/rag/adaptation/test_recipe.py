"""Recipe of an adaptation: what it says as JSON, and what it refuses."""

import json

import pytest

from rag.adaptation.encodings import SEQUENTIAL
from rag.adaptation.recipe import ReadingRecipe


def test_says_every_number():
    told = json.loads(json.dumps(ReadingRecipe().as_json()))
    assert told["tuning"]["rank"] == 16
    assert [one["name"] for one in told["mix"]] == [
        "ape", "ape-serial", "block", "parallel", "graph",
    ]  # fmt: skip
    assert told["mix"][1]["options"] == {"mode": "ape", "positions": "serial", "repack": False}
    assert ReadingRecipe().schedule.learning_rate == told["learning_rate"] == 4e-4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"pass_tokens": 0}, "pass_tokens must be at least 1, got 0"),
        ({"checks": 0}, "checks must be at least 1, got 0"),
        ({"looks": 0}, "looks must be at least 1, got 0"),
        ({"patience": 0}, "patience must be at least 1, got 0"),
        ({"teacher_tokens": 0}, "teacher_tokens must be at least 1, got 0"),
        ({"cached_every": 0}, "cached_every must be at least 1, got 0"),
        ({"readings": -1}, "readings must be at least 0, got -1"),
        ({"distil": -0.5}, "distil must be at least 0, got -0.5"),
        ({"weight_decay": -1.0}, "weight_decay must be at least 0, got -1.0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"epochs": 0.0}, "epochs must be above 0, got 0.0"),
        ({"learning_rate": float("nan")}, "learning_rate must be above 0, got nan"),
        ({"clip": 0.0}, "clip must be above 0, got 0.0"),
        ({"warmup": 1.0}, r"warmup must be in \[0, 1\), got 1.0"),
        ({"whole": 1.5}, r"whole must be in \[0, 1\], got 1.5"),
        ({"sequential_first": -0.1}, r"sequential_first must be in \[0, 1\], got -0.1"),
        ({"teacher": "me"}, "teacher must be 'self', 'base' or 'none', got 'me'"),
        ({"decay": "odd"}, "decay must be 'linear' or 'cosine', got 'odd'"),
        ({"precision": "half"}, "precision must be 'auto', 'float32' or 'bfloat16', got 'half'"),
        ({"stored": "int8"}, "stored must be .*, got 'int8'"),
        ({"mix": (SEQUENTIAL,)}, "mix must not hold 'sequential'"),
    ],
)
def test_refuses_what_does_not_fit(changes, message):
    with pytest.raises(ValueError, match=message):
        ReadingRecipe(**changes)
