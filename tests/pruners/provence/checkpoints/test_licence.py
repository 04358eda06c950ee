"""Licences: read from the card, noted once where commerce is forbidden, shown in a description."""

import warnings

import pytest

from pruners.provence.checkpoints import describe_checkpoint, load_checkpoint
from pruners.provence.checkpoints.licence import is_non_commercial, licence_of


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: mit\ntags: [x]\n---\n# Model", "mit"),
        ("---\nlanguage: en\nlicense: 'CC-BY-NC-4.0' \n---\n", "cc-by-nc-4.0"),
        ("---\nlicense: other\nlicense_name: own-nc\n---\n", "own-nc"),
        ("---\nlicense: other\n---\n", "stated"),
        ("---\nlicense:\n---\n", "stated"),
        ("# Model\nlicense: mit\n", "stated"),
        ("# Model\n---\nlicense: mit\n---\n", "stated"),
        ("", "stated"),
        (None, "stated"),
    ],
)
def test_the_cards_header_states_the_licence(tmp_path, card, licence):
    if card is not None:
        (tmp_path / "README.md").write_text(card)
    assert licence_of(tmp_path, "stated") == licence


@pytest.mark.parametrize(
    ("licence", "forbidden"),
    [
        ("cc-by-nc-nd-4.0", True),
        ("CC BY-NC 4.0", True),
        ("a non-commercial licence", True),
        ("mit", False),
        ("apache-2.0", False),
        ("cc-by-4.0", False),
        ("ncsa", False),
    ],
)
def test_non_commercial_licences_are_known_by_their_name(licence, forbidden):
    assert is_non_commercial(licence) is forbidden


def test_loading_notes_a_licence_that_forbids_commerce(checkpoint):
    made = checkpoint("naver")
    with pytest.warns(UserWarning, match=r"are licensed cc-by-nc-nd-4\.0: commercial use is not"):
        load_checkpoint(made.folder)
    (made.folder / "README.md").write_text("---\nlicense: mit\n---\n")
    assert load_checkpoint(made.folder).threshold == 0.1


def test_the_note_comes_once(checkpoint):
    made = checkpoint("xprovence")
    with warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("default")
        for _ in range(2):
            load_checkpoint(made.folder)
    assert len(noted) == 1


def test_a_description_needs_headers_only(checkpoint):
    made = checkpoint("xprovence")
    described = describe_checkpoint(made.folder)
    assert described.parameters == sum(tensor.numel() for tensor in made.tensors.values())
    assert described.published.licence == "cc-by-nc-nd-4.0"
    assert described.commercial is False
    assert str(described) == (
        "naver XProvence (xlm-roberta, 0 M parameters, many languages), licence cc-by-nc-nd-4.0, "
        "no commercial use; threshold 0.3, rounding same_t, rerank score logit"
    )
    (made.folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    assert describe_checkpoint(made.folder).commercial is True


def test_a_description_of_a_free_one(checkpoint):
    assert str(describe_checkpoint(checkpoint("zilliz").folder)) == (
        "Zilliz semantic highlight (xlm-roberta, 0 M parameters, en/zh), licence mit; "
        "threshold 0.5, rounding mean, rerank score probability"
    )
