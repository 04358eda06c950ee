"""Sources: what is found, what is skipped and why, what a damaged file says."""

import hashlib
import json
import os
import re
import sys
from pathlib import Path

import pytest

from rag.corpus import Skipped, Source, discover, read
from rag.corpus.image_notes import ImageNotes
from rag.errors import CorpusError, MissingExtraError


@pytest.fixture
def without_ocr(monkeypatch):
    """There is no OCR engine, whether one is installed or not."""
    monkeypatch.setattr("rag.corpus.sources.ocr_available", lambda: None)
    monkeypatch.setattr("rag.corpus.loaders.images.ocr_available", lambda: None)


@pytest.fixture
def notes(tmp_path):
    """A folder `notes` with two readable files, and things that are none."""
    folder = tmp_path / "notes"
    (folder / "b").mkdir(parents=True)
    (folder / "z.md").write_text("# Z\n\nText.\n")
    (folder / "b" / "a.TXT").write_text("Text.\n")
    (folder / ".hidden.md").write_text("no")
    (folder / "~$lock.docx").write_text("no")
    (folder / ".git").mkdir()
    (folder / ".git" / "x.md").write_text("no")
    (folder / "old.idx").mkdir()
    (folder / "old.idx" / "manifest.json").write_text('{"dovetail": 1}')
    (folder / "old.idx" / "x.md").write_text("no")
    return folder


def test_a_folder_is_walked_in_sorted_order(notes):
    sources, skipped = discover([str(notes)])
    assert [source.id for source in sources] == ["notes/b/a.TXT", "notes/z.md"]
    assert skipped == []
    sha = hashlib.sha256(b"Text.\n").hexdigest()
    assert sources[0] == Source("notes/b/a.TXT", str(notes), notes / "b" / "a.TXT", sha)


def test_a_relative_path_gives_the_same_sources(notes, monkeypatch):
    monkeypatch.chdir(notes.parent)
    assert discover(["notes"]) == discover([str(notes)])
    monkeypatch.chdir(notes)
    assert [source.id for source in discover(["."])[0]] == ["notes/b/a.TXT", "notes/z.md"]


def test_a_file_has_its_name_as_id_and_counts_once(notes):
    path = str(notes / "z.md")
    sources, _ = discover([path, path])
    assert [(source.id, source.root) for source in sources] == [("z.md", path)]


def test_unknown_suffixes_and_images_of_other_kinds_are_skipped_with_a_reason(notes):
    for name in ("a.SVG", "a.heic", "a.xyz", "README"):
        (notes / name).write_bytes(b"")
    skipped = {item.id: item.reason for item in discover([str(notes)])[1]}
    supported = skipped["notes/README"].removeprefix("unsupported suffix ''; supported: ")
    assert {".csv", ".docx", ".jpeg", ".md", ".png", ".xlsx"} <= set(supported.split(", "))
    assert supported.split(", ") == sorted(supported.split(", "))
    assert skipped == {
        "notes/README": f"unsupported suffix ''; supported: {supported}",
        "notes/a.SVG": "vector image: not read",
        "notes/a.heic": "image: .heic is not read, save it as .jpg or .png",
        "notes/a.xyz": f"unsupported suffix '.xyz'; supported: {supported}",
    }


def test_a_video_is_read_through_the_subtitles_beside_it(notes):
    cue = "1\n00:00:00,000 --> 00:00:02,000\nHello there.\n"
    for name in ("talk.mp4", "silent.webm", "lone.srt", "talk.en.srt"):
        (notes / name).write_text(cue if name.endswith("srt") else "")
    sources, skipped = discover([str(notes)])
    assert {item.id: item.reason for item in skipped} == {
        "notes/silent.webm": "video without subtitles: put silent.srt or silent.vtt beside it",
        "notes/talk.mp4": "video: searched by its subtitles talk.en.srt",
    }
    found = {source.id: source for source in sources}
    (document,) = read(found["notes/talk.en.srt"])
    assert document.metadata["video"] == "talk.mp4"
    assert "video" not in read(found["notes/lone.srt"])[0].metadata
    (notes / "talk.mp4").unlink()
    again = {source.id: source for source in discover([str(notes)])[0]}
    assert again["notes/talk.en.srt"].sha != found["notes/talk.en.srt"].sha
    assert again["notes/lone.srt"].sha == found["notes/lone.srt"].sha


def test_a_video_given_alone_brings_its_subtitles(notes):
    (notes / "talk.mp4").write_text("")
    (notes / "talk.srt").write_text("1\n00:00:00,000 --> 00:00:02,000\nHello there.\n")
    sources, skipped = discover([str(notes / "talk.mp4")])
    assert [source.id for source in sources] == ["talk.srt"]
    assert [item.id for item in skipped] == ["talk.mp4"]


@pytest.fixture
def pictures(notes):
    """The folder with an image that a page shows, and a file that holds its caption."""
    image = pytest.importorskip("PIL.Image").new("RGB", (4, 3))
    (notes / "b" / "plot.PNG").parent.mkdir(exist_ok=True)
    with (notes / "b" / "plot.PNG").open("wb") as file:
        image.save(file, "PNG")
    (notes / "b" / "plot.txt").write_text("The caption.")
    (notes / "z.md").write_text("# Z\n\n![The alt](b/plot.PNG)\n\nAfter.\n")
    return notes


def shas(folder):
    return {source.id: source.sha for source in discover([str(folder)])[0]}


def test_an_image_comes_with_its_notes_and_their_files_are_no_sources(pictures, without_ocr):
    found, skipped = discover([str(pictures)])
    assert [source.id for source in found] == ["notes/b/a.TXT", "notes/b/plot.PNG", "notes/z.md"]
    assert skipped == []
    assert found[1].notes == ImageNotes(("The caption.",), ("The alt",), ("Z\nAfter.",))
    assert [source.notes for source in found if source is not found[1]] == [None, None]
    (document,) = read(found[1])
    assert document.text == "The caption.\n\nThe alt\n\nZ\nAfter."
    assert (document.id, document.title) == ("notes/b/plot.PNG", "plot")
    assert document.metadata == {
        "modality": "image",
        "width": 4,
        "height": 3,
        "ocr": False,
        "source": "notes/b/plot.PNG",
        "format": "png",
    }


def test_an_image_given_alone_has_no_notes(pictures, without_ocr):
    paths = [str(pictures / "b" / name) for name in ("plot.PNG", "plot.txt")]
    found, _ = discover(paths)
    assert [(source.id, source.notes) for source in found] == [
        ("plot.PNG", None),
        ("plot.txt", None),
    ]
    assert found[0].sha == hashlib.sha256(Path(paths[0]).read_bytes()).hexdigest()
    assert read(found[0])[0].metadata["text_only_name"] is True


def test_an_image_is_read_again_if_its_notes_change(pictures, without_ocr):
    before = shas(pictures)
    assert before == shas(pictures)
    (pictures / "b" / "plot.txt").write_text("Another caption.")
    after = shas(pictures)
    assert {id_ for id_ in before if before[id_] != after[id_]} == {"notes/b/plot.PNG"}


def test_images_and_pdfs_are_read_again_if_the_engine_changes(pictures, monkeypatch, without_ocr):
    (pictures / "a.pdf").write_bytes(b"%PDF-1.4")
    before = shas(pictures)
    assert before["notes/a.pdf"] == hashlib.sha256(b"%PDF-1.4").hexdigest()
    monkeypatch.setattr("rag.corpus.sources.ocr_available", lambda: "engine 1")
    first = shas(pictures)
    assert {i for i in before if before[i] != first[i]} == {"notes/a.pdf", "notes/b/plot.PNG"}
    monkeypatch.setattr("rag.corpus.sources.ocr_available", lambda: "engine 2")
    second = shas(pictures)
    assert {i for i in first if first[i] != second[i]} == {"notes/a.pdf", "notes/b/plot.PNG"}


def test_links_are_followed_inside_the_root_only(notes):
    outside = notes.parent / "outside.md"
    outside.write_text("no")
    (notes / "in.md").symlink_to("z.md")
    (notes / "out.md").symlink_to(outside)
    (notes / "broken.md").symlink_to("nowhere.md")
    (notes / "loop").symlink_to(".")
    (notes / "away").symlink_to(notes.parent)
    sources, skipped = discover([str(notes)])
    assert [s.id for s in sources] == ["notes/b/a.TXT", "notes/in.md", "notes/z.md"]
    assert [s.id for s in skipped] == ["notes/broken.md", "notes/out.md"]
    assert {s.reason for s in skipped} == {
        "link that leaves the folder, or leads nowhere",
        "not a regular file",
    }


def test_what_cannot_be_opened_is_skipped(notes, monkeypatch, without_ocr):
    os.mkfifo(notes / "pipe.txt")

    open_file = Path.open

    def refuse(self, mode="r", *rest):
        if self.suffix == ".json":
            return open_file(self, mode, *rest)
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert discover([str(notes)]) == (
        [],
        [
            Skipped("notes/b/a.TXT", "unreadable: Permission denied"),
            Skipped("notes/pipe.txt", "not a regular file"),
            Skipped("notes/z.md", "unreadable: Permission denied"),
        ],
    )


def test_a_folder_that_cannot_be_listed_is_skipped(notes, monkeypatch):
    list_folder = Path.iterdir

    def refuse(self):
        if self.name == "b":
            raise PermissionError(13, "Permission denied")
        return list_folder(self)

    monkeypatch.setattr(Path, "iterdir", refuse)
    sources, skipped = discover([str(notes)])
    assert [source.id for source in sources] == ["notes/z.md"]
    assert skipped == [Skipped("notes/b", "unreadable folder")]


def test_a_name_that_is_not_utf_8_is_skipped(notes):
    try:
        (notes / os.fsdecode(b"\xff.md")).write_text("no")
    except OSError:
        pytest.skip("the file system takes UTF-8 names only")
    assert discover([str(notes)])[1] == [Skipped("notes/\\xff.md", "file name is not valid UTF-8")]


def test_a_path_that_does_not_exist_is_an_error(tmp_path):
    with pytest.raises(CorpusError, match=re.escape(f"no such file or folder: {tmp_path}/no")):
        discover([f"{tmp_path}/no"])


def test_an_index_folder_is_an_error(notes):
    with pytest.raises(CorpusError, match=r"old\.idx is an index folder"):
        discover([str(notes / "old.idx")])


def test_another_manifest_makes_no_index_folder(notes):
    (notes / "b" / "manifest.json").write_text("[]")
    assert len(discover([str(notes)])[0]) == 2


def test_two_sources_with_one_id_are_an_error_that_names_both(notes, tmp_path):
    other = tmp_path / "other" / "notes"
    other.mkdir(parents=True)
    (other / "z.md").write_text("x")
    with pytest.raises(CorpusError, match=r"two sources have the id 'notes/z\.md'") as error:
        discover([str(notes), str(other)])
    assert str(notes / "z.md") in str(error.value)
    assert str(other / "z.md") in str(error.value)


def test_the_python_topics_are_one_source_of_many_documents():
    (source,), skipped = discover(["python:topics"])
    assert (source.id, source.root, source.path, skipped) == (
        "python:topics",
        "python:topics",
        None,
        [],
    )
    documents = read(source)
    assert {"python/assert", "python/while"} <= {document.id for document in documents}
    assert documents[0].metadata == {"source": "python:topics", "format": "python"}


def test_documents_name_their_source_and_format(notes):
    first, second = discover([str(notes)])[0]
    assert read(first)[0].metadata == {
        "source": "notes/b/a.TXT",
        "format": "txt",
        "encoding": "utf-8",
    }
    assert read(second)[0].title == "Z"


def test_records_of_a_file_share_its_source(tmp_path):
    lines = ({"id": n, "text": "x\0\ud800", "format": "mine"} for n in (1, 2))
    (tmp_path / "a.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    documents = read(discover([str(tmp_path / "a.jsonl")])[0][0])
    assert [document.id for document in documents] == ["a.jsonl#1", "a.jsonl#2"]
    assert {document.metadata["source"] for document in documents} == {"a.jsonl"}
    assert {document.metadata["format"] for document in documents} == {"jsonl"}
    assert documents[0].text == "x\ufffd\ufffd"


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.txt", b"", "a.txt: holds no text"),
        ("a.md", b" \n", "a.md: holds no text"),
        ("a.html", b"<script>x</script>", "a.html: holds no text"),
        ("a.jsonl", b"", "a.jsonl: holds no text"),
        ("a.csv", b"", "a.csv: holds no text"),
        ("a.txt", b"\0\0", "a.txt: binary content"),
        ("a.jsonl", b"{", "a.jsonl: line 1: not valid JSON"),
        ("a.pdf", b"%PDF-1.4\ntruncated", "a.pdf: cannot be read as pdf"),
        ("a.pdf", b"", "a.pdf: cannot be read as pdf"),
        ("a.docx", b"PK\3\4 no zip", "a.docx: cannot be read as docx"),
        ("a.pptx", b"no zip", "a.pptx: cannot be read as pptx"),
        ("a.xlsx", b"no zip", "a.xlsx: cannot be read as xlsx"),
        ("a.png", b"", "a.png: empty file, no image"),
        ("a.gif", b"no image", "a.gif: image is damaged, or of another format"),
    ],
)
def test_what_cannot_be_read_says_so_after_its_id(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(CorpusError, match=f"^{re.escape(message)}"):
        read(discover([str(tmp_path / name)])[0][0])


def test_a_file_that_went_away_says_so(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    (source,), _ = discover([str(tmp_path)])
    (tmp_path / "a.txt").unlink()
    with pytest.raises(CorpusError, match=r"a\.txt: cannot be read as txt \(FileNotFoundError"):
        read(source)


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("a.pdf", "pypdf"),
        ("a.docx", "docx"),
        ("a.pptx", "pptx"),
        ("a.xlsx", "openpyxl"),
        ("a.html", "bs4"),
        ("a.htm", "lxml"),
        ("a.webp", "PIL"),
    ],
)
def test_a_missing_package_is_named_with_its_install_command(tmp_path, monkeypatch, name, module):
    (tmp_path / name).write_bytes(b"x")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r'pip install "dovetail-rag\[docs\]"'):
        read(discover([str(tmp_path / name)])[0][0])
