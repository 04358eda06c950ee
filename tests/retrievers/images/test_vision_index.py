"""Vectors of pictures: the best row counts, parity with the definition, files, encoders."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.errors import IndexFolderError
from rag.records import Hit
from retrievers.images.vision_index import VisionIdentity, VisionIndex
from retrievers.scoped import ScopedVectors

MADE_BY = VisionIdentity("tiny-clip", "f" * 64, 3)


class Named:
    """An image encoder of which only the identity is asked."""

    def __init__(self, name="tiny-clip", fingerprint="f" * 64, dim=3):
        self.name, self.fingerprint, self.dim = name, fingerprint, dim

    def encode_images(self, images, *, progress=None):
        raise AssertionError("encoded")

    encode_queries = encode_images


def unit(*rows):
    rows = np.array(rows, np.float32).reshape(-1, 3)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def random_rows(counts, seed):
    rng = np.random.default_rng(seed)
    return {f"p{place}": unit(*rng.normal(size=(n, 3))) for place, n in enumerate(counts)}


def ranking_by_definition(rows, vector, top_k, within=None):
    """Each passage's largest inner product, best first, ties by id: read literally."""
    best = {
        id_: max(sum(float(a) * float(b) for a, b in zip(row, vector, strict=True)) for row in of)
        for id_, of in rows.items()
        if within is None or id_ in within
    }
    return sorted(best.items(), key=lambda one: (-one[1], one[0]))[:top_k]


@pytest.fixture
def rows():
    return {
        "clip": unit([1, 0, 0], [0, 1, 0], [0, 0, 1]),
        "near": unit([0.1, 1, 0]),
        "far": unit([-1, 0.2, 0]),
    }


def test_a_clip_counts_by_its_best_frame(rows):
    index = VisionIndex(rows, MADE_BY)
    [hits] = index.search_vectors(unit([0, 1, 0]), 3)
    assert [hit.id for hit in hits] == ["clip", "near", "far"]
    assert hits[0] == Hit("clip", 1.0)


def test_frames_of_one_clip_do_not_crowd_others_out(rows):
    index = VisionIndex({"clip": unit(*([[0, 1, 0]] * 5)), "near": rows["near"]}, MADE_BY)
    [hits] = index.search_vectors(unit([0, 1, 0]), 2)
    assert [hit.id for hit in hits] == ["clip", "near"]


def test_ties_go_to_the_lower_id_however_many_rows_each_has():
    same = unit([1, 0, 0])
    index = VisionIndex({"b": same, "c": np.repeat(same, 4, axis=0), "a": same, "d": same}, MADE_BY)
    for top_k in range(1, 6):
        [hits] = index.search_vectors(same, top_k)
        assert [hit.id for hit in hits] == ["a", "b", "c", "d"][:top_k]


@given(
    counts=st.lists(st.integers(1, 5), max_size=12),
    top_k=st.integers(1, 15),
    seed=st.integers(0, 99),
)
def test_equals_the_definition(counts, top_k, seed):
    rows = random_rows(counts, seed)
    vector = unit(np.random.default_rng(seed + 1).normal(size=3))[0]
    index = VisionIndex(rows, MADE_BY)
    for within in (None, frozenset(["p0", "p3", "p4", "unknown"]), frozenset()):
        [hits] = index.search_vectors(vector[None], top_k, within=within)
        expected = ranking_by_definition(rows, vector, top_k, within)
        assert [hit.id for hit in hits] == [id_ for id_, _ in expected]
        assert [hit.score for hit in hits] == pytest.approx([score for _, score in expected])


def test_scores_are_those_of_the_search_to_the_last_bit():
    index = VisionIndex(random_rows([1, 3, 2, 5, 1], seed=3), MADE_BY)
    vector = unit([0.3, -0.2, 0.9])[0]
    [hits] = index.search_vectors(vector[None], 5)
    scores = index.scores_of(vector, [hit.id for hit in hits])
    assert scores.dtype == np.float64
    assert scores.tolist() == [hit.score for hit in hits]
    assert index.scores_of(vector, []).shape == (0,)
    assert (
        index.scores_of(vector, ["p3", "p3"]).tolist() == [index.scores_of(vector, ["p3"])[0]] * 2
    )


def test_a_batch_equals_a_loop():
    index = VisionIndex(random_rows([2, 1, 4], seed=1), MADE_BY)
    queries = unit(*np.random.default_rng(0).normal(size=(5, 3)))
    assert index.search_vectors(queries, 2) == [
        index.search_vectors(one[None], 2)[0] for one in queries
    ]
    assert index.search_vectors(queries[:0], 2) == []


def test_a_passage_has_one_vector_for_whoever_compares_passages(rows):
    index = VisionIndex({**rows, "off": unit([1, 0, 0], [-1, 0, 0])}, MADE_BY)
    mean = unit([1, 1, 1])[0]
    found = index.vectors(["near", "clip", "off"])
    np.testing.assert_allclose(found, [rows["near"][0], mean, [1, 0, 0]], atol=1e-6)
    assert index.vectors([]).shape == (0, 3)
    np.testing.assert_array_equal(index.rows_of("clip"), rows["clip"])


def test_unknown_ids_are_key_errors(rows):
    index = VisionIndex(rows, MADE_BY)
    vector = rows["near"][0]
    for ask in (
        lambda: index.vectors(["near", "gone"]),
        lambda: index.rows_of("gone"),
        lambda: index.scores_of(vector, ["near", "gone"]),
    ):
        with pytest.raises(KeyError, match="no image vector for passage 'gone'"):
            ask()


def test_holds_no_picture_at_all():
    index = VisionIndex({}, MADE_BY)
    assert (len(index), index.ids, index.dim) == (0, (), 3)
    assert index.search_vectors(unit([1, 0, 0]), 3) == [[]]


def test_a_scope_can_be_put_on_it(rows):
    scoped = ScopedVectors(VisionIndex(rows, MADE_BY), frozenset(["far", "near"]))
    [hits] = scoped.search_vectors(unit([0, 1, 0]), 3)
    assert [hit.id for hit in hits] == ["near", "far"]
    assert "clip" not in scoped


@pytest.mark.parametrize(
    ("rows", "shas", "message"),
    [
        (
            {"a": np.ones((1, 2), np.float32)},
            {},
            r"rows of 'a' must be \(at least 1, 3\), got \(1, 2\)",
        ),
        ({"a": np.ones((0, 3), np.float32)}, {}, r"got \(0, 3\)"),
        ({"a": np.ones(3, np.float32)}, {}, r"got \(3,\)"),
        ({"a": np.ones((1, 3), np.float32)}, {}, "unit length"),
        ({"a": np.full((1, 3), np.nan, np.float32)}, {}, "unit length"),
        (
            {"a": np.eye(3, dtype=np.float32)},
            {"b": "0"},
            "shas must be of passages with rows, got one of 'b'",
        ),
    ],
)
def test_refuses_rows_that_are_none(rows, shas, message):
    with pytest.raises(ValueError, match=message):
        VisionIndex(rows, MADE_BY, shas=shas)


def test_what_is_saved_is_what_is_loaded(rows, tmp_path):
    index = VisionIndex(rows, MADE_BY, shas={"near": "1", "clip": "2"})
    index.save(tmp_path / "vision")
    loaded = VisionIndex.load(tmp_path / "vision")
    queries = unit(*np.random.default_rng(0).normal(size=(4, 3)))
    assert loaded.search_vectors(queries, 3) == index.search_vectors(queries, 3)
    assert (loaded.made_by, loaded.shas, loaded.ids) == (MADE_BY, index.shas, index.ids)
    np.testing.assert_array_equal(loaded.rows_of("clip"), rows["clip"])
    assert loaded.encoder is None


def test_a_second_save_replaces_the_first_and_leaves_no_file_behind(rows, tmp_path):
    VisionIndex(rows, MADE_BY).save(tmp_path)
    VisionIndex({"only": rows["near"]}, MADE_BY).save(tmp_path)
    assert VisionIndex.load(tmp_path).ids == ("only",)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_save_that_fails_leaves_the_old_index(rows, tmp_path, monkeypatch):
    VisionIndex(rows, MADE_BY).save(tmp_path)

    def full(path, write):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("retrievers.images.vision_index.write_atomically", full)
    with pytest.raises(OSError, match="No space left"):
        VisionIndex({"only": rows["near"]}, MADE_BY).save(tmp_path)
    monkeypatch.undo()
    assert set(VisionIndex.load(tmp_path).ids) == set(rows)


def test_removing_takes_only_its_own_files(rows, tmp_path):
    VisionIndex(rows, MADE_BY).save(tmp_path)
    (tmp_path / "mine.txt").write_text("stays")
    VisionIndex.remove(tmp_path)
    VisionIndex.remove(tmp_path / "never there")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_files_hold_no_pickle(rows, tmp_path):
    VisionIndex(rows, MADE_BY).save(tmp_path)
    [path] = tmp_path.glob("*.npy")
    assert np.load(path, allow_pickle=False).dtype == np.float32


def about(folder, **changes):
    path = folder / "vision.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "format 2, and this Dovetail reads format 1"),
        ({"vectors": "../vision.00000000.npy"}, "must be a file of ours"),
        ({"vectors": None}, "no readable image vectors"),
        ({"ids": ["a"]}, r"must be float32 \(1, 3\)"),
        ({"ids": [1, 2, 3, 4, 5]}, "ids must be a list of passage ids"),
        ({"encoder": {"name": "x", "fingerprint": "y", "dim": "3"}}, "encoder must have"),
        ({"encoder": {"name": "x"}}, "no readable image vectors"),
        ({"sha256": "0"}, "damaged"),
        ({"shas": {"unknown": "1"}}, "shas must be of passages with rows"),
        ({"shas": []}, "shas must be an object"),
    ],
)
def test_a_folder_that_is_damaged_or_of_another_format_is_refused(changes, message, rows, tmp_path):
    VisionIndex(rows, MADE_BY).save(tmp_path)
    about(tmp_path, **changes)
    with pytest.raises(IndexFolderError, match=message):
        VisionIndex.load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff", b"null"])
def test_a_description_that_is_none_is_refused(content, rows, tmp_path):
    VisionIndex(rows, MADE_BY).save(tmp_path)
    (tmp_path / "vision.json").write_bytes(content)
    with pytest.raises(IndexFolderError, match="no readable image vectors"):
        VisionIndex.load(tmp_path)


def test_changed_or_lost_vectors_are_refused(rows, tmp_path):
    VisionIndex(rows, MADE_BY).save(tmp_path)
    [path] = tmp_path.glob("*.npy")
    whole = path.read_bytes()
    for content in (whole[:-1] + bytes([whole[-1] ^ 1]), whole[:-8], b""):
        path.write_bytes(content)
        with pytest.raises(IndexFolderError, match="no readable image vectors"):
            VisionIndex.load(tmp_path)
    path.unlink()
    with pytest.raises(IndexFolderError, match="no readable image vectors"):
        VisionIndex.load(tmp_path)


def test_another_encoder_is_refused_by_both_names(rows, tmp_path):
    VisionIndex(rows, MADE_BY).save(tmp_path)
    assert VisionIndex.load(tmp_path, encoder=Named("a copy")).encoder.name == "a copy"
    with pytest.raises(IndexFolderError, match=r"made with encoder 'tiny-clip' .*, got 'other'"):
        VisionIndex.load(tmp_path, encoder=Named("other", "0" * 64))
    with pytest.raises(IndexFolderError, match=r"'tiny-clip'.*'other'"):
        VisionIndex(rows, MADE_BY, encoder=Named("other", "0" * 64))
