"""Tiny random trunks of four families, each with a tokenizer of its kind, and passages."""

import pytest

WORDS = "the assert statement inserts checks into a program yield returns values lazily".split()  # noqa: SIM905
FAMILIES = ["bert", "xlm-roberta", "modernbert", "deberta-v2"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


def build_tokenizer(kind):
    """A fast tokenizer with a template for pairs: `pieces`, `bytes` or `spaces`."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = [chr(code) for code in range(33, 127)]
    if kind == "pieces":
        entries = [*SPECIAL, *WORDS, *letters, *(f"##{letter}" for letter in letters)]
        vocabulary = {entry: id_ for id_, entry in enumerate(dict.fromkeys(entries))}
        tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer()
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        pair = "[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1"
    elif kind == "bytes":
        entries = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
        vocabulary = {entry: id_ for id_, entry in enumerate(entries)}
        tokenizer = Tokenizer(models.BPE(vocabulary, []))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        pair = "[CLS]:0 $A:0 [SEP]:0 $B:0 [SEP]:0"
    else:
        entries = [*SPECIAL, "▁", *(f"▁{word}" for word in WORDS), *letters]
        scored = [(entry, -float(id_)) for id_, entry in enumerate(entries)]
        tokenizer = Tokenizer(models.Unigram(scored, unk_id=1))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        pair = "[CLS]:0 $A:0 [SEP]:0 [SEP]:0 $B:0 [SEP]:0"
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair=pair,
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    )


KINDS = {"bert": "pieces", "xlm-roberta": "spaces", "modernbert": "bytes", "deberta-v2": "spaces"}


@pytest.fixture(scope="session")
def tokenizers():
    """One tokenizer of each kind, by kind."""
    return {kind: build_tokenizer(kind) for kind in ("pieces", "bytes", "spaces")}


def build_trunk(family, seed=0, positions=128):
    import torch
    from transformers import AutoConfig, AutoModel

    changes = {
        "bert": {"type_vocab_size": 2},
        "xlm-roberta": {"type_vocab_size": 1, "max_position_embeddings": positions + 1},
        "modernbert": {"global_attn_every_n_layers": 1, "attn_implementation": "eager"},
        "deberta-v2": {
            "type_vocab_size": 0,
            "relative_attention": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_buckets": 32,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "position_biased_input": False,
        },
    }[family]
    config = AutoConfig.for_model(
        family,
        **{
            "vocab_size": 300,
            "hidden_size": 16,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "intermediate_size": 24,
            "max_position_embeddings": positions,
            "pad_token_id": 0,
            "cls_token_id": 2,
            "sep_token_id": 3,
            "bos_token_id": 2,
            "eos_token_id": 3,
            **changes,
        },
    )
    torch.manual_seed(seed)
    model = AutoModel.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.3)
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    return model.eval()


@pytest.fixture(scope="session")
def trunk():
    """Return a function (family, seed, positions) -> random trunk in evaluation mode."""
    return build_trunk


@pytest.fixture(scope="session")
def random_model():
    """Return a function (family, seed, **settings) -> model with heads drawn at random."""
    import torch

    from pruners.provence import ProvenceModel, RerankHead
    from pruners.provence.heads import zero_token_head

    def build(family="bert", seed=0, residual=False, labels=2, dtype=torch.float32, positions=128):
        body = build_trunk(family, seed, positions)
        model = ProvenceModel(
            body,
            residual=residual,
            token_head=zero_token_head(16, labels),
            rerank_head=RerankHead(16),
        )
        draw_heads(model, seed)
        return model.to(dtype).eval()

    return build


def draw_heads(model, seed=0):
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for head in (model.token_head, model.rerank_head):
            for parameter in head.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))


@pytest.fixture(scope="session")
def passage():
    """Return a function (*sentences, title, id) -> passage; each keeps the white space it ends in."""
    from rag.records import Passage, Span

    def build(*sentences, title="", id_="p"):
        spans, at = [], 0
        for sentence in sentences:
            spans.append(Span(at, at + len(sentence)))
            at += len(sentence)
        text = "".join(sentences)
        return Passage(id_, "d", text, Span(0, at), tuple(spans), title=title)

    return build


class FixedPrior:
    """A scorer that gives each sentence what it was told, in turn, whatever the query."""

    name = "fixed"
    fingerprint = "a" * 64

    def __init__(self, *scores, fingerprint="a" * 64):
        self.scores = scores
        self.fingerprint = fingerprint
        self.calls = 0

    def __call__(self, query, passages):
        from rag.records import PassageScores

        self.calls += 1
        return [
            PassageScores(
                tuple(self.scores[row % len(self.scores)] for row, _ in enumerate(p.sentences))
            )
            for p in passages
        ]


@pytest.fixture
def fixed_prior():
    return FixedPrior


@pytest.fixture(scope="session")
def saved_trunk(tokenizers, tmp_path_factory):
    """Return a function (family, seed) -> folder of a trunk and its tokenizer."""

    def build(family="bert", seed=0):
        folder = tmp_path_factory.mktemp(family)
        build_trunk(family, seed).save_pretrained(folder)
        tokenizers[KINDS[family]].save_pretrained(folder)
        return folder

    return build
