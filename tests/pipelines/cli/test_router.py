"""`dovetail router` on a few dozen queries and a cheap encoder: what it writes, tells and refuses."""

import hashlib
import json

import numpy as np
import pytest

from pipelines.cli.main import main

WORDS = {
    "table": ("which row has the highest score", "rank", "season"),
    "paragraph": ("who was the first king of", "Norway", "Sweden"),
    "image": ("what colour is the roof of", "Notre Dame", "Big Ben"),
}


def lines(count, sources=("a", "b"), labels=tuple(WORDS)):
    return [
        {
            "id": f"{label}-{n}",
            "question": f"{WORDS[label][0]} {WORDS[label][1 + n % 2]} {n}",
            "route": label,
            "source": sources[n % len(sources)],
        }
        for label in labels
        for n in range(count)
    ]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


class Hashed:
    """Unit vectors from hashes of the texts; remembers what it encodes."""

    dim = 16

    def __init__(self, name="hashed", fingerprint="f" * 64):
        self.name, self.fingerprint, self.texts = name, fingerprint, []

    def encode_queries(self, texts):
        self.texts += texts
        rows = [np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint16) for text in texts]
        vectors = np.array(rows, np.float32).reshape(-1, self.dim) - 32767.5
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def encoder(monkeypatch):
    made = Hashed()
    monkeypatch.setattr("rag.models.encoder.load_encoder", lambda *_, **__: made)
    return made


@pytest.fixture(scope="module")
def queries(tmp_path_factory):
    """A folder of 45 queries with a licence."""
    folder = tmp_path_factory.mktemp("data") / "queries"
    folder.mkdir()
    write(folder / "queries.jsonl", lines(15))
    (folder / "meta.json").write_text(json.dumps({"licence": "a MIT; b CC BY 4.0"}))
    return folder


@pytest.fixture(scope="module")
def trained(queries, tmp_path_factory):
    """A router that learned from the queries; it is only read."""
    out = tmp_path_factory.mktemp("routers") / "mine"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rag.models.encoder.load_encoder", lambda *_, **__: Hashed())
        given = ["router", "train", str(queries), "-o", str(out), "--no-figures", "--quiet"]
        assert main(given) == 0
    return out


def test_trains_measures_and_writes_a_router_with_its_card(queries, tmp_path, capsys, encoder):
    out = tmp_path / "mine"
    given = ["router", "train", str(queries), "-o", str(out), "--folds", "2", "--json"]
    assert main(given) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["learned"], told["folds"], told["questions"]) == (45, 2, 45)
    assert told["accuracy"]["mean"] > 0.9
    assert told["sources"].keys() == told["sources_left_out"].keys() == {"a", "b"}
    assert told["policies"]["single"]["corpora"] == 1.0
    assert len(encoder.texts) == len(set(encoder.texts)) == 45
    card = (out / "README.md").read_text()
    for part in (
        "    dovetail router train queries -o mine --seed=0 --folds=2",
        "- 45 queries; labels: image 15, paragraph 15, table 15",
        "- licence: a MIT; b CC BY 4.0\n",
        "Each of 2 parts of the 45 queries",
    ):
        assert part in card
    assert str(tmp_path) not in card
    assert {path.suffix for path in out.iterdir()} == {".json", ".md", ".safetensors"}


def test_prints_tables(queries, tmp_path, capsys, encoder):
    out = tmp_path / "mine"
    assert main(["router", "train", str(queries), "-o", str(out), "--folds", "2"]) == 0
    said = capsys.readouterr().out
    for part in ("learned from 45 queries with 3 labels", "2 folds", "two below 0.8", "left out"):
        assert part in said
    about = json.loads((out / "config.json").read_text())["about"]
    assert about["figures"].keys() == {"folds", "accuracy", "macro_f1", "ece"}


def test_without_figures_the_same_seed_writes_the_same_router(
    trained, queries, tmp_path, capsys, encoder
):
    again = tmp_path / "again"
    assert main(["router", "train", str(queries), "-o", str(again), "--no-figures"]) == 0
    assert "macro-F1" not in capsys.readouterr().out
    assert "Nothing was measured." in (again / "README.md").read_text()
    for path in trained.glob("*.safetensors"):
        assert (again / path.name).read_bytes() == path.read_bytes()


def test_tests_a_router_and_draws_its_reliability(trained, tmp_path, capsys, encoder):
    more = write(tmp_path / "more.jsonl", lines(20)[::3])
    picture = tmp_path / "reliability.svg"
    given = ["router", "test", str(trained), str(more), "--picture", str(picture)]
    assert main([*given, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["questions"] == 20
    assert told["accuracy"]["mean"] > 0.9
    assert sum(one["count"] for one in told["bins"]) == 20
    assert sum(one["support"] for one in told["labels"].values()) == 20
    assert "mine: ECE" in picture.read_text()
    assert main(given) == 0
    said = capsys.readouterr().out
    assert "20 queries" in said
    assert "source  queries  accuracy\n" in said
    assert "calibration error" in said


def test_says_if_a_router_is_tested_on_what_it_learned(trained, queries, capsys, encoder):
    assert main(["router", "test", str(trained), str(queries)]) == 0
    assert "learned from these very queries" in capsys.readouterr().err


def test_tells_what_is_lost_against_the_best_route_where_outcomes_are_there(
    trained, tmp_path, capsys, encoder
):
    outcomes = {"table": 0.5, "paragraph": 0.25, "image": 0.0}
    rows = [
        one | {"outcomes": outcomes | {one["route"]: 1.0}, "costs": dict.fromkeys(WORDS, 10)}
        for one in lines(4)
    ]
    data = write(tmp_path / "tried.jsonl", rows + lines(6)[5::6])
    assert main(["router", "test", str(trained), str(data), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["outcomes"]
    assert told["questions"] == 12
    assert told["oracle"]["score"]["mean"] == 1.0
    assert told["best_single"] == "table"
    assert told["single"]["score"]["mean"] == pytest.approx(2 / 3)
    single = told["policies"]["single"]
    assert single["score"]["mean"] + single["regret"]["mean"] == pytest.approx(1.0)
    assert single["score"]["mean"] > 0.9
    assert single["cost"] == 10
    assert main(["router", "test", str(trained), str(data)]) == 0
    said = capsys.readouterr().out
    for part in ("12 with outcomes", "table for all", "best route of each", "regret"):
        assert part in said


def test_says_nothing_of_outcomes_where_there_are_none(trained, queries, capsys, encoder):
    assert main(["router", "test", str(trained), str(queries), "--json"]) == 0
    assert "outcomes" not in json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["train", "{q}", "-o", "{t}/x", "--seed", "-1"], "--seed must be at least 0, got -1"),
        (["train", "{q}", "-o", "{t}/x", "--folds", "1"], "--folds must be at least 2, got 1"),
        (["train", "{q}", "-o", "{q}/queries.jsonl"], "--out must be a folder"),
        (["train", "{q}", "-o", "{m}"], "holds a model already; choose another folder"),
        (["train", "{t}/none.jsonl", "-o", "{t}/x"], "none.jsonl"),
        (["train", "{t}/empty.jsonl", "-o", "{t}/x"], "empty.jsonl"),
        (["test", "{t}/nowhere", "{q}"], "nowhere"),
        (["test", "{m}", "{t}/other.jsonl"], "(image, paragraph, table), got clip"),
        (["test", "{m}", "{q}", "--picture", "{t}/no/p.svg"], "--picture must be in a folder"),
        ([], "required: ACTION"),
        (["tets"], "invalid choice: 'tets'"),
    ],
)
def test_mistakes_are_one_line(trained, queries, tmp_path, capsys, encoder, given, message):
    write(tmp_path / "empty.jsonl", [])
    write(tmp_path / "other.jsonl", [{"id": "x", "question": "y", "route": "clip"}])
    arguments = [one.format(q=queries, t=tmp_path, m=trained) for one in given]
    assert main(["router", *arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith("dovetail: error: ")
    assert message in said
    assert not (tmp_path / "x").exists()


def test_another_encoder_is_refused(trained, queries, capsys, encoder):
    encoder.name, encoder.fingerprint = "other", "e" * 64
    assert main(["router", "test", str(trained), str(queries)]) == 2
    said = capsys.readouterr().err
    assert "trained with encoder 'hashed'" in said
    assert "got 'other'" in said


def test_several_labels_need_their_flag(tmp_path, capsys, encoder):
    data = write(tmp_path / "q.jsonl", [{"id": "a", "question": "b", "routes": ["x", "y"]}])
    assert main(["router", "train", str(data), "-o", str(tmp_path / "x")]) == 2
    assert "--multi-label" in capsys.readouterr().err


def test_several_labels_at_once(tmp_path, capsys, encoder):
    rows = lines(10) + [
        {"id": f"both-{n}", "question": f"{WORDS['table'][0]} roof {n}", "routes": [*WORDS][::2]}
        for n in range(10)
    ]
    data, out = write(tmp_path / "several.jsonl", rows), tmp_path / "several"
    given = ["router", "train", str(data), "-o", str(out), "--multi-label", "--folds", "2"]
    assert main([*given, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["labels"]["image"]["support"] == 20
    assert "--multi-label" in (out / "README.md").read_text()
