"""OCR: rows and columns from boxes; and with the engine, real text without any network."""

import io
import logging
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.corpus import ocr
from rag.corpus.ocr import TextLine, joined, ocr_available, read_text
from rag.errors import CorpusError, MissingExtraError

DATA = Path(__file__).parents[3] / "../shared/data/docs_mixed/files"
needs_engine = pytest.mark.skipif(ocr_available() is None, reason="rapidocr is not installed")


def line(text, left, top, width=40.0, height=10.0):
    return TextLine(text, 1.0, left, top, left + width, top + height)


@pytest.fixture
def image():
    """Bytes of a small image."""
    out = io.BytesIO()
    pytest.importorskip("PIL.Image").new("RGB", (8, 8)).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def fresh_engine():
    """The engine is made anew, and not left for later tests."""
    ocr._recogniser.cache_clear()
    yield
    ocr._recogniser.cache_clear()


def test_a_form_becomes_rows_columns_and_blocks():
    lines = [
        line("5,738", 200, 101),
        line("Total", 0, 100),
        line("Invoice", 0, 0),
        line("No. 7", 45, 2),
        line("Parts", 0, 14),
        line("due", 245, 100),
    ]
    assert joined(lines) == "Invoice No. 7\nParts\n\nTotal | 5,738 due"


def test_a_gap_of_one_and_a_half_heights_begins_a_column_only_above_that():
    assert joined([line("a", 0, 0), line("b", 55, 0)]) == "a b"
    assert joined([line("a", 0, 0), line("b", 55.1, 0)]) == "a | b"


def test_a_gap_of_one_height_begins_a_block_only_above_that():
    assert joined([line("a", 0, 0), line("b", 0, 20)]) == "a\nb"
    assert joined([line("a", 0, 0), line("b", 0, 20.1)]) == "a\n\nb"
    tall = line("Title", 0, 0, height=30)
    assert joined([tall, line("b", 0, 55)]) == "Title\nb"


def test_lines_share_a_row_if_half_of_the_lower_one_is_level():
    assert joined([line("a", 0, 0), line("b", 41, 5)]) == "a b"
    assert joined([line("a", 0, 0), line("b", 41, 5.1)]) == "a\nb"


def test_a_line_inside_another_does_not_begin_a_column():
    wide = line("wide", 0, 0, width=300)
    assert joined([wide, line("in", 50, 0), line("next", 305, 0)]) == "wide in next"


def test_nothing_is_no_text():
    assert joined([]) == ""
    assert joined([line(" a \n b ", 0, 0)]) == "a b"


boxes = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300), st.integers(5, 40)))


@given(boxes=boxes, seed=st.randoms())
def test_every_line_is_there_once_whatever_order_they_come_in(boxes, seed):
    lines = [line(f"w{n}", x, y, height=h) for n, (x, y, h) in enumerate(boxes)]
    shuffled = lines.copy()
    seed.shuffle(shuffled)
    text = joined(shuffled)
    assert text == joined(lines)
    words = [word for word in text.split() if word != "|"]
    assert sorted(words) == sorted(one.text for one in lines)


def test_lines_come_in_reading_order(image, monkeypatch):
    found = [line("d", 50, 20), line("b", 50, 1), line("c", 0, 21), line("a", 0, 0)]
    monkeypatch.setattr(ocr, "_recogniser", lambda: lambda _: found)
    assert [one.text for one in read_text(image)] == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("mode", "given"), [("P", "RGB"), ("LA", "RGBA"), ("1", "RGB"), ("CMYK", "RGB"), ("F", "RGB")]
)
def test_the_engine_gets_usual_modes(mode, given, monkeypatch):
    out, seen = io.BytesIO(), []
    form = "TIFF" if mode in {"CMYK", "F"} else "PNG"
    pytest.importorskip("PIL.Image").new(mode, (8, 8)).save(out, form)
    monkeypatch.setattr(ocr, "_recogniser", lambda: lambda shown: seen.append(shown.mode) or [])
    assert read_text(out.getvalue()) == []
    assert seen == [given]


def test_deep_greys_are_stretched(monkeypatch):
    picture, seen = pytest.importorskip("PIL.Image").new("I;16", (800, 800), 1000), []
    picture.paste(60000, (400, 0, 800, 800))

    def look(shown):
        seen.extend(shown.getpixel((x, 0)) for x in (0, 799))
        return []

    monkeypatch.setattr(ocr, "_recogniser", lambda: look)
    read_text(stored(picture))
    assert seen == [(0, 0, 0), (255, 255, 255)]


def blank(width, height):
    return pytest.importorskip("PIL.Image").new("RGB", (width, height), "white")


def stored(picture):
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize(
    ("size", "seen"),
    [
        ((4000, 2000), (2000, 1000)),
        ((1000, 900), (1000, 900)),
        ((368, 400), (736, 800)),
        ((100, 50), (400, 200)),
        ((1600, 200), (2000, 250)),
        ((8000, 8), (2000, 125)),
        ((8, 2000), (125, 2000)),
    ],
)
def test_the_engine_sees_images_of_a_bounded_size(size, seen, monkeypatch):
    shown = []
    monkeypatch.setattr(ocr, "_recogniser", lambda: lambda one: shown.append(one.size) or [])
    read_text(stored(blank(*size)))
    assert shown == [seen]


def test_boxes_are_those_of_the_image_that_was_given(monkeypatch):
    monkeypatch.setattr(ocr, "_recogniser", lambda: lambda _: [line("a", 100, 50)])
    (found,) = read_text(stored(blank(4000, 2000)))
    assert (found.left, found.top, found.right, found.bottom) == (200, 100, 280, 120)


def test_no_letter_fits_into_a_rule(monkeypatch):
    monkeypatch.setattr(ocr, "_recogniser", lambda: lambda _: [line("a", 0, 0)])
    assert read_text(stored(blank(300, 7))) == []
    assert len(read_text(stored(blank(300, 8)))) == 1


def test_a_tall_image_is_cut_where_it_is_empty(monkeypatch):
    picture, seen = blank(600, 5000), []
    for y in range(20, 5000, 100):  # stripes of 80 pixels with 20 empty ones between
        for inked in range(y, y + 80):
            picture.putpixel((300, inked), (0, 0, 0))

    def recognise(tile):
        seen.append(tile.height)
        return [line(f"t{len(seen)}", 0, 10)]

    monkeypatch.setattr(ocr, "_recogniser", lambda: recognise)
    found = read_text(stored(picture))
    tops = [one.top - 10 / 1.2266666666666666 for one in found]
    assert [one.text for one in found] == ["t1", "t2", "t3", "t4"]
    assert [round(top) for top in tops] == [0, 1119, 2318, 3517]
    assert [round(one.height, 2) for one in found] == [8.15] * 4


@pytest.mark.parametrize(("height", "tiles"), [(2400, 1), (2401, 2), (100_000, 20)])
def test_tall_images_have_a_bounded_number_of_pieces(height, tiles):
    picture = blank(600, height)
    pieces = list(ocr._tiles(picture))
    assert len(pieces) == tiles
    assert [top for top, _ in pieces] == [
        sum(piece.height for _, piece in pieces[:n]) for n in range(tiles)
    ]
    assert sum(piece.height for _, piece in pieces) == height


def test_what_is_no_image_is_an_error():
    pytest.importorskip("PIL")
    with pytest.raises(CorpusError, match="image is damaged, or of another format"):
        read_text(b"no image")


def test_without_the_engine_the_install_command_is_named(image, monkeypatch, fresh_engine):
    monkeypatch.setattr(ocr, "ocr_available", lambda: None)
    with pytest.raises(MissingExtraError, match=r'pip install "dovetail-rag\[ocr\]"'):
        read_text(image)


@pytest.mark.parametrize("missing", ["rapidocr", "onnxruntime", "PIL"])
def test_every_part_of_the_engine_must_be_there(missing, monkeypatch):
    monkeypatch.setattr(ocr.importlib.metadata, "version", lambda _: "9.9")
    monkeypatch.setattr(ocr.importlib.util, "find_spec", lambda _: object())
    assert ocr_available() == "rapidocr 9.9"
    monkeypatch.setattr(
        ocr.importlib.util, "find_spec", lambda name: None if name == missing else object()
    )
    assert ocr_available() is None


def test_an_engine_without_its_models_is_an_error(tmp_path):
    for name in ("a_det_small.onnx", "a_rec_small.onnx", "b_cls_mobile.onnx"):
        (tmp_path / name).write_bytes(b"")
    models = ocr._bundled_models(tmp_path)
    assert models["Det.model_path"] == str(tmp_path / "a_det_small.onnx")
    assert set(models) == {"Det.model_path", "Rec.model_path", "Cls.model_path"}
    (tmp_path / "a_rec_small.onnx").unlink()
    with pytest.raises(MissingExtraError, match="came without its rec model"):
        ocr._bundled_models(tmp_path)


@pytest.mark.parametrize(("asked", "threads"), [("1", 1), ("", -1), ("0", -1), ("x", -1)])
def test_threads_are_those_that_the_user_allows(asked, threads, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert ocr._threads() == threads


@pytest.fixture
def no_network(monkeypatch):
    """Every look-up and connection is an error."""

    def refuse(*_, **__):
        raise AssertionError("the network was used")

    for name in ("create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def drawn(*texts):
    """An image with texts drawn below each other."""
    from PIL import Image, ImageDraw, ImageFont

    image, out = Image.new("RGB", (640, 60 * len(texts) + 40), "white"), io.BytesIO()
    font = ImageFont.load_default(32)
    for row, text in enumerate(texts):
        ImageDraw.Draw(image).text((20, 20 + 60 * row), text, fill="black", font=font)
    image.save(out, "PNG")
    return out.getvalue()


@needs_engine
def test_drawn_text_is_read_in_silence_and_without_network(no_network, capfd, caplog, fresh_engine):
    logging.getLogger("RapidOCR").setLevel(logging.INFO)
    lines = read_text(drawn("Grand total: 5,738", "Zava Auto Repair"))
    assert joined(lines).split() == ["Grand", "total:", "5,738", "Zava", "Auto", "Repair"]
    assert all(0.5 <= one.confidence <= 1 for one in lines)
    assert all(0 <= one.left < one.right <= 640 for one in lines)
    assert ocr._recogniser() is ocr._recogniser()
    assert read_text(drawn("")) == []
    assert (capfd.readouterr(), caplog.records) == (("", ""), [])


@needs_engine
@pytest.mark.slow
@pytest.mark.skipif(not DATA.exists(), reason="shared/data/docs_mixed is not here")
@pytest.mark.parametrize(
    ("name", "answer"),
    [("docling-architecture.png", "SimplePipeline"), ("httpx-terminal.png", "gunicorn/19.9.0")],
)
def test_answers_in_real_images_are_read(name, answer):
    assert answer in joined(read_text((DATA / name).read_bytes()))
