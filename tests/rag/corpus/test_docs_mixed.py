"""Real files: all are read, answers survive extraction, passages are sensible."""

import json
from pathlib import Path

import pytest

from rag.corpus import Chunker, discover, read
from rag.corpus.image_passages import ImageChunker
from rag.corpus.ocr import ocr_available
from rag.errors import CorpusError

DATA = Path(__file__).parents[3] / "../shared/data/docs_mixed"
pytestmark = pytest.mark.skipif(not DATA.exists(), reason="shared/data/docs_mixed is not here")
for library in ("pypdf", "docx", "pptx", "openpyxl", "bs4", "lxml", "PIL"):
    pytest.importorskip(library)


@pytest.fixture
def no_engine(monkeypatch):
    """There is no OCR engine, whether one is installed or not."""
    hide_engine(monkeypatch)


def hide_engine(patch):
    for module in ("sources", "loaders.images", "loaders.pdf"):
        patch.setattr(f"rag.corpus.{module}.ocr_available", lambda: None)


@pytest.fixture(scope="module")
def documents():
    with pytest.MonkeyPatch.context() as patch:
        hide_engine(patch)
        sources, skipped = discover([str(DATA / "files")])
        assert skipped == []
        return {
            source.id: read(source)[0]
            for source in sources
            if source.id != "files/scanned-page.pdf"
        }


def folded(text):
    return " ".join(text.lower().split())


def test_every_file_with_text_yields_it(documents):
    assert len(documents) == 17
    assert all(document.text.strip() for document in documents.values())


def test_images_have_the_captions_of_the_manifest(no_engine):
    sources, _ = discover([str(DATA)])
    assert "docs_mixed/manifest.jsonl" not in {source.id for source in sources}
    found = {source.id: read(source)[0] for source in sources if source.notes}
    assert {id_.rpartition("/")[2] for id_ in found} == {
        "docling-architecture.png",
        "httpx-terminal.png",
    }
    passages = [p for document in found.values() for p in ImageChunker()(document)]
    assert "DocumentConverter with one pipeline" in passages[0].text
    assert [p.title for p in passages] == ["docling architecture", "httpx terminal"]


@pytest.mark.slow
@pytest.mark.skipif(ocr_available() is None, reason="rapidocr is not installed")
def test_ocr_finds_the_answers_in_scans_and_images():
    queries = [json.loads(line) for line in (DATA / "queries.jsonl").read_text().splitlines()]
    asked = [query for query in queries if query["place"] in {"image", "needs OCR"}]
    assert len(asked) == 3
    for query in asked:
        name = query["supporting"][0]["doc_id"]
        (source,), _ = discover([str(DATA / name)])
        text = folded(read(source)[0].text)
        assert any(folded(answer) in text for answer in query["answers"])


def test_a_scan_is_reported(no_engine):
    (source,), _ = discover([str(DATA / "files" / "scanned-page.pdf")])
    with pytest.raises(CorpusError, match=r"^scanned-page\.pdf: has no text layer .* OCR"):
        read(source)


def test_answers_survive_extraction_and_chunking(documents):
    chunker = Chunker()
    missing = []
    for line in (DATA / "queries.jsonl").read_text().splitlines():
        query = json.loads(line)
        name = query["supporting"][0]["doc_id"]
        if query["place"] in {"image", "needs OCR"}:
            continue
        passages = [folded(passage.searchable) for passage in chunker(documents[name])]
        if not any(folded(answer) in text for answer in query["answers"] for text in passages):
            missing.append(query["id"])
    assert missing == []


def test_a_wikipedia_page_is_read_without_its_clutter(documents):
    document = documents["files/wikipedia-microsoft.html"]
    assert document.title == "Microsoft"
    headings = [section.title for section in document.sections]
    assert "1972–1985: Founding" in headings
    assert "Contents" not in headings
    for clutter in ("[edit]", "Jump to content", "Hidden categories", "Create account", "[1]"):
        assert clutter not in document.text
    passages = Chunker()(document)
    titled = [p for p in passages if p.title == "Microsoft > History > 1972–1985: Founding"]
    assert any(
        span.of(titled[0].text).startswith("Childhood friends Bill Gates and Paul Allen sought")
        for span in titled[0].sentences
    )


def test_the_handbook_is_read_with_its_outline(documents):
    (source,), _ = discover([str(DATA / "files" / "chapter13-trustee-handbook.docx")])
    passages = Chunker()(read(source)[0])
    assert sum("CHAPTER 1 – INTRODUCTION > A. PURPOSE" in p.title for p in passages) >= 3
    sizes = sorted(len(p.text.split()) for p in passages)
    assert 80 <= sizes[len(sizes) // 2] <= 130
    assert sizes[-1] <= 240


def test_broken_words_of_a_paper_are_joined(documents):
    text = documents["files/autogen-introduction.pdf"].text
    assert "reasons confirming its general" in text
    assert "agents, potentially backed" in text


def test_slides_have_pages_and_charts(documents):
    passages = Chunker()(documents["files/autogen-slides.pptx"])
    assert [passage.page for passage in passages] == [1, 2, 3, 4, 5, 6]
    assert "2003 | 2003" in passages[3].text
