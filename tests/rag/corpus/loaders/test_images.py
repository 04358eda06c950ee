"""Images: what stands in their document, in which order, and what damaged ones say."""

import io
import struct
import zlib

import pytest

from rag.corpus.image_notes import ImageNotes
from rag.corpus.loaders import images
from rag.corpus.ocr import TextLine
from rag.errors import CorpusError, MissingExtraError
from rag.records import Section

Image = pytest.importorskip("PIL.Image")
from PIL import PngImagePlugin  # noqa: E402 (after the check for Pillow)


@pytest.fixture(autouse=True)
def no_engine(monkeypatch):
    """Tests see no OCR engine, whether one is installed or not, unless they bring one."""
    monkeypatch.setattr(images, "ocr_available", lambda: None)


@pytest.fixture
def engine(monkeypatch):
    """An engine that reads two lines in every image."""
    lines = [TextLine("Total", 1.0, 0, 0, 50, 10), TextLine("5,738", 1.0, 0, 12, 50, 22)]
    monkeypatch.setattr(images, "ocr_available", lambda: "engine 1")
    monkeypatch.setattr(images, "read_text", lambda _: lines)
    return lines


def image_bytes(form="PNG", size=(4, 3), **options):
    out = io.BytesIO()
    Image.new("RGB", size, "white").save(out, form, **options)
    return out.getvalue()


def chunk(kind, content):
    """A chunk of a PNG file."""
    check = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + check


def header_of(width, height):
    """A PNG file that says its size and holds nothing."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IEND", b"")


def described(**texts):
    info = PngImagePlugin.PngInfo()
    for key, text in texts.items():
        info.add_itxt(key, text)
    return image_bytes(pnginfo=info)


def load(data, name="docling-archDiagram_2", notes=None):
    return images.load(data, "d/x.png", name, notes)[0]


def test_all_that_is_known_stands_in_order(engine):
    notes = ImageNotes(captions=("A caption.",), alts=("An alt.",), around=("Page\nBefore.",))
    document = load(described(Description="Inside é."), notes=notes)
    expected = ["A caption.", "An alt.", "Page\nBefore.", "Inside é."]
    assert document.text == "\n\n".join([*expected, "Text in the image", "Total\n5,738"])
    at = document.text.index("Text in")
    assert document.sections == (Section(at, 1, "Text in the image"),)
    assert document.title == "docling arch Diagram 2"
    assert document.metadata == {"modality": "image", "width": 4, "height": 3, "ocr": True}


def test_what_was_said_before_is_not_said_again():
    notes = ImageNotes(captions=("A  Plot.",), alts=("a plot.", "Other."))
    assert load(described(Title="Other.", Description="New."), notes=notes).text == (
        "A  Plot.\n\nOther.\n\nNew."
    )


def test_an_image_of_which_nothing_is_known_has_the_words_of_its_name():
    document = load(image_bytes())
    assert document.text == "docling arch Diagram 2"
    assert document.metadata == {
        "modality": "image",
        "width": 4,
        "height": 3,
        "ocr": False,
        "text_only_name": True,
    }
    assert load(image_bytes(), name="__-").text == "__-"


def test_an_engine_that_reads_nothing_still_counts_as_ocr(engine):
    engine.clear()
    document = load(image_bytes())
    assert (document.metadata["ocr"], document.metadata["text_only_name"]) == (True, True)
    assert document.sections == ()


def test_text_that_is_read_makes_the_name_only_the_title(engine):
    assert load(image_bytes()).text == "Text in the image\n\nTotal\n5,738"
    assert "text_only_name" not in load(image_bytes()).metadata


def test_an_exif_description_is_read():
    exif = Image.Exif()
    exif[0x010E] = "A harbour\0 at  dusk"
    assert load(image_bytes("JPEG", exif=exif)).text == "A harbour at dusk"


def test_an_image_is_as_wide_as_it_is_shown():
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    metadata = load(image_bytes("JPEG", exif=exif)).metadata
    assert (metadata["width"], metadata["height"]) == (3, 4)


@pytest.mark.parametrize("form", ["BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP"])
def test_usual_formats_are_read(form):
    metadata = load(image_bytes(form)).metadata
    assert (metadata["width"], metadata["height"]) == (4, 3)


def test_of_an_animation_the_first_frame_is_read():
    out = io.BytesIO()
    frames = [Image.new("RGB", (4, 3), colour) for colour in ("red", "blue")]
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:])
    assert load(out.getvalue()).metadata["width"] == 4


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty file, no image"),
        (
            b"no image",
            "image is damaged, or of another format than BMP, GIF, JPEG, PNG, TIFF, WEBP",
        ),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image is damaged, or of another format"),
        (image_bytes(size=(99, 99))[:60], "damaged image \\("),
        (header_of(10_000, 10_000), "image of 10000 x 10000 pixels: more than 80 million"),
        (header_of(60_000, 60_000), r"image too large to be decoded \(.*3600000000 pixels"),
    ],
)
def test_what_cannot_be_decoded_says_why(data, message):
    with pytest.raises(CorpusError, match=f"^{message}"):
        load(data)


def test_without_pillow_the_install_command_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(MissingExtraError, match=r'pip install "dovetail-rag\[docs\]"'):
        load(b"x")
