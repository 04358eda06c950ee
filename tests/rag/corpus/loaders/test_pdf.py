"""PDF: pages, broken words, what has no text, what is damaged."""

import logging

import pytest

from rag.corpus.loaders import pdf
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


def test_no_text_layer_is_an_error_that_names_ocr():
    with pytest.raises(CorpusError, match=r"no text layer .* OCR"):
        load([], [])


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
