"""Tiny random models and a cheap encoder, built from configurations: nothing is downloaded."""

import hashlib
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import pytest
from hypothesis import settings

# Machines are shared and slow at times: an example's wall time says nothing about the code.
settings.register_profile("dovetail", deadline=None)
settings.load_profile("dovetail")

WORDS = "the assert statement inserts checks into a program yield returns values lazily"


def tiny_config(family, **changes):
    from transformers import AutoConfig

    sizes = {
        "vocab_size": 300,
        "hidden_size": 48,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 512,
        "sliding_window": None,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 2,
    }
    return AutoConfig.for_model(family, **(sizes | changes))


@pytest.fixture(scope="session")
def tiny_model():
    """Return a function (family, dtype, **config changes) -> random model in evaluation mode."""
    import torch
    from transformers import AutoModelForCausalLM

    def build(family="llama", dtype=torch.float32, seed=0, **changes):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(tiny_config(family, **changes))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(0, 0.2)
        return model.to(dtype).eval()

    return build


@pytest.fixture(scope="session")
def tiny_tokenizer():
    """Byte-level BPE of 300 entries with control tokens <unk>, <s> and </s> as ids 0, 1 and 2."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<unk>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([WORDS] * 4, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


@pytest.fixture
def identity():
    """Return a function dtype -> identity of a pretended model."""
    from rag.records import ModelIdentity

    return lambda dtype="float32": ModelIdentity("tiny", "weights", "rope", dtype, "tokenizer")


class HashEncoder:
    """Unit vectors from hashes of the texts; counts what it encodes, and can be told to stop."""

    dim = 16

    def __init__(self, fingerprint="f" * 64, name="hash"):
        self.name = name
        self.fingerprint = fingerprint
        self.texts = []
        self.stop_after = None

    def encode_queries(self, texts):
        return self.encode(texts)

    def encode(self, texts, *, progress=None):
        if self.stop_after is not None and len(self.texts) + len(texts) > self.stop_after:
            raise KeyboardInterrupt
        self.texts += texts
        rows = [
            np.frombuffer(hashlib.sha256((self.fingerprint + t).encode()).digest(), np.uint16)
            for t in texts
        ]
        vectors = np.array(rows, np.float32).reshape(-1, self.dim) - 32767.5
        if progress:
            progress(len(texts))
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def encoder():
    return HashEncoder()


@pytest.fixture(scope="session")
def checkpoint(tiny_model, tiny_tokenizer, tmp_path_factory):
    """A folder with a tiny model, with room for the whole prompt, and its tokenizer."""
    folder = tmp_path_factory.mktemp("tiny")
    tiny_model(max_position_embeddings=4096).save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder
