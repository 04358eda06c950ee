"""Image vectors of a corpus: where pictures are, what is encoded anew, and the whole path."""

import importlib.util
import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from pipelines.corpora.vision import FRAMES, build_vision, open_vision, pictures_of
from rag.corpus.manifest import IndexedSource
from rag.errors import IndexFolderError
from rag.models.image_encoder import load_image_encoder
from rag.records import Passage, Query, Span
from retrievers.dense.index import DenseIndex
from retrievers.images.image_retriever import ImageRetriever

_spec = importlib.util.spec_from_file_location(
    "tiny_clip", Path(__file__).parents[2] / "rag" / "models" / "tiny_clip.py"
)
tiny_clip = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tiny_clip)

NAMES = [(colour, shape) for colour in tiny_clip.COLOURS for shape in tiny_clip.SHAPES]


class ColourEncoder:
    """An image encoder of mean colours: a word finds its colour. Counts what it encodes."""

    dim = 3

    def __init__(self, fingerprint="c" * 64, name="colours"):
        self.name, self.fingerprint = name, fingerprint
        self.encoded = 0

    def encode_images(self, images, *, progress=None):
        self.encoded += len(images)
        means = [np.asarray(image, np.float32).mean(axis=(0, 1)) + 1 for image in images]
        vectors = np.array(means, np.float32).reshape(-1, 3)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def encode_queries(self, texts):
        rows = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1)}
        return np.array([rows[text] for text in texts], np.float32)


@pytest.fixture
def colours():
    return ColourEncoder()


@pytest.fixture
def photos(tmp_path):
    """A folder with plain pictures of three colours."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("red", "green", "blue"):
        Image.new("RGB", (8, 8), "lime" if name == "green" else name).save(folder / f"{name}.png")
    return folder


def of_folder(folder):
    return {f"photos/{path.name}:i0": path for path in sorted(folder.iterdir())}


def best(folder, encoder, text):
    index = open_vision(folder, encoder=encoder)
    [hits] = index.search_vectors(encoder.encode_queries([text]), 1)
    return hits[0].id


# Building


def test_the_right_picture_is_found(photos, colours, tmp_path):
    told = []
    report = build_vision(of_folder(photos), colours, tmp_path / "v", progress=told.append)
    assert (report.encoded, report.kept, report.left_out) == (3, 0, {})
    assert told == [3]
    for colour in ("red", "green", "blue"):
        assert best(tmp_path / "v", colours, colour) == f"photos/{colour}.png:i0"


def test_what_has_not_changed_is_not_encoded_again(photos, colours, tmp_path):
    folder = tmp_path / "v"
    build_vision(of_folder(photos), colours, folder)
    written = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    report = build_vision(of_folder(photos), colours, folder)
    assert (report.encoded, report.kept, colours.encoded) == (0, 3, 3)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == written

    Image.new("RGB", (8, 8), "blue").save(photos / "red.png")
    (photos / "green.png").unlink()
    Image.new("RGB", (8, 8), "darkred").save(photos / "new.png")
    told = []
    report = build_vision(of_folder(photos), colours, folder, progress=told.append)
    # red.png holds what blue.png holds, so its vector is known already.
    assert (report.encoded, report.kept, colours.encoded) == (1, 2, 4)
    assert told == [3]
    assert best(folder, colours, "red") == "photos/new.png:i0"
    assert open_vision(folder).ids == (
        "photos/blue.png:i0",
        "photos/new.png:i0",
        "photos/red.png:i0",
    )


def test_a_build_in_steps_equals_a_build_at_once(photos, colours, tmp_path):
    pictures = of_folder(photos)
    for count in (1, 2, 3):
        build_vision(dict(list(pictures.items())[:count]), colours, tmp_path / "steps")
    build_vision(pictures, ColourEncoder(), tmp_path / "once")
    steps, once = open_vision(tmp_path / "steps"), open_vision(tmp_path / "once")
    assert (steps.ids, steps.shas) == (once.ids, once.shas)
    np.testing.assert_array_equal(steps.vectors(steps.ids), once.vectors(once.ids))


def test_a_picture_of_several_passages_is_encoded_once(photos, colours, tmp_path):
    pictures = dict.fromkeys(("a:i0", "a:i1", "a:i2"), photos / "red.png")
    report = build_vision(pictures, colours, tmp_path / "v")
    assert (report.encoded, colours.encoded) == (3, 1)
    assert open_vision(tmp_path / "v").ids == ("a:i0", "a:i1", "a:i2")


def test_many_pictures_are_encoded_in_groups(colours, tmp_path):
    pictures = {}
    for row in range(40):
        path = tmp_path / f"{row:02d}.png"
        Image.new("RGB", (4, 4), (row, 100, 200 - row)).save(path)
        pictures[f"p{row:02d}"] = path
    told = []
    build_vision(pictures, colours, tmp_path / "v", progress=told.append)
    assert told == [32, 40]
    index = open_vision(tmp_path / "v")
    for id_, path in pictures.items():
        with Image.open(path) as image:
            np.testing.assert_allclose(
                index.rows_of(id_), colours.encode_images([image]), atol=1e-6
            )


def test_what_cannot_be_read_is_left_out_and_told(photos, colours, tmp_path):
    (photos / "broken.png").write_bytes(b"\x89PNG")
    broken = photos / "broken.png"
    pictures = {**of_folder(photos), "gone:i0": photos / "gone.png", "photos/broken.png:i1": broken}
    report = build_vision(pictures, colours, tmp_path / "v")
    assert (report.encoded, report.kept) == (3, 0)
    assert list(report.left_out) == ["gone:i0", "photos/broken.png:i0", "photos/broken.png:i1"]
    assert "cannot be read: No such file" in report.left_out["gone:i0"]
    assert "cannot be read as an image" in report.left_out["photos/broken.png:i0"]
    assert "photos/broken.png:i0" not in open_vision(tmp_path / "v")
    again = build_vision(pictures, colours, tmp_path / "v")
    assert (again.encoded, again.kept, again.left_out) == (0, 3, report.left_out)


def test_another_encoder_encodes_all_anew(photos, colours, tmp_path):
    build_vision(of_folder(photos), colours, tmp_path / "v")
    other = ColourEncoder("d" * 64, "other")
    report = build_vision(of_folder(photos), other, tmp_path / "v")
    assert (report.encoded, report.kept, other.encoded) == (3, 0, 3)
    assert open_vision(tmp_path / "v").made_by.name == "other"


def test_a_damaged_folder_is_built_again(photos, colours, tmp_path):
    build_vision(of_folder(photos), colours, tmp_path / "v")
    (tmp_path / "v" / "vision.json").write_text("{")
    assert build_vision(of_folder(photos), colours, tmp_path / "v").encoded == 3
    assert len(open_vision(tmp_path / "v")) == 3


def test_without_a_picture_there_are_no_vectors(photos, colours, tmp_path):
    build_vision({}, colours, tmp_path / "never")
    assert open_vision(tmp_path / "never") is None
    build_vision(of_folder(photos), colours, tmp_path / "v")
    build_vision({}, colours, tmp_path / "v")
    assert open_vision(tmp_path / "v") is None
    assert list((tmp_path / "v").iterdir()) == []


def test_a_build_that_is_interrupted_leaves_the_old_vectors(photos, colours, tmp_path):
    build_vision(of_folder(photos), colours, tmp_path / "v")
    before = open_vision(tmp_path / "v")
    Image.new("RGB", (8, 8), "yellow").save(photos / "red.png")

    class Interrupted(ColourEncoder):
        def encode_images(self, images, *, progress=None):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_vision(of_folder(photos), Interrupted(), tmp_path / "v")
    assert open_vision(tmp_path / "v").shas == before.shas


# Clips


def frames_of(*colours):
    """Return a reader of clips that shows these colours, whatever the clip."""
    asked = []

    def frames(video, start_s, end_s):
        asked.append((video.name, start_s, end_s))
        return [Image.new("RGB", (4, 4), colour) for colour in colours]

    return frames, asked


def test_the_best_frame_of_a_clip_counts(tmp_path, colours):
    video = tmp_path / "talk.mp4"
    video.write_bytes(b"a video")
    frames, asked = frames_of("red", "lime")
    pictures = {"talk:c0": (video, 0.0, 30.0), "talk:c1": (video, 30.0, 60.0)}
    report = build_vision(pictures, colours, tmp_path / "v", frames=frames)
    assert (report.encoded, colours.encoded) == (2, 4)
    assert asked == [("talk.mp4", 0.0, 30.0), ("talk.mp4", 30.0, 60.0)]
    index = open_vision(tmp_path / "v")
    assert index.scores_of(np.array([0.0, 1.0, 0.0]), ["talk:c0"]) == pytest.approx(1.0, abs=1e-2)
    assert len(index.rows_of("talk:c1")) == 2
    build_vision(pictures, colours, tmp_path / "v", frames=frames)
    assert colours.encoded == 4
    moved = {**pictures, "talk:c1": (video, 30.0, 61.0)}
    build_vision(moved, colours, tmp_path / "v", frames=frames)
    assert colours.encoded == 6


def test_a_clip_without_a_frame_is_left_out(tmp_path, colours):
    (tmp_path / "talk.mp4").write_bytes(b"a video")
    pictures = {"talk:c0": (tmp_path / "talk.mp4", 90.0, 120.5)}
    report = build_vision(pictures, colours, tmp_path / "v", frames=lambda *_: [])
    assert report.left_out["talk:c0"].endswith("talk.mp4 has no frame from 90 to 120.5 s")


def test_a_video_that_is_none_is_left_out(tmp_path, colours):
    (tmp_path / "talk.mp4").write_bytes(b"no video at all")
    report = build_vision({"talk:c0": (tmp_path / "talk.mp4", 0.0, 9.0)}, colours, tmp_path / "v")
    assert "talk.mp4: not a video" in report.left_out["talk:c0"]


def test_without_opencv_clips_are_left_out_with_the_remedy(tmp_path, colours, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    (tmp_path / "talk.mp4").write_bytes(b"\0\0\0\x18ftypmp42")
    report = build_vision({"talk:c0": (tmp_path / "talk.mp4", 0.0, 9.0)}, colours, tmp_path / "v")
    assert "pip install" in report.left_out["talk:c0"]


def test_frames_of_a_real_video(tmp_path, colours):
    cv2 = pytest.importorskip("cv2", reason="frames of videos need OpenCV")
    path = tmp_path / "talk.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 4, (32, 32))
    for row in range(32):
        blue_first = (0, 0, 255) if row < 16 else (0, 255, 0)
        writer.write(np.full((32, 32, 3), blue_first, np.uint8))
    writer.release()
    pictures = {"red": (path, 0.0, 4.0), "green": (path, 4.0, 8.0), "both": (path, 0.0, 8.0)}
    build_vision(pictures, colours, tmp_path / "v")
    index = open_vision(tmp_path / "v")
    assert len(index.rows_of("both")) == FRAMES
    assert best(tmp_path / "v", colours, "green") in ("green", "both")
    assert index.scores_of(np.array([1.0, 0.0, 0.0]), ["green"])[0] < 0.5


# Places


def passage(id_, source, modality="image", **more):
    return Passage(
        id_, source, "x", Span(0, 1), (Span(0, 1),), modality=modality,
        metadata={"source": source, **more},
    )  # fmt: skip


def index_of(sources, *passages):
    manifest = SimpleNamespace(
        sources=tuple(IndexedSource(id_, str(root), "0", (id_,)) for id_, root in sources.items())
    )
    return SimpleNamespace(
        folder=SimpleNamespace(manifest=manifest), passages={one.id: one for one in passages}
    )


def test_pictures_lie_below_the_root_of_their_source(photos, tmp_path):
    (photos / "below").mkdir()
    (photos / "red.png").rename(photos / "below" / "red.png")
    given = photos / "blue.png"
    index = index_of(
        {"photos/below/red.png": photos, "blue.png": given, "python:topics": "python:topics"},
        passage("r:i0", "photos/below/red.png"),
        passage("r:i1", "photos/below/red.png"),
        passage("b:i0", "blue.png"),
        passage("t", "python:topics"),
        passage("text", "photos/below/red.png", modality="text"),
        passage("elsewhere", "unknown.png"),
    )
    red = photos / "below" / "red.png"
    assert pictures_of(index) == {"r:i0": red, "r:i1": red, "b:i0": given}


def test_a_root_that_was_given_by_a_link_is_followed(photos, tmp_path):
    (tmp_path / "link").symlink_to(photos)
    index = index_of({"photos/red.png": tmp_path / "link"}, passage("r:i0", "photos/red.png"))
    assert pictures_of(index)["r:i0"].resolve() == (photos / "red.png").resolve()


def test_nothing_outside_the_root_is_read(photos, tmp_path):
    secret = tmp_path / "secret.png"
    Image.new("RGB", (4, 4)).save(secret)
    (photos / "leaves.png").symlink_to(secret)
    (photos / "stays.png").symlink_to(photos / "red.png")
    sources = [
        "photos/leaves.png", "photos/../secret.png", str(secret), f"photos/{secret}",
        "photos/gone.png", "photos/a\0b.png", "photos/" + "x" * 300, "photos/stays.png",
    ]  # fmt: skip
    index = index_of(
        dict.fromkeys(sources, photos), *(passage(source, source) for source in sources)
    )
    assert list(pictures_of(index)) == ["photos/stays.png"]


def test_a_clip_is_shown_by_the_video_beside_its_subtitles(tmp_path):
    talks = tmp_path / "talks"
    talks.mkdir()
    for name in ("a.srt", "a.mp4", "b.en.vtt", "b.webm", "alone.vtt"):
        (talks / name).write_text("x")
    times = {"start_s": 1.5, "end_s": 9}
    index = index_of(
        dict.fromkeys(("talks/a.srt", "talks/b.en.vtt", "talks/alone.vtt", "talks/a.mp4"), talks),
        passage("a:c0", "talks/a.srt", "video", **times),
        passage("b:c0", "talks/b.en.vtt", "video", **times),
        passage("alone:c0", "talks/alone.vtt", "video", **times),
        passage("m:c0", "talks/a.mp4", "video", **times),
        passage("untimed", "talks/a.srt", "video"),
    )
    assert pictures_of(index) == {
        "a:c0": (talks / "a.mp4", 1.5, 9.0),
        "b:c0": (talks / "b.webm", 1.5, 9.0),
        "m:c0": (talks / "a.mp4", 1.5, 9.0),
    }


# Opening


def test_the_encoder_is_loaded_with_the_first_query_and_once(
    photos, colours, tmp_path, monkeypatch
):
    build_vision(of_folder(photos), colours, tmp_path / "v")
    loads = []

    def load(name, *, download):
        loads.append((name, download))
        return ColourEncoder()

    monkeypatch.setattr("rag.models.image_encoder.load_image_encoder", load)
    index = open_vision(tmp_path / "v", download=True)
    lazy = index.encoder
    assert (lazy.name, lazy.fingerprint, lazy.dim, loads) == ("colours", "c" * 64, 3, [])
    lazy.encode_queries(["red"])
    lazy.encode_images([Image.new("RGB", (2, 2))])
    assert loads == [("colours", True)]


def test_a_name_that_means_another_encoder_by_now_is_refused(
    photos, colours, tmp_path, monkeypatch
):
    build_vision(of_folder(photos), colours, tmp_path / "v")
    monkeypatch.setattr(
        "rag.models.image_encoder.load_image_encoder",
        lambda name, **_: ColourEncoder("e" * 64, name),
    )
    index = open_vision(tmp_path / "v")
    with pytest.raises(IndexFolderError, match="made with encoder 'colours'"):
        index.encoder.encode_queries(["red"])
    with pytest.raises(IndexFolderError, match=r"'colours'.*'other'"):
        open_vision(tmp_path / "v", encoder=ColourEncoder("e" * 64, "other"))


def test_opening_reads_nothing_of_another_folder(photos, colours, tmp_path):
    build_vision(of_folder(photos), colours, tmp_path / "v")
    path = tmp_path / "v" / "vision.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"vectors": "/etc/passwd"}))
    with pytest.raises(IndexFolderError, match="must be a file of ours"):
        open_vision(tmp_path / "v")


# The whole path, on a CLIP that was taught nine drawings


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    folder = tmp_path_factory.mktemp("taught")
    return tiny_clip.save(folder, tiny_clip.taught(tmp_path_factory.mktemp("words")))


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    """Nine drawings that the model has not seen so placed, named by numbers."""
    folder = tmp_path_factory.mktemp("gallery")
    for row, name in enumerate(NAMES):
        tiny_clip.drawing(*name, jitter=(2, -2, 17)).save(folder / f"img_{row}.png")
    return folder


class Words:
    """A text encoder: which of the words it knows a text holds."""

    name = fingerprint = "words"
    WORDS = (*tiny_clip.COLOURS, *tiny_clip.SHAPES, "rest")
    dim = len(WORDS)

    def encode(self, texts, *, progress=None):
        rows = [[float(word in text.split()) for word in self.WORDS[:-1]] + [0.1] for text in texts]
        vectors = np.array(rows, np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    encode_queries = encode


def searched(taught, gallery, folder, captions, **settings):
    """Build, open by name, and return a retriever over the gallery with these captions."""
    ids = [f"gallery/img_{row}.png:i0" for row in range(9)]
    pictures = {id_: gallery / f"img_{row}.png" for row, id_ in enumerate(ids)}
    report = build_vision(pictures, load_image_encoder(os.fspath(taught)), folder)
    assert report.left_out == {}
    vision = open_vision(folder)
    return ImageRetriever(
        dense=DenseIndex.build(ids, Words().encode(captions)),
        vision=vision,
        encoder=Words(),
        image_encoder=vision.encoder,
        passages={
            id_: Passage(id_, id_, f"{text} {row}", Span(0, 1), (Span(0, 1),), modality="image")
            for row, (id_, text) in enumerate(zip(ids, captions, strict=True))
        },
        **{"top_k": 9} | settings,
    )


def test_the_right_drawing_is_found_without_any_caption(taught, gallery, tmp_path):
    search = searched(taught, gallery, tmp_path, ["img"] * 9)
    for row, (colour, shape) in enumerate(NAMES):
        found = search(Query(f"{colour} {shape}"))
        assert found[0].id == f"gallery/img_{row}.png:i0"


def test_pictures_tell_apart_what_captions_leave_open(taught, gallery, tmp_path):
    # Captions name the shape only: on their own they find the first of three.
    captions = [shape for _, shape in NAMES]
    right = {}
    for weight in (0.0, 0.8):
        search = searched(taught, gallery, tmp_path, captions, image_weight=weight)
        right[weight] = sum(
            search(Query(f"{colour} {shape}"))[0].id == f"gallery/img_{row}.png:i0"
            for row, (colour, shape) in enumerate(NAMES)
        )
    assert right == {0.0: 3, 0.8: 9}


def test_a_caption_that_says_otherwise_wins_once_it_weighs_enough(taught, gallery, tmp_path):
    captions = ["img"] * 8 + ["red square"]  # of a picture of blue stripes
    first = {}
    for weight in (0.05, 0.8, 1.0):
        search = searched(taught, gallery, tmp_path, captions, image_weight=weight)
        first[weight] = search(Query("red square"))[0].id
    assert first == {
        0.05: "gallery/img_8.png:i0", 0.8: "gallery/img_0.png:i0", 1.0: "gallery/img_0.png:i0",
    }  # fmt: skip
