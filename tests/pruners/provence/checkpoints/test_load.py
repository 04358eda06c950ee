"""Published checkpoints: parity with transformers' own classifiers, defaults, batches, errors."""

import math
import string

import pytest
import torch

from pruners.provence import load_provence
from pruners.provence.checkpoints.naver import normalised
from pruners.threshold import ThresholdPruner
from rag.records import PassageScores, Query

LAYOUTS = (
    "naver",
    "xprovence",
    "xprovence-own-head",
    "open-modernbert",
    "open-modernbert-mean",
    "open-bert",
    "open-deberta-v2",
    "open-without-prefix",
    "zilliz",
)
NAVER = {"naver", "xprovence", "xprovence-own-head"}
CLS, SEP = 2, 3


def pair_by_definition(made, query, passage):
    """Return ids, and the sentence of each or None, as each project's own code lays them out."""

    def ids(text):
        return made.tokenizer(text, add_special_tokens=False)["input_ids"]

    if made.layout == "naver":
        lower = query.lower()
        query = " ".join("".join(c for c in lower if c not in string.punctuation).split())
    separators = 1
    if made.tokenizer("a", "a")["input_ids"].count(SEP) == 3 and made.layout not in NAVER:
        separators = 2
    front = [CLS, *ids(query), *([SEP] * separators)]
    sentences = [span.of(passage.text) for span in passage.sentences]
    if made.layout in NAVER:
        texts = [text.strip() for text in [passage.title, *sentences] if text.strip()]
        pieces = [ids(text if at == 0 else f" {text}") for at, text in enumerate(texts)]
    else:
        title = [f"{passage.title}\n"] if passage.title else []
        pieces = [ids(text) for text in [*title, *sentences]]
    first = 1 if passage.title else 0
    rows = [[None if at < first else at - first] * len(p) for at, p in enumerate(pieces)]
    return (
        [*front, *(id_ for piece in pieces for id_ in piece), SEP],
        [*(None for _ in front), *(row for line in rows for row in line), None],
    )


def heads_by_definition(made, ids):
    """Return the keep-probability of each token and the raw rerank score, in float64."""
    classifier, token_head = made.classifier.double(), made.token_head.double()
    trunk = next(
        getattr(classifier, name)
        for name in ("deberta", "roberta", "bert", "model")
        if hasattr(classifier, name)
    )
    states = []
    # In transformers 4.57, which these were trained with, ModernBERT's last hidden state is the
    # one before the last norm.
    if hasattr(trunk, "final_norm"):
        hook = trunk.final_norm.register_forward_pre_hook(lambda _, given: states.append(given[0]))
    else:
        hook = trunk.register_forward_hook(lambda *said: states.append(said[2].last_hidden_state))
    types = {}
    if made.layout == "open-bert":
        end = ids.index(SEP) + 1
        types = {"token_type_ids": torch.tensor([[0] * end + [1] * (len(ids) - end)])}
    with torch.no_grad():
        rerank = classifier(input_ids=torch.tensor([ids]), **types)[0][0, 0].item()
        probabilities = token_head(states[0])[0].softmax(-1)[:, 1].tolist()
    hook.remove()
    return probabilities, rerank


def scores_by_definition(made, query, passage):
    ids, rows = pair_by_definition(made, query, passage)
    probabilities, rerank = heads_by_definition(made, ids)
    scores = []
    for sentence in range(len(passage.sentences)):
        own = [p for p, row in zip(probabilities, rows, strict=True) if row == sentence]
        if made.layout in NAVER:
            falling = sorted(own, reverse=True)
            scores.append(max(min(p, (i + 1) / len(own)) for i, p in enumerate(falling)))
        else:
            scores.append(sum(own) / len(own))
    own = rerank if made.layout in NAVER else 1 / (1 + math.exp(-rerank))
    return PassageScores(pytest.approx(scores, abs=1e-9), pytest.approx(own, abs=1e-9))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_scores_are_those_of_the_projects_own_definition(checkpoint, loaded, reads, asked, layout):
    made = checkpoint(layout)
    scorer = loaded(made)
    scorer.model.double()
    found = scorer(asked, reads)
    assert found[1] == PassageScores(())
    for passage, scores in zip(reads, found, strict=True):
        if passage.sentences:
            assert scores == scores_by_definition(made, asked.text, passage)


@pytest.mark.parametrize("layout", ["naver", "open-modernbert", "zilliz"])
def test_of_several_labels_the_first_is_the_score(checkpoint, loaded, reads, asked, layout):
    made = checkpoint(layout, labels=3)
    scorer = loaded(made)
    scorer.model.double()
    assert scorer(asked, reads[:1]) == [scores_by_definition(made, asked.text, reads[0])]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_batch_equals_a_loop(checkpoint, loaded, reads, asked, layout):
    scorer = loaded(checkpoint(layout), batch_size=3)
    scorer.model.double()
    alone = [scorer(asked, [read])[0] for read in reads]
    together = scorer.score_batch([asked, Query("a")], [reads, reads[:1]])
    assert [
        PassageScores(
            pytest.approx(one.sentences, abs=1e-9),
            one.rerank_score and pytest.approx(one.rerank_score, abs=1e-9),
        )
        for one in alone
    ] == together[0]


@pytest.mark.parametrize(
    ("layout", "threshold", "always_select_title", "rerank", "window"),
    [
        ("naver", 0.1, False, "logit", 128),
        ("xprovence", 0.3, True, "logit", 128),
        ("open-modernbert", 0.1, False, "probability", 96),
        ("zilliz", 0.5, False, "probability", 96),
    ],
)
def test_settings_are_the_published_ones(
    checkpoint, loaded, layout, threshold, always_select_title, rerank, window
):
    scorer = loaded(checkpoint(layout))
    assert scorer.threshold == threshold
    assert scorer.always_select_title is always_select_title
    assert scorer._rerank == rerank
    assert scorer._caps == (window, window // 2, window // 8)
    assert not scorer.model.training
    assert {p.dtype for p in scorer.model.parameters()} == {torch.float32}


def test_long_windows_are_cut_to_what_was_trained(checkpoint, loaded):
    assert loaded(checkpoint("naver", positions=600))._caps[0] == 512


def test_settings_may_be_chosen(checkpoint, loaded, reads, asked):
    made = checkpoint("open-modernbert")
    mean, majority = loaded(made), loaded(made, rounding="majority", rerank="logit")
    one, other = mean(asked, reads)[0], majority(asked, reads)[0]
    assert one.sentences != other.sentences
    assert one.rerank_score == pytest.approx(1 / (1 + math.exp(-other.rerank_score)))
    with pytest.raises(ValueError, match="rounding must be one of"):
        loaded(made, rounding="mode")


@pytest.mark.parametrize("name", ["default_threadshold", "default_threshold"])
@pytest.mark.parametrize("layout", ["open-modernbert", "zilliz"])
def test_a_configuration_may_state_threshold_and_window(checkpoint, loaded, layout, name):
    made = checkpoint(layout)
    made.write(config=made.config | {name: 0.25, "max_length": 64})
    scorer = loaded(made)
    assert scorer.threshold == 0.25
    assert scorer._caps[0] == 64
    made.write(config=made.config | {name: 2})
    with pytest.raises(ValueError, match=r"must be in \[0, 1\], got 2"):
        loaded(made)
    made.write(config=made.config | {"max_length": "8"})
    with pytest.raises(ValueError, match=r"max_length in .* must be at least 16, got '8'"):
        loaded(made)


def test_a_question_is_normalised_as_for_squad_without_its_articles():
    assert normalised("  Who's the  «King», of\tSPAIN? ") == "whos the «king» of spain"


def test_precision_of_the_file_does_not_matter(checkpoint, loaded, reads, asked):
    made = checkpoint("open-modernbert")
    halves = {name: tensor.half() for name, tensor in made.tensors.items()}
    made.write({name: tensor.float() for name, tensor in halves.items()})
    exact = loaded(made)(asked, reads)
    made.write(halves)
    assert loaded(made)(asked, reads) == exact


def test_tensors_may_lie_in_several_files(checkpoint, loaded, reads, asked):
    made = checkpoint("zilliz")
    whole = loaded(made)(asked, reads)
    names = sorted(made.tensors)
    (made.folder / "model.safetensors").unlink()
    for part in range(2):
        chosen = {name: made.tensors[name] for name in names[part::2]}
        made.write(chosen, name=f"model-0000{part + 1}-of-00002.safetensors")
    assert loaded(made)(asked, reads) == whole


def test_buffers_and_heads_that_nothing_reads_are_passed_over(checkpoint, loaded, reads, asked):
    made = checkpoint("open-bert")
    before = loaded(made)(asked, reads)
    extra = {
        "ranking_model.bert.embeddings.position_ids": torch.arange(128)[None],
        "pruning_head.pooling_weights.weight": torch.ones(1, 16),
        "pruning_head.pooling_weights.bias": torch.ones(1),
    }
    made.write(made.tensors | extra)
    assert loaded(made)(asked, reads) == before


def test_no_code_of_the_folder_runs_and_none_that_it_names(checkpoint, loaded, reads, asked):
    made = checkpoint("open-modernbert")
    before = loaded(made)(asked, reads)
    mark = made.folder / "ran"
    code = f"open({str(mark)!r}, 'w').close()\n"
    (made.folder / "modeling_open_provence_standalone.py").write_text(code)
    (made.folder / "tokenization.py").write_text(code)
    named = {
        "auto_map": {"AutoConfig": "tokenization.C", "AutoTokenizer": ["tokenization.T", None]},
        "attn_implementation": "somebody/kernel",
        "_attn_implementation": "somebody/kernel",
        "quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True},
    }
    base = made.config["base_model_config"] | named
    made.write(config=made.config | named | {"base_model_config": base})
    assert loaded(made)(asked, reads) == before
    assert not mark.exists()


def test_the_operators_loader_takes_a_folder(checkpoint, loaded, reads, asked):
    made = checkpoint("zilliz")
    scorer = load_provence(str(made.folder))
    assert scorer(asked, reads) == loaded(made)(asked, reads)
    assert load_provence(str(made.folder), rerank="none")(asked, reads)[0].rerank_score is None
    half = load_provence(str(made.folder), precision="bfloat16")
    exact = scorer(asked, reads)[0].sentences
    assert half(asked, reads)[0].sentences == pytest.approx(exact, abs=0.1)


def test_a_pruner_decides_by_the_scores(checkpoint, loaded, reads, asked):
    scorer = loaded(checkpoint("xprovence"))
    (selection,) = ThresholdPruner(scorer, threshold=0.0).select(asked, reads[:1])
    assert selection.text(reads[0].text) == reads[0].text
    (selection,) = ThresholdPruner(scorer, threshold=1.0, min_keep=0).select(asked, reads[:1])
    assert selection.kept_rows == ()
