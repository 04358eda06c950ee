"""Image notes: captions, alt texts and paragraphs, and what never becomes a note."""

import json

import pytest

from rag.corpus.image_notes import ImageNotes, gather, image_notes_line
from rag.records import Document


@pytest.fixture
def write(tmp_path):
    """Write files below a folder, and gather the notes of those that are images."""

    def write_and_gather(files, root=tmp_path):
        paths = []
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
            paths.append(root / name)
        images = [path for path in paths if path.suffix == ".png"]
        gathered = gather(images, [path for path in paths if path not in images])
        names = {path.relative_to(root).as_posix(): one for path, one in gathered.notes.items()}
        return names, {path.relative_to(root).as_posix() for path in gathered.used}

    return write_and_gather


def lines(*records):
    return "".join(f"{json.dumps(record)}\n" for record in records)


@pytest.mark.parametrize("name", ["a.png.txt", "a.caption.txt", "a.txt"])
def test_a_text_file_beside_an_image_is_its_caption(write, name):
    notes, used = write({"a.png": "", name: "A plot\nof  loss.\n", "b.txt": "A document."})
    assert notes == {"a.png": ImageNotes(captions=("A plot of loss.",))}
    assert used == {name}


def test_the_name_that_says_most_wins_and_the_others_stay_documents(write):
    files = {"a.png": "", "a.txt": "long", "a.caption.txt": "short", "a.png.txt": "exact"}
    notes, used = write(files)
    assert (notes["a.png"].captions, used) == (("exact",), {"a.png.txt"})


def test_a_long_blank_or_distant_text_file_is_no_caption(write):
    files = {"a.png": "", "a.txt": "word " * 301, "b.png": "", "b.txt": " \n", "d/a.txt": "x"}
    assert write(files) == ({}, set())
    assert write({"a.png": "", "a.txt": "word " * 300})[1] == {"a.txt"}


def test_a_list_of_captions_holds_for_images_below_its_folder(write):
    listed = lines(
        {"file": "d/a.png", "caption": " A  plot. ", "alt": "Plot"},
        {"file": "./d/../b.png", "alt": "B"},
        {"file": "d/gone.png", "caption": "x"},
        {"file": "x.pdf", "pages": 3},
    )
    notes, used = write({"d/a.png": "", "b.png": "", "manifest.jsonl": listed})
    assert notes == {
        "d/a.png": ImageNotes(captions=("A plot.",), alts=("Plot",)),
        "b.png": ImageNotes(alts=("B",)),
    }
    assert used == {"manifest.jsonl"}


def test_the_nearest_list_wins_then_captions_before_manifest_then_the_sidecar(write):
    files = {
        "captions.jsonl": lines({"file": "d/a.png", "caption": "far", "alt": "far"}),
        "d/manifest.jsonl": lines({"file": "a.png", "caption": "near", "alt": "near"}),
        "d/a.png": "",
    }
    notes, used = write(files)
    assert notes["d/a.png"] == ImageNotes(("near",), ("near",))
    assert used == {"captions.jsonl", "d/manifest.jsonl"}
    files["d/captions.jsonl"] = lines({"file": "a.png", "caption": "nearest"})
    assert write(files)[0]["d/a.png"] == ImageNotes(("nearest",))
    files["d/captions.jsonl"] = lines({"file": "a.png", "caption": "nearest", "alt": "alt"})
    files["d/a.txt"] = "beside"
    assert write(files)[0]["d/a.png"] == ImageNotes(("beside",), ("alt",))


@pytest.mark.parametrize(
    "content",
    [
        lines({"file": "a.png", "caption": "x", "text": "a record"}),
        lines({"file": "a.png", "caption": "x"}, {"caption": "no file"}),
        lines({"file": "a.png", "caption": "x"}) + "{broken\n",
        lines({"file": "a.png"}),
        lines({"file": "other.png", "caption": "x"}),
        lines(["a.png", "x"]),
        "",
    ],
)
def test_a_file_that_is_no_list_of_captions_stays_a_document(write, content):
    assert write({"a.png": "", "captions.jsonl": content}) == ({}, set())


def test_a_list_under_another_name_is_none(write):
    files = {"a.png": "", "figures.jsonl": lines({"file": "a.png", "caption": "x"})}
    assert write(files) == ({}, set())


PAGE = """# Guide

Intro.

## Usage

The first paragraph
runs on.

![A *terminal* [1]](img/a.png "Title")

The last paragraph.

## Next

Other.
"""


def test_an_image_of_a_page_has_its_alt_text_headings_and_neighbours(write):
    notes, used = write({"docs/g.md": PAGE, "docs/img/a.png": ""})
    around = "Guide > Usage\nThe first paragraph runs on.\nThe last paragraph."
    assert notes == {"docs/img/a.png": ImageNotes((), ("A *terminal* [1]",), (around,))}
    assert used == set()


@pytest.mark.parametrize(
    ("page", "around"),
    [
        ("![x](a.png)\n\n# H\n\nNot this.\n", "H"),
        ("# T\n## H\nBefore.\n\n![x](a.png)\n\n## I\n\nNot this.", "T > H\nBefore."),
        ("T\n===\n\n![x](a.png)\n\nAfter.\n", "T\nAfter."),
        ("# T\n\nText with ![x](a.png) inside.\n\nNo.", "T\nText with inside."),
        ("# T\n\n![x](a.png)\n![x](a.png)\n\nAfter.", "T\nAfter."),
        ("# T\n\n[![x](<a.png>)](https://x.org)\n\nAfter.", "T\nAfter."),
        ("# T\n\n<img width=3 alt='x' src=a.png>\n\nAfter.", "T\nAfter."),
        ("No heading.\n\n![x](a.png)", "g\nNo heading."),
    ],
)
def test_forms_of_images_in_markdown(write, page, around):
    notes, _ = write({"g.md": page, "a.png": ""})
    assert notes == {"a.png": ImageNotes((), ("x",), (around,))}


def test_entities_of_html_in_markdown_are_read(write):
    page = '<IMG SRC="a&amp;b.png" ALT="x &gt; y">'
    assert write({"g.md": page, "a&b.png": ""})[0]["a&b.png"].alts == ("x > y",)


def test_of_long_paragraphs_the_nearest_thirty_words_stay(write):
    words = " ".join(f"w{n}" for n in range(50))
    notes, _ = write({"g.md": f"# T\n\n{words}\n\n![](a.png)\n\n{words}\n", "a.png": ""})
    title, before, after = notes["a.png"].around[0].split("\n")
    assert (title, before.split()[0], before.split()[-1]) == ("T", "w20", "w49")
    assert (after.split()[0], after.split()[-1]) == ("w0", "w29")
    assert notes["a.png"].alts == ()


def test_an_image_that_many_pages_show_keeps_three_notes(write):
    pages = {f"{n}.md": f"# P{n}\n\n![logo {n % 2}](a.png)\n" for n in range(5)}
    notes, _ = write({**pages, "a.png": ""})
    assert notes["a.png"] == ImageNotes((), ("logo 0", "logo 1"), ("P0", "P1", "P2"))


@pytest.mark.parametrize(
    "target",
    [
        "https://x.org/a.png",
        "//x.org/a.png",
        "../a.png",
        "../other/a.png",
        "/a.png",
        "data:image/png;base64,AAAA",
        "b.png",
        "%00a.png",
    ],
)
def test_nothing_remote_or_outside_is_a_note(write, target):
    assert write({"d/g.md": f"![x]({target})", "d/a.png": ""}) == ({}, set())


@pytest.mark.parametrize("target", ["a%20b.png", "./a%20b.png?raw=true", "../d/a%20b.png#top"])
def test_paths_are_unquoted_and_taken_from_the_page(write, target):
    assert write({"d/g.md": f"![x]({target})", "d/a b.png": ""})[0]["d/a b.png"].alts == ("x",)


def test_a_web_page_gives_figure_captions_too(write):
    pytest.importorskip("bs4")
    pytest.importorskip("lxml")
    page = """<html><body><nav><img src="b.png" alt="Logo"></nav><main><h1>Guide</h1><p>Before.</p>
    <figure><img src="a.png" alt="A plot"><figcaption>Figure 1: <b>loss</b>.</figcaption></figure>
    <p>After.</p><h2>Next</h2><p>Not this.</p></main></body></html>"""
    notes, _ = write({"g.html": page, "a.png": "", "b.png": ""})
    assert notes == {
        "a.png": ImageNotes(("Figure 1: loss.",), ("A plot",), ("Guide\nBefore.\nAfter.",)),
        "b.png": ImageNotes((), ("Logo",)),
    }


def test_without_a_parser_web_pages_give_nothing(write, monkeypatch):
    monkeypatch.setattr("rag.corpus.image_notes.find_spec", lambda _: None)
    assert write({"g.html": "<img src='a.png' alt='x'>", "a.png": ""}) == ({}, set())


def test_a_page_that_cannot_be_read_is_left_to_its_loader(write):
    assert write({"g.md": "\0 ![x](a.png)", "a.png": "", "a.txt": "\0"}) == ({}, set())


def test_folders_that_lead_back_are_followed(write, tmp_path):
    (tmp_path / "d").mkdir()
    files = {"g.md": "![x](a.png)", "a.png": "", "a.txt": "caption"}
    notes, used = write(files, root=tmp_path / "d" / "..")
    assert notes["a.png"].captions == ("caption",)
    assert notes["a.png"].alts == ("x",)
    assert used == {"a.txt"}


def test_notes_differ_in_json_if_they_differ():
    notes = [ImageNotes(("a",)), ImageNotes((), ("a",)), ImageNotes(("a", "b")), ImageNotes()]
    assert len({one.to_json() for one in notes}) == len(notes)


def test_images_without_ocr_are_counted():
    def image(modality, **facts):
        return Document("d", "x", "x", metadata={"modality": modality, **facts})

    read = [image("image", ocr=True), Document("t", "x", "x"), image("text", ocr=False)]
    assert image_notes_line(read) is None
    one = image("image", ocr=False)
    assert image_notes_line([*read, one]) == "1 image without OCR: pip install 'dovetail-rag[ocr]'"
    assert image_notes_line([one, one]).startswith("2 images without OCR")
