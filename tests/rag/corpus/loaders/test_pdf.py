"""PDF: pages, broken words, what has no text, what is damaged."""

import io
import logging

import pytest

from rag.corpus.loaders import pdf
from rag.corpus.ocr import TextLine
from rag.errors import CorpusError

pypdf = pytest.importorskip("pypdf")


def pdf_bytes(*pages, title=""):
    """Write a PDF by hand: a page for each list of lines."""
    kids = " ".join(f"{4 + 2 * n} 0 R" for n in range(len(pages)))
    objects = [
        "<</Type/Catalog/Pages 2 0 R>>",
        f"<</Type/Pages/Kids[{kids}]/Count {len(pages)}>>",
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    for number, lines in enumerate(pages):
        shown = " ".join(f"({line}) Tj T*" for line in lines)
        stream = f"BT /F1 12 Tf 14 TL 72 720 Td {shown} ET"
        resources = f"/Contents {5 + 2 * number} 0 R/Resources<</Font<</F1 3 0 R>>>>"
        objects += [
            f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]{resources}>>",
            f"<</Length {len(stream)}>>stream\n{stream}\nendstream",
        ]
    objects.append(f"<</Title({title})>>")
    out, offsets = "%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        offsets.append(len(out))
        out += f"{number} 0 obj{content}endobj\n"
    table = "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    size = len(objects) + 1
    start = len(out)
    out += f"xref\n0 {size}\n0000000000 65535 f \n{table}"
    out += f"trailer<</Size {size}/Root 1 0 R/Info {len(objects)} 0 R>>\nstartxref\n{start}\n%%EOF"
    return out.encode("latin-1")


def load(*pages, title=""):
    return pdf.load(pdf_bytes(*pages, title=title), "d/a.pdf", "a")[0]


def test_pages_begin_where_the_document_says():
    document = load(["First page.", "Second line."], [], ["Third page."])
    assert document.text == "First page.\nSecond line.\n\nThird page."
    assert [document.text[at:][:5] for at in document.pages] == ["First", "Third", "Third"]


def test_a_sentence_that_runs_on_over_the_page_is_not_cut():
    document = load(["It begins here"], ["and ends here."])
    assert document.text == "It begins here\nand ends here."
    assert [document.text[at:][:3] for at in document.pages] == ["It ", "and"]


def test_broken_words_are_joined():
    document = load(["A hyphen is re-", "moved here but a well-known word well-", "known stays."])
    assert document.text == "A hyphen is removed here but a well-known word well-known stays."
    assert load(["Jean-", "Paul"]).text == "Jean-Paul"
    assert load(["an open source text, an open-", "source one"]).text.endswith("open-source one")
    assert load(["pages 3-", "4"]).text == "pages 3-\n4"


def test_the_title_is_the_file_s_unless_it_says_nothing():
    assert load(["x"], title="A title").title == "A title"
    assert load(["x"]).title == load(["x"], title="Untitled 1").title == "a"
    assert load(["x"], title="report.docx").title == "a"


@pytest.fixture
def engine(monkeypatch):
    """Sizes of the images that an OCR engine was given; it reads each size as a line of text."""
    image = pytest.importorskip("PIL.Image")
    seen = []

    def read_text(data):
        seen.append(image.open(io.BytesIO(data)).size)
        return [TextLine(f"Scan of {seen[-1][0]}.", 1.0, 0, 0, 9, 9)]

    monkeypatch.setattr(pdf, "ocr_available", lambda: "engine 1")
    monkeypatch.setattr(pdf, "read_text", read_text)
    return seen


def with_scans(*widths, before=()):
    """A PDF with a page for each of the lines before, and then one for each scan."""
    image, writer = pytest.importorskip("PIL.Image"), pypdf.PdfWriter()
    writer.append(io.BytesIO(pdf_bytes(*before)))
    for width in widths:
        out = io.BytesIO()
        image.new("L", (width, 40), "white").save(out, "PDF")
        writer.append(out)
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def test_without_an_engine_no_text_layer_is_an_error_that_names_it(monkeypatch):
    monkeypatch.setattr(pdf, "ocr_available", lambda: None)
    with pytest.raises(CorpusError, match=r'no text layer .* pip install "dovetail-rag\[ocr\]"'):
        load([], [])


def test_pages_without_text_are_read_by_ocr_and_the_others_are_not(engine):
    data = with_scans(50, 60, before=[["With text."], []])
    document = pdf.load(data, "d/a.pdf", "a")[0]
    assert document.text == "With text.\n\nScan of 50.\n\nScan of 60."
    assert [document.text[at:][:4] for at in document.pages] == ["With", "Scan", "Scan", "Scan"]
    assert document.metadata == {"ocr": True}
    assert engine == [(50, 40), (60, 40)]
    assert load(["With text."]).metadata == {}


def test_images_of_pages_with_text_are_not_read(engine):
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(with_scans(50, before=[["With text."]])))
    writer.pages[1].merge_page(writer.pages[0])
    out = io.BytesIO()
    writer.write(out)
    document = pdf.load(out.getvalue(), "d/a.pdf", "a")[0]
    assert document.text == "With text.\n\nWith text."
    assert (engine, document.metadata) == ([], {})


def test_a_rule_or_a_bullet_is_no_scan(engine):
    document = pdf.load(with_scans(31, 32), "d/a.pdf", "a")[0]
    assert (document.text, engine) == ("Scan of 32.", [(32, 40)])


def test_an_engine_that_reads_nothing_is_an_error(engine, monkeypatch):
    monkeypatch.setattr(pdf, "read_text", lambda _: [])
    with pytest.raises(CorpusError, match=r"no text layer .* OCR reads nothing in its images"):
        pdf.load(with_scans(50), "d/a.pdf", "a")


def test_an_image_that_cannot_be_decoded_leaves_its_page_empty(engine, monkeypatch):
    def refuse(_):
        raise CorpusError("damaged image")

    monkeypatch.setattr(pdf, "read_text", refuse)
    document = pdf.load(with_scans(50, before=[["With text."]]), "d/a.pdf", "a")[0]
    assert (document.text.strip(), len(document.pages)) == ("With text.", 2)
    assert document.metadata == {}


def test_a_password_is_an_error():
    writer = pypdf.PdfWriter()
    writer.add_blank_page(72, 72)
    writer.encrypt("secret", algorithm="RC4-128")
    from io import BytesIO

    out = BytesIO()
    writer.write(out)
    with pytest.raises(CorpusError, match="is encrypted: save a copy without a password"):
        pdf.load(out.getvalue(), "d/a.pdf", "a")


def test_what_the_parser_says_does_not_reach_the_user(capfd, caplog):
    logging.getLogger("pypdf").setLevel(logging.INFO)
    data = pdf_bytes(["Text."]).replace(b"startxref\n", b"startxref\n9")
    assert pdf.load(data, "d/a.pdf", "a")[0].text == "Text."
    assert (capfd.readouterr(), caplog.records) == (("", ""), [])
    assert logging.getLogger("pypdf").level == logging.INFO
