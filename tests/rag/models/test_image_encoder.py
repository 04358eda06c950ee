"""Image encoders: both layouts, one space, what a file may be, fingerprints; on a tiny CLIP."""

import importlib.util
import json
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rag.errors import CorpusError, ModelNotFoundError
from rag.models.image_encoder import load_image_encoder, read_image, upright_rgb
from rag.protocols import ImageEncoder

_spec = importlib.util.spec_from_file_location(
    "tiny_clip", Path(__file__).with_name("tiny_clip.py")
)
tiny_clip = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tiny_clip)

TEXTS = ["red square", "", "a", "blue circle", "two green stripes on a wall"]


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    return tiny_clip.save(tmp_path_factory.mktemp("packed"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return tiny_clip.save(tmp_path_factory.mktemp("plain"), packed=False)


@pytest.fixture(scope="module")
def encoder(packed):
    return load_image_encoder(str(packed))


@pytest.fixture(scope="module")
def drawings():
    return [tiny_clip.drawing(c, s) for c in tiny_clip.COLOURS for s in tiny_clip.SHAPES]


def by_definition(folder, texts, images):
    """Both sides by transformers alone: the projected features, each at unit length."""
    import torch
    from transformers import CLIPModel, CLIPTokenizer

    model = CLIPModel.from_pretrained(folder)
    words = CLIPTokenizer.from_pretrained(folder)
    pixels = np.stack([tiny_clip.processor()(image)["pixel_values"][0] for image in images])
    with torch.no_grad():
        of_texts = [
            model.get_text_features(**words(text, return_tensors="pt")).pooler_output[0]
            for text in texts
        ]
        of_images = model.get_image_features(pixel_values=torch.from_numpy(pixels)).pooler_output
    return [
        np.array([v / np.linalg.norm(v) for v in np.array([row.numpy() for row in side])])
        for side in (of_texts, of_images)
    ]


def test_satisfies_the_protocol(encoder, packed):
    assert isinstance(encoder, ImageEncoder)
    assert encoder.name == str(packed)
    assert encoder.dim == tiny_clip.WIDTH


def test_gives_unit_float32_vectors_of_both_sides(encoder, drawings):
    for vectors, count in (
        (encoder.encode_images(drawings), 9),
        (encoder.encode_queries(TEXTS), len(TEXTS)),
    ):
        assert vectors.shape == (count, tiny_clip.WIDTH)
        assert vectors.dtype == np.float32
        assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0, abs=1e-6)
        assert len({tuple(v) for v in vectors.round(5)}) == count


@pytest.mark.parametrize("layout", ["packed", "plain"])
def test_equals_the_features_of_transformers(layout, request, drawings):
    folder = request.getfixturevalue(layout)
    encoder = load_image_encoder(str(folder))
    inside = folder / "0_CLIPModel" if layout == "packed" else folder
    of_texts, of_images = by_definition(inside, TEXTS, drawings)
    np.testing.assert_allclose(encoder.encode_queries(TEXTS), of_texts, atol=1e-6)
    np.testing.assert_allclose(encoder.encode_images(drawings), of_images, atol=1e-6)


def test_a_vector_is_the_same_whatever_the_batch(encoder, drawings):
    together = encoder.encode_images(drawings)
    alone = np.concatenate([encoder.encode_images([one]) for one in drawings])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    texts = np.concatenate([encoder.encode_queries([one]) for one in TEXTS])
    np.testing.assert_allclose(encoder.encode_queries(TEXTS), texts, atol=1e-6)


def test_encodes_nothing(encoder):
    assert encoder.encode_images([]).shape == encoder.encode_queries([]).shape == (0, encoder.dim)


def test_a_query_is_cut_at_77_tokens_without_a_word(encoder, recwarn, caplog):
    # Each of these words is one token, and two more mark the ends.
    words = ["a", "b"] * 100
    long, cut = encoder.encode_queries([" ".join(words), " ".join(words[:75])])
    shorter = encoder.encode_queries([" ".join(words[:74])])[0]
    np.testing.assert_allclose(long, cut, atol=1e-6)
    assert np.abs(long - shorter).max() > 1e-4
    assert not recwarn.list
    assert not caplog.records


def test_a_lone_surrogate_is_read_as_a_question_mark(encoder):
    odd, plain = encoder.encode_queries(["red \ud800", "red ?"])
    np.testing.assert_allclose(odd, plain, atol=1e-6)


def test_reads_files_as_it_reads_pictures_and_tells_how_far_it_is(encoder, drawings, tmp_path):
    paths = [tmp_path / f"{row}.png" for row in range(9)]
    for path, image in zip(paths, drawings, strict=True):
        image.save(path)
    told = []
    vectors = encoder.encode_images(paths, progress=told.append)
    np.testing.assert_allclose(vectors, encoder.encode_images(drawings), atol=1e-6)
    assert told == [8, 9]


def test_a_file_that_is_no_image_is_named(encoder, tmp_path):
    (tmp_path / "notes.png").write_text("no picture")
    with pytest.raises(CorpusError, match=r"notes\.png cannot be read as an image"):
        encoder.encode_images([tmp_path / "notes.png"])


def test_a_text_encoder_is_refused(tmp_path):
    import transformers

    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]")
    transformers.BertTokenizerFast(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    config = transformers.BertConfig(
        vocab_size=5, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
    )
    transformers.BertModel(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="encodes no images, got modalities text"):
        load_image_encoder(str(tmp_path))


def test_a_name_without_a_slash_never_reaches_the_hub():
    with pytest.raises(ModelNotFoundError, match="hub: not asked"):
        load_image_encoder("clip-vit-b-32-of-nobody")


def test_weights_in_a_pickle_are_refused(packed, tmp_path):
    folder = shutil.copytree(packed, tmp_path / "copy")
    (folder / "0_CLIPModel" / "model.safetensors").rename(
        folder / "0_CLIPModel" / "pytorch_model.bin"
    )
    with pytest.raises(ModelNotFoundError, match=r"holds no \.safetensors"):
        load_image_encoder(str(folder))


def test_the_fingerprint_follows_weights_and_processor_not_the_place(packed, encoder, tmp_path):
    copy = shutil.copytree(packed, tmp_path / "copy")
    assert load_image_encoder(str(copy)).fingerprint == encoder.fingerprint
    settings = copy / "0_CLIPModel" / "preprocessor_config.json"
    changed = json.loads(settings.read_text()) | {"image_mean": [0.5, 0.5, 0.5]}
    settings.write_text(json.dumps(changed))
    assert load_image_encoder(str(copy)).fingerprint != encoder.fingerprint
    other = tiny_clip.save(tmp_path / "other", tiny_clip.model(seed=1))
    assert load_image_encoder(str(other)).fingerprint != encoder.fingerprint


def pixels(image):
    return np.asarray(upright_rgb(image)).tolist()


def test_what_is_transparent_stands_on_white():
    image = Image.new("RGBA", (2, 1), (200, 0, 0, 255))
    image.putpixel((1, 0), (200, 0, 0, 0))
    assert pixels(image) == [[[200, 0, 0], [255, 255, 255]]]
    palette = Image.new("P", (1, 1), 0)
    palette.info["transparency"] = 0
    assert pixels(palette) == [[[255, 255, 255]]]


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "LA", "I", "F", "I;16"])
def test_every_kind_of_pixel_becomes_rgb(mode):
    image = upright_rgb(Image.new(mode, (3, 2)))
    assert (image.mode, image.size) == ("RGB", (3, 2))


def test_sixteen_bits_keep_their_greys():
    deep = Image.fromarray(np.array([[0, 257 * 100, 65535]], np.uint16))
    assert [grey for grey, _, _ in pixels(deep)[0]] == [0, 100, 255]
    measured = Image.fromarray(np.array([[-1.0, 0.0, 1.0]], np.float32))
    assert [grey for grey, _, _ in pixels(measured)[0]] == [0, 128, 255]


def test_a_picture_is_turned_as_its_camera_says(tmp_path):
    image = Image.new("RGB", (2, 1), "white")
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.png", exif=exif)
    assert read_image(tmp_path / "turned.png").size == (1, 2)


def test_of_an_animation_the_first_frame_is_read(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert read_image(tmp_path / "a.gif").getpixel((0, 0)) == (255, 0, 0)


def png_of(width, height):
    """Return the bytes of a PNG whose header promises a size, and whose content is cut off."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "UnidentifiedImageError"),
        (b"\x89PNG\r\n\x1a\n", "cannot be read"),
        (png_of(40, 40), "cannot be read"),
        (png_of(10_000, 10_000), "DecompressionBombWarning"),
        (png_of(60_000, 60_000), "DecompressionBombError"),
    ],
)
def test_a_damaged_or_huge_file_is_an_error_that_names_it(content, reason, tmp_path):
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(CorpusError, match=reason) as caught:
        read_image(tmp_path / "x.png")
    assert "x.png" in str(caught.value)


def test_a_missing_file_is_an_error_that_names_it(tmp_path):
    with pytest.raises(CorpusError, match="gone"):
        read_image(tmp_path / "gone.png")


def test_importing_it_loads_neither_torch_nor_pillow():
    code = "import sys, rag.models.image_encoder; print({'torch', 'PIL', 'transformers'} & {*sys.modules})"
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert said.stdout.strip() == "set()"
