"""The pruning benchmark: resumed rows, statistics of known scores, and a page that follows them."""

import gzip
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from pipelines.progress import Unwatched
from rag.records import PassageScores, text_sha

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """Benchmarks are scripts that import each other by name."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))


class Encoder:
    """Unit vectors that depend on the text alone."""

    name, fingerprint, dim = "hashed", "f" * 64, 4

    def encode(self, texts, *, progress=None):
        rows = [np.frombuffer(bytes.fromhex(text_sha(text))[:4], np.uint8) + 1.0 for text in texts]
        found = np.array(rows, np.float32).reshape(len(texts), 4)
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    def encode_queries(self, texts):
        return self.encode(texts)


class Perfect:
    """Knows that the sentences with `gold` in them are wanted; ranks passages by their number."""

    def __init__(self, name="features", *, ranks=True, useful=1.0):
        self.name, self.calls, self._ranks, self._useful = name, 0, ranks, useful

    def __call__(self, query, passages):
        self.calls += 1
        return [
            PassageScores(
                tuple(
                    self._useful * (0.9 if "gold" in span.of(passage.text) else 0.2)
                    for span in passage.sentences
                ),
                float(len(passage.text)) if self._ranks else None,
            )
            for passage in passages
        ]


def passage(id_, sentences):
    text = " ".join(sentences)
    ends, end = [], 0
    for row, sentence in enumerate(sentences):
        end += len(sentence) + (row < len(sentences) - 1)
        ends.append(end)
    return {"id": id_, "title": "T", "text": text, "ends": ends}


@pytest.fixture
def questions(tmp_path):
    """Six questions; the odd ones have two passages, and the last has no answer."""
    folder = tmp_path / "questions"
    folder.mkdir()
    lines = []
    for n in range(6):
        gold = "A gold one." if n < 5 else "An odd one."
        lines.append(passage(f"p{n}", ["One a.", gold, "Two b.", "Three c."]))
        lines.append(passage(f"o{n}", ["Other d.", "Other e."]))
    for n in range(6):
        shown = [f"p{n}", f"o{n}"] if n % 2 else [f"p{n}"]
        lines.append(
            {
                "id": f"q{n}",
                "question": "Which is it?",
                "answers": ["gold one"] if n < 5 else [],
                "gold": {f"p{n}": [1]} if n < 5 else {},
                "passages": shown,
                "unanswerable": n == 5,
                "candidates": [f"o{n}", f"p{n}"] if n < 3 else [],
                "rankings": {"bm25": [1.0, 1.0], "cosine": [0.1, 0.2]} if n < 3 else {},
                "relevant": {f"p{n}": 1},
            }
        )
    content = "".join(json.dumps(line) + "\n" for line in lines).encode()
    (folder / "toy.pruning.jsonl.gz").write_bytes(gzip.compress(content))
    return folder


def score(questions, out, monkeypatch, scorers):
    import pruning_rows

    out.mkdir(exist_ok=True)
    monkeypatch.setattr(pruning_rows, "made", lambda name, sources: scorers.get(name, "not here"))
    pruning_rows.score(
        questions, out, encoder=Encoder(), progress=Unwatched(), names=["cosine", "features"]
    )


def test_gold_sentences_move_and_nothing_else_changes(questions):
    from pruning_data import moved, prepared, read_asked

    asked = read_asked(prepared(questions)["toy"])
    assert len(asked) == 6
    for place, row in (("first", 0), ("middle", 2), ("last", 3)):
        passages, rows = moved(asked[1], place)
        assert rows == {"p1": row}
        sentences = [span.of(passages[0].text).strip() for span in passages[0].sentences]
        assert sentences[row] == "A gold one."
        others = [text for text in sentences if text != "A gold one."]
        assert others == ["One a.", "Two b.", "Three c."]
        assert (
            "".join(span.of(passages[0].text) for span in passages[0].sentences) == passages[0].text
        )
        assert passages[1] == asked[1].passages[1]
    assert moved(asked[5], "first") is None


def test_rows_are_made_once_and_go_on_after_an_interrupt(questions, tmp_path, monkeypatch):
    from pruning_rows import RowsError, read_rows

    out, scorer = tmp_path / "rows", Perfect()
    score(questions, out, monkeypatch, {"features": scorer})
    rows = read_rows(out)
    assert list(rows) == [("toy", "features")]
    parts = [row["part"] for row in rows["toy", "features"]]
    assert {part: parts.count(part) for part in parts} == {
        "sentences": 6,
        "first": 5,
        "middle": 5,
        "last": 5,
        "ranking": 3,
    }
    path = out / "toy-features.jsonl"
    whole = path.read_text()
    asked = scorer.calls
    path.write_text(whole[:-30])  # a row cut off
    score(questions, out, monkeypatch, {"features": scorer})
    assert path.read_text() == whole
    assert scorer.calls == asked + 2  # the row, and whether it ranks
    content = gzip.decompress((questions / "toy.pruning.jsonl.gz").read_bytes()) + b"\n"
    (questions / "toy.pruning.jsonl.gz").write_bytes(gzip.compress(content.rstrip(b"\n") + b" \n"))
    with pytest.raises(RowsError, match="holds rows of other questions or another scorer"):
        score(questions, out, monkeypatch, {"features": scorer})


def test_statistics_are_those_of_the_scores(questions, tmp_path, monkeypatch):
    from pruning_values import as_csv, read_csv, values

    out = tmp_path / "rows"
    blind = Perfect("cosine", ranks=False, useful=0.0)
    score(questions, out, monkeypatch, {"features": Perfect(), "cosine": blind})
    found = list(values(out, questions, resamples=50))
    of = {(v.part, v.scorer, v.statistic, v.against): v for v in found}
    assert of["sentences", "features", "AUC", ""].value == 1.0
    assert of["sentences", "cosine", "AUC", ""].value == 0.5
    gain = of["sentences", "features", "AUC", "cosine"]
    assert (gain.value, gain.low, gain.high, gain.n) == (0.5, 0.5, 0.5, 5)
    # Gold sentences have 12 characters with their space, passages 34 and 17.
    pruned = 1 - 5 * 12 / (5 * 34 + 2 * 17)
    assert of["sentences", "features", "comp@R95", ""].value == pytest.approx(pruned)
    assert of["sentences", "cosine", "comp@R95", ""].value == 0.0
    assert of["sentences", "features", "AnswerKept@R95", ""].value == 1.0
    assert of["sentences", "features", "SentR@T0.3", ""].value == 1.0
    assert of["empty", "features", "with gold", ""].value == 0.0
    assert of["empty", "features", "without gold", ""].value == 1.0
    assert of["empty", "features", "without gold", ""].n == 2
    assert of["empty", "features", "no answer", ""].value == 1.0
    assert of["places", "features", "last", ""].value == 1.0
    assert of["places", "features", "spread", ""].value == 0.0
    assert of["ranking", "hybrid", "RR@10", ""].value == 0.5
    assert of["ranking", "bm25", "RR@10", ""].value == 0.5  # a tie keeps the given order
    assert of["ranking", "features", "RR@10", ""].value == 1.0
    assert of["ranking", "features", "RR@10", "hybrid"].value == 0.5
    assert ("ranking", "cosine, reranked", "RR@10", "") not in of
    again = read_csv(as_csv(found))
    assert [v.statistic for v in again] == [v.statistic for v in found]
    assert [v.value for v in again] == pytest.approx([v.value for v in found], rel=1e-5)


def test_a_scorer_that_has_not_read_everything_is_left_out(questions, tmp_path, monkeypatch):
    from pruning_values import values

    out = tmp_path / "rows"
    score(questions, out, monkeypatch, {"features": Perfect()})
    path = out / "toy-features.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:4]))
    assert not [v for v in values(out, questions, resamples=5) if v.part == "sentences"]


def test_the_page_says_what_the_statistics_say(questions, tmp_path, monkeypatch):
    from pruning_page import write_page

    out, docs = tmp_path / "rows", tmp_path / "docs"
    docs.mkdir()
    scorers = {"features": Perfect(), "cosine": Perfect("cosine", ranks=False, useful=0.0)}
    score(questions, out, monkeypatch, scorers)
    text = write_page(out, questions, docs, resamples=50).read_text()
    assert "`features` is to prune more than `cosine` at that recall" in text
    assert "toy +0.706 [+0.6" in text
    assert ", met." in text
    assert "Passages that `features` empties at that threshold: toy 0 % with a gold" in text
    assert "\nnan" not in text.lower()
    assert (docs / "pruning-results.svg").read_text().startswith("<svg")
    again = write_page(None, None, docs, resamples=50).read_text()
    assert again == text


def test_a_gain_inside_its_interval_is_written_as_none():
    from pruning_tables import gain
    from pruning_values import Value

    of = ("sentences", "toy", "features", "AUC", "cosine")
    assert gain(Value(*of, 0.02, -0.01, 0.05, 9)) == "none (+0.020 [-0.010, +0.050])"
    assert gain(Value(*of, 0.02, 0.0, 0.05, 9)).startswith("none")
    assert gain(Value(*of, -0.02, -0.03, -0.01, 9)) == "-0.020 [-0.030, -0.010]"
    assert gain(None) == ""


def test_the_command_line_names_every_command():
    import pruning

    assert "pruning" in sys.modules
    parser = pruning._parser()
    args = parser.parse_args(["score", "Q", "-o", "R", "--scorer", "cosine", "--data", "toy"])
    assert (args.command, args.scorer, args.data) == ("score", ["cosine"], ["toy"])
