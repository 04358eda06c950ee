"""Tiny checkpoints in the layouts that sentence-transformers saves, with random weights."""

import pytest

WORDS = "red green blue cat dog runs sleeps the a on".split()  # noqa: SIM905


@pytest.fixture(scope="session")
def bert(tmp_path_factory):
    """Return a function (architecture, **config changes) -> folder of a tiny BERT."""
    import torch
    import transformers

    def build(architecture, **changes):
        folder = tmp_path_factory.mktemp(architecture)
        vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, "[Q]", "[D]"]
        (folder / "vocab.txt").write_text("\n".join(vocabulary))
        tokenizer = transformers.BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=24)
        tokenizer.save_pretrained(folder)
        torch.manual_seed(0)
        config = transformers.BertConfig(
            vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=32, max_position_embeddings=32, **changes,
        )  # fmt: skip
        model = getattr(transformers, architecture)(config)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(0, 0.5)
        model.save_pretrained(folder)
        return folder

    return build


@pytest.fixture(scope="session")
def splade(bert, tmp_path_factory):
    """A sparse encoder as SPLADE is saved."""
    from sentence_transformers import SparseEncoder
    from sentence_transformers.base.modules.transformer import Transformer
    from sentence_transformers.sparse_encoder.modules import SpladePooling

    body = Transformer(str(bert("BertForMaskedLM")), transformer_task="fill-mask")
    folder = tmp_path_factory.mktemp("splade")
    SparseEncoder(modules=[body, SpladePooling()]).save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="session")
def cross_encoder_folder(bert, tmp_path_factory):
    """A cross-encoder with one output."""
    from sentence_transformers import CrossEncoder

    folder = tmp_path_factory.mktemp("cross")
    base = bert("BertForSequenceClassification", num_labels=1)
    CrossEncoder(str(base)).save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="session")
def colbert(bert, tmp_path_factory):
    """A multi-vector encoder as the library saves one: a transformer and a projection."""
    from sentence_transformers import MultiVectorEncoder

    folder = tmp_path_factory.mktemp("colbert")
    MultiVectorEncoder(str(bert("BertModel"))).save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="session")
def inference_free(bert, tmp_path_factory):
    """A sparse encoder whose queries are looked up in a table and whose passages are read."""
    import torch
    from sentence_transformers import SparseEncoder
    from sentence_transformers.base.modules.router import Router
    from sentence_transformers.base.modules.transformer import Transformer
    from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding, SpladePooling

    body = Transformer(str(bert("BertForMaskedLM")), transformer_task="fill-mask")
    weights = torch.arange(1.0, 1.0 + len(body.tokenizer.get_vocab()))
    router = Router.for_query_document(
        query_modules=[SparseStaticEmbedding(body.tokenizer, weights, frozen=True)],
        document_modules=[body, SpladePooling()],
    )
    folder = tmp_path_factory.mktemp("inference-free")
    SparseEncoder(modules=[router]).save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="session")
def trained_colbert(bert, tmp_path_factory):
    """A multi-vector encoder with all that ColBERT does: markers, mask tokens, words left out."""
    from sentence_transformers import MultiVectorEncoder
    from sentence_transformers.base.modules import Dense, Normalize, Transformer
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

    body = Transformer(
        str(bert("BertModel")),
        document_length=12,
        query_expansion={"strategy": "fixed", "attend": False, "length": 8},
    )
    modules = [
        body,
        Dense(16, 6, bias=False, module_input_name="token_embeddings"),
        MultiVectorMask(skiplist_words=["the", "on"]),
        Normalize(module_input_name="token_embeddings"),
    ]
    folder = tmp_path_factory.mktemp("trained-colbert")
    prompts = {"query": "[Q] ", "document": "[D] "}
    MultiVectorEncoder(modules=modules, prompts=prompts).save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="session")
def plain(bert, tmp_path_factory):
    """An ordinary encoder: a transformer and mean pooling."""
    from sentence_transformers import SentenceTransformer

    folder = tmp_path_factory.mktemp("plain")
    SentenceTransformer(str(bert("BertModel"))).save_pretrained(str(folder))
    return folder
