"""Tiny random checkpoints in the layouts of other projects, each beside its reference model."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from rag.records import Query

KINDS = {"bert": "pieces", "xlm-roberta": "spaces", "modernbert": "bytes", "deberta-v2": "spaces"}
LAYOUTS = {
    "naver": "deberta-v2",
    "xprovence": "xlm-roberta",
    "xprovence-own-head": "xlm-roberta",
    "open-modernbert": "modernbert",
    "open-modernbert-mean": "modernbert",
    "open-bert": "bert",
    "open-deberta-v2": "deberta-v2",
    "open-without-prefix": "xlm-roberta",
    "zilliz": "xlm-roberta",
}
NON_COMMERCIAL = {"naver", "xprovence", "xprovence-own-head"}


@dataclass
class Checkpoint:
    """A folder and what it should compute.

    Attributes:
        layout: name in `LAYOUTS`.
        folder: as its project would have written it.
        classifier: transformers' own sequence classifier of the family, with the same weights.
        token_head: linear layer.
        tensors: what the file holds.
        config: what `config.json` holds.
        tokenizer: of the family.
    """

    layout: str
    folder: Path
    classifier: object
    token_head: object
    tensors: dict = field(repr=False)
    config: dict = field(repr=False)
    tokenizer: object = field(repr=False)

    def write(self, tensors=None, config=None, name="model.safetensors"):
        """Write other tensors or another configuration in place of its own."""
        from safetensors.torch import save_file

        if tensors is not None:
            save_file(tensors, self.folder / name)
        if config is not None:
            (self.folder / "config.json").write_text(json.dumps(config))


def randomise(module, seed):
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            drawn = 0.3 * torch.randn(parameter.shape, generator=generator)
            is_scale = "norm" in name.lower() and name.endswith("weight")
            parameter.copy_(drawn + 1.0 if is_scale else drawn)
    return module.eval()


def classifier_of(layout, config):
    """Transformers' own classifier; XProvence's puts a linear layer on the trunk's pooled state."""
    import torch
    from transformers import AutoModelForSequenceClassification, XLMRobertaModel

    if layout != "xprovence":
        return AutoModelForSequenceClassification.from_config(config)

    class Pooled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.roberta = XLMRobertaModel(config)
            self.classifier = torch.nn.Linear(config.hidden_size, 1)

        def forward(self, input_ids):
            return (self.classifier(self.roberta(input_ids=input_ids).pooler_output),)

    return Pooled()


@pytest.fixture
def checkpoint(trunk, tokenizers, tmp_path):
    """Return a function (layout, seed) -> checkpoint of tiny size."""
    import torch

    def build(layout, seed=0, positions=128, labels=1):
        family = LAYOUTS[layout]
        config = trunk(family, positions=positions).config
        config.num_labels = labels
        # ModernBERT's eager attention rounds to float32, whatever the model's precision.
        config._attn_implementation = "sdpa" if family == "modernbert" else "eager"
        if layout == "open-modernbert-mean":
            config.classifier_pooling, config.classifier_bias = "mean", True
            config.norm_bias, config.norm_eps = True, 1e-3
        classifier = randomise(classifier_of(layout, config), seed)
        token_head = randomise(torch.nn.Linear(config.hidden_size, 2), seed + 1)
        ours = layout.startswith(("naver", "xprovence"))
        prefix = "" if ours or layout == "open-without-prefix" else "ranking_model."
        head = "token_classifier" if ours else "pruning_head.classifier"
        tensors = {f"{prefix}{k}": v.clone() for k, v in classifier.state_dict().items()}
        tensors |= {f"{head}.{k}": v.clone() for k, v in token_head.state_dict().items()}
        base = config.to_dict()
        stated = base if ours else wrapped(layout, base)
        folder = tmp_path / f"{layout}-{seed}"
        folder.mkdir()
        tokenizers[KINDS[family]].save_pretrained(folder)
        made = Checkpoint(
            layout, folder, classifier, token_head, tensors, stated, tokenizers[KINDS[family]]
        )
        made.write(tensors, stated)
        return made

    return build


def wrapped(layout, base):
    """The configuration that OpenProvence's code writes around that of its sequence classifier."""
    module = "modeling_open_provence_standalone.OpenProvence"
    stated = {
        "model_type": "open_provence",
        "architectures": ["OpenProvenceForSequenceClassification"],
        "auto_map": {"AutoModel": f"{module}ForSequenceClassification"},
        "base_model_name_or_path": "nobody/nothing",
        "base_model_config": base,
        "pruning_config": {"hidden_size": 16, "num_labels": 2},
        "max_length": 96,
        "num_labels": 1,
    }
    if layout == "zilliz":
        stated["architectures"] = ["SemanticHighlightModel"]
    return stated


@pytest.fixture
def reads(passage):
    return [
        passage("yield returns values. ", "the program.\n", "a assert", title="a program", id_="0"),
        passage(id_="1"),
        passage("checks lazily into it", id_="2"),
        passage(" the ", "a  b. ", id_="3"),
    ]


@pytest.fixture
def asked():
    return Query("What does `Yield` return, lazily?")


@pytest.fixture
def loaded():
    """Return a function (checkpoint, **settings) -> scorer; the note of its licence is expected."""
    from pruners.provence.checkpoints import load_checkpoint

    def load(made, **settings):
        if made.layout in NON_COMMERCIAL:
            with pytest.warns(UserWarning, match="commercial use is not allowed"):
                return load_checkpoint(made.folder, **settings)
        return load_checkpoint(made.folder, **settings)

    return load


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*args):
        raise AssertionError(f"a connection was opened: {args}")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
