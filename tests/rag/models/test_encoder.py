"""Encoders: unit vectors, independence of the batch, windows; on a tiny random model."""

import hashlib
import json
import math
import shutil

import numpy as np
import pytest

from rag.errors import ModelNotFoundError
from rag.models import ENCODERS, load_encoder, resolve_model
from rag.models.encoder import SentenceEncoder, encoder_fingerprint
from rag.protocols import Encoder

WORDS = "red green blue cat dog runs sleeps the a on".split()  # noqa: SIM905
WINDOW = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Write a sentence-transformers model by hand: two layers, fifteen words, mean pooling."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("tiny")
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *"abc", "##a", "##b", "##c"]
    (folder / "vocab.txt").write_text("\n".join(dict.fromkeys(vocabulary)))
    tokenizer = BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=WINDOW)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=32,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    kind = "sentence_transformers.models"
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": f"{kind}.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": f"{kind}.Pooling"},
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": WINDOW}))
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 16, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return folder


@pytest.fixture(scope="module")
def encoder(folder):
    return load_encoder(str(folder))


TEXTS = ["red cat", "the green dog sleeps", "", "a", "blue blue blue cat on the dog", "zebra"]


def test_gives_unit_float32_vectors_in_order(encoder):
    vectors = encoder.encode(TEXTS)
    assert vectors.shape == (len(TEXTS), encoder.dim) == (len(TEXTS), 16)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0, abs=1e-6)
    assert len({tuple(v) for v in vectors.round(4)}) == len(TEXTS)


def test_satisfies_the_protocol(encoder, folder):
    assert isinstance(encoder, Encoder)
    assert encoder.name == str(folder)


def test_a_text_has_one_vector_whatever_the_batch(encoder):
    texts = [f"{a} {b}" for a in WORDS for b in ["cat", "dog runs on the red cat", ""]]
    together = encoder.encode(texts)
    alone = np.concatenate([encoder.encode([text]) for text in texts])
    backwards = encoder.encode(texts[::-1])[::-1]
    np.testing.assert_allclose(together, alone, atol=1e-6)
    np.testing.assert_allclose(together, backwards, atol=1e-6)


def test_encodes_nothing(encoder):
    assert encoder.encode([]).shape == (0, 16)
    assert encoder.encode([]).dtype == np.float32


def test_reports_progress_up_to_the_end(encoder):
    done = []
    encoder.encode(["red"] * 70, progress=done.append)
    assert done == [32, 64, 70]


def test_a_long_text_is_the_weighted_mean_of_its_windows(encoder):
    # 12 tokens, of which the sixth and seventh are one word: windows of 7 and 5 tokens.
    first, second = "red cat runs on the ab", "blue dog blue dog blue"
    one, other = encoder.encode([first, second])
    mean = 7 * one + 5 * other
    whole = encoder.encode([f"{first} {second}"])[0]
    np.testing.assert_allclose(whole, mean / np.linalg.norm(mean), atol=1e-6)


def test_windows_end_at_words(encoder):
    # 12 tokens, of which the sixth and seventh are one word.
    assert encoder._windows("cat cat cat cat cat ab cat cat cat cat cat") == [
        ("cat cat cat cat cat ab", 7),
        ("cat cat cat cat cat", 5),
    ]


@pytest.mark.parametrize("text", ["abc" * 40, "ab " * 1000, "cat" * 500, "\n".join(WORDS * 30)])
def test_every_window_fits_and_none_of_the_text_is_lost(encoder, text):
    windows = encoder._windows(text)
    assert "".join("".join(w.split()) for w, _ in windows) == "".join(text.split())
    assert all(1 <= tokens <= WINDOW - 2 for _, tokens in windows)


def test_the_end_of_a_long_text_counts(encoder):
    start = "red cat " * 10
    one, other = encoder.encode([start + "dog", start + "blue"])
    assert np.abs(one - other).max() > 1e-4


@pytest.mark.parametrize("text", ["\ud800 cat", "\x00", "e\u0301👩‍👩‍👧", "\u2028", "猫"])
def test_takes_any_text(encoder, text):
    assert np.isfinite(encoder.encode([text])).all()


def test_bfloat16_comes_close_and_has_the_same_fingerprint(encoder, folder):
    half = load_encoder(str(folder), precision="bfloat16")
    assert half.fingerprint == encoder.fingerprint
    assert (half.encode(TEXTS) * encoder.encode(TEXTS)).sum(axis=1).min() > 0.999
    assert half.encode(TEXTS).dtype == np.float32


def test_the_fingerprint_follows_the_content_and_not_the_place(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    assert encoder_fingerprint(copy) == encoder_fingerprint(folder)
    weights = copy / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert encoder_fingerprint(copy) != encoder_fingerprint(folder)


@pytest.mark.parametrize(
    ("file", "key"),
    [("1_Pooling/config.json", "pooling_mode_cls_token"), ("sentence_bert_config.json", "x")],
)
def test_the_fingerprint_follows_pooling_and_window(folder, tmp_path, file, key):
    copy = shutil.copytree(folder, tmp_path / "copy")
    about = json.loads((copy / file).read_text())
    (copy / file).write_text(json.dumps(about, indent=4))
    assert encoder_fingerprint(copy) == encoder_fingerprint(folder)
    (copy / file).write_text(json.dumps(about | {key: True}))
    assert encoder_fingerprint(copy) != encoder_fingerprint(folder)


def test_refuses_a_folder_without_safetensors(tmp_path):
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(ModelNotFoundError, match=r"no \.safetensors weights"):
        load_encoder(str(tmp_path))


def test_refuses_an_unknown_precision(folder):
    with pytest.raises(ValueError, match=r"precision must be one of .*got 'float16'"):
        load_encoder(str(folder), precision="float16")


def test_loading_and_encoding_are_silent(folder, capfd):
    load_encoder(str(folder)).encode(["red cat " * 30])
    assert capfd.readouterr() == ("", "")


def test_minilm_has_the_published_weights_and_knows_what_is_alike():
    try:
        weights = resolve_model("minilm", packages=ENCODERS) / "model.safetensors"
    except ModelNotFoundError as error:
        pytest.skip(str(error))
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert (digest[:8], digest[-6:]) == ("53aa5117", "28d9db")
    encoder = load_encoder()
    asked, near, far = encoder.encode(
        ["How do I open a file?", "Opening files for reading.", "Penguins live in the south."]
    )
    assert encoder.dim == 384
    assert asked @ near > 0.5
    assert asked @ far < 0.2
    assert math.isclose(float(asked @ asked), 1.0, abs_tol=1e-6)


def test_prompts_stand_before_queries_and_passages(encoder, folder):
    prompted = load_encoder(str(folder), query_prompt="red ", document_prompt="the ")
    np.testing.assert_allclose(
        prompted.encode_queries(["cat", "dog"]), encoder.encode(["red cat", "red dog"]), atol=1e-6
    )
    np.testing.assert_allclose(prompted.encode(["cat"]), encoder.encode(["the cat"]), atol=1e-6)
    assert (prompted.query_prompt, prompted.document_prompt) == ("red ", "the ")
    assert encoder.encode_queries(["cat"]).tolist() == encoder.encode(["cat"]).tolist()


def test_every_window_of_a_long_passage_has_the_prompt_and_fits(folder):
    prompted = load_encoder(str(folder), document_prompt="the red cat ")
    windows = prompted._windows("dog runs " * 20, "the red cat ")
    assert max(tokens for _, tokens in windows) <= WINDOW - 2 - 3
    assert "".join("".join(w.split()) for w, _ in windows) == "dogruns" * 20


def test_a_prompt_that_fills_the_window_is_refused(folder):
    load_encoder(str(folder), document_prompt="red " * (WINDOW - 3))
    for side in ("query_prompt", "document_prompt"):
        with pytest.raises(ValueError, match=r"must leave room in .* window of 12 tokens, got"):
            load_encoder(str(folder), **{side: "red " * (WINDOW - 2)})


def test_a_short_text_of_many_tokens_is_cut_too(tiny_tokenizer):
    class Model:
        tokenizer = tiny_tokenizer
        max_seq_length = WINDOW

        def encode(self, texts, **_):
            return np.ones((len(texts), 2), np.float32)

    encoder = SentenceEncoder(Model(), name="bytes", fingerprint="")
    # Four bytes, so four tokens each.
    windows = encoder._windows("🐈🐕🐎🐄")
    assert len(windows) > 1
    assert all(tokens <= WINDOW for _, tokens in windows)


def test_prompts_are_part_of_the_fingerprint_and_none_leaves_it_as_it_was(encoder, folder):
    plain = encoder_fingerprint(folder)
    assert plain == encoder.fingerprint == load_encoder(str(folder), query_prompt="").fingerprint
    found = {
        load_encoder(str(folder), **prompts).fingerprint
        for prompts in ({"query_prompt": "q "}, {"document_prompt": "q "}, {"query_prompt": "r "})
    }
    assert len(found | {plain}) == 4
    assert encoder_fingerprint(folder, query_prompt="q ") in found


def test_a_checkpoints_own_prompts_are_used_unless_others_are_given(encoder, folder, tmp_path):
    copy = tmp_path / "prompted"
    shutil.copytree(folder, copy)
    about = {"prompts": {"query": "red ", "passage": "the "}, "default_prompt_name": "query"}
    (copy / "config_sentence_transformers.json").write_text(json.dumps(about))
    own = load_encoder(str(copy))
    assert (own.query_prompt, own.document_prompt) == ("red ", "the ")
    np.testing.assert_allclose(own.encode(["cat"]), encoder.encode(["the cat"]), atol=1e-6)
    without = load_encoder(str(copy), query_prompt="", document_prompt="")
    np.testing.assert_allclose(without.encode(["cat"]), encoder.encode(["cat"]), atol=1e-6)
    assert own.fingerprint != without.fingerprint == encoder.fingerprint
