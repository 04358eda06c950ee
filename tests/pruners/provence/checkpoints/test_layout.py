"""Recognising checkpoints, and refusing what is incomplete, foreign or unsafe."""

import pickle
import re

import pytest
import torch

from pruners.provence.checkpoints import describe_checkpoint, load_checkpoint
from rag.errors import ModelNotFoundError

pytestmark = pytest.mark.filterwarnings("ignore:.*commercial use:UserWarning")


def test_missing_unexpected_and_misshapen_tensors_are_listed_together(checkpoint):
    made = checkpoint("naver")
    tensors = dict(made.tensors)
    del tensors["pooler.dense.bias"]
    tensors["lm_head.weight"] = torch.zeros(2)
    tensors["token_classifier.weight"] = torch.zeros(3, 16)
    made.write(tensors)
    with pytest.raises(ValueError, match="of the wrong shape") as refused:
        load_checkpoint(made.folder)
    assert str(refused.value).startswith(
        f"the tensors of {made.folder} must be those of deberta-v2 with a token head "
        "token_classifier and a rerank head classifier; 1 missing: pooler.dense.bias; "
        "1 unexpected: lm_head.weight; 1 of the wrong shape: token_classifier.weight "
        "(must be (2, 16), got (3, 16))"
    )


@pytest.mark.parametrize("layout", ["naver", "xprovence", "open-modernbert", "zilliz"])
def test_every_single_tensor_is_needed(checkpoint, layout):
    made = checkpoint(layout)
    for name in sorted(made.tensors)[::5]:
        made.write({k: v for k, v in made.tensors.items() if k != name})
        with pytest.raises((ValueError, ModelNotFoundError), match=re.escape(name.split(".")[0])):
            load_checkpoint(made.folder)


def test_long_lists_are_cut(checkpoint):
    made = checkpoint("open-bert")
    extra = {f"other.{row}": torch.zeros(1) for row in range(10)}
    made.write(made.tensors | extra)
    with pytest.raises(ValueError, match=r"10 unexpected: other\.0, .*other\.7, …$"):
        load_checkpoint(made.folder)


def test_a_reranker_without_a_token_head_is_no_pruner(checkpoint):
    made = checkpoint("naver")
    made.write({k: v for k, v in made.tensors.items() if "token_classifier" not in k})
    with pytest.raises(ModelNotFoundError) as refused:
        load_checkpoint(made.folder)
    told = str(refused.value)
    assert "Looked for naver Provence: deberta.* and token_classifier.*; " in told
    assert "Found tensors classifier.*, deberta.*, pooler.*, and in config.json" in told
    assert "model_type 'deberta-v2' and architectures None" in told


def test_a_missing_rerank_head_is_named(checkpoint):
    made = checkpoint("open-modernbert")
    made.write({k: v for k, v in made.tensors.items() if ".classifier" not in k or "pru" in k})
    with pytest.raises(ValueError, match=r"2 missing: ranking_model\.classifier\.bias, ranking"):
        load_checkpoint(made.folder)


def test_pickles_are_refused_with_the_reason(checkpoint):
    made = checkpoint("naver")
    (made.folder / "model.safetensors").rename(made.folder / "model.old")
    (made.folder / "pytorch_model.bin").write_bytes(pickle.dumps(print))
    with pytest.raises(
        ModelNotFoundError,
        match=r"no \.safetensors weights; pytorch_model\.bin is a pickle, which may run code",
    ):
        load_checkpoint(made.folder)


def test_a_folder_of_code_alone_is_refused(checkpoint):
    made = checkpoint("open-bert")
    (made.folder / "model.safetensors").unlink()
    (made.folder / "modeling.py").write_text("raise SystemExit")
    with pytest.raises(ModelNotFoundError, match=r"; modeling\.py is code, and no code of a f"):
        load_checkpoint(made.folder)
    (made.folder / "modeling.py").unlink()
    with pytest.raises(ModelNotFoundError, match=r"holds no \.safetensors weights$"):
        load_checkpoint(made.folder)


def test_damaged_files_are_named(checkpoint):
    made = checkpoint("open-bert")
    (made.folder / "other.safetensors").write_bytes(b"version https://git-lfs")
    with pytest.raises(ModelNotFoundError, match=r"other\.safetensors is no safetensors file: "):
        load_checkpoint(made.folder)
    made.write({"pruning_head.classifier.bias": torch.zeros(2)}, name="other.safetensors")
    with pytest.raises(
        ModelNotFoundError, match=r"other\.safetensors and model\.safetensors both hold a tensor p"
    ):
        load_checkpoint(made.folder)


@pytest.mark.parametrize(
    ("content", "told"),
    [(None, "holds no config.json"), ("[]", "must hold a JSON object, got list"), ("{", "as JSON")],
)
def test_configurations_that_are_none(checkpoint, content, told):
    made = checkpoint("naver")
    (made.folder / "config.json").unlink()
    if content:
        (made.folder / "config.json").write_text(content)
    with pytest.raises(ModelNotFoundError, match=told):
        load_checkpoint(made.folder)


@pytest.mark.parametrize(
    "change",
    [
        {"hidden_size": "wide"},
        {"hidden_act": "nothing"},
        {"num_attention_heads": 3},
        {"num_attention_heads": 0},
        {"num_hidden_layers": [1]},
    ],
)
def test_impossible_architectures_are_refused(checkpoint, change):
    made = checkpoint("open-bert")
    base = made.config["base_model_config"] | change
    made.write(config=made.config | {"base_model_config": base})
    with pytest.raises(ValueError, match=r"config\.json is no configuration of bert: "):
        load_checkpoint(made.folder)


def test_an_architecture_of_another_size_is_refused_before_it_is_made(checkpoint):
    made = checkpoint("open-bert")
    base = made.config["base_model_config"] | {"vocab_size": 10**12}
    made.write(config=made.config | {"base_model_config": base})
    with pytest.raises(ValueError, match=r"1 of the wrong shape: .*word_embeddings.weight \(must"):
        load_checkpoint(made.folder)


def test_unknown_families_are_refused_by_name(checkpoint):
    made = checkpoint("open-bert")
    base = made.config["base_model_config"] | {"model_type": "qwen2"}
    made.write(config=made.config | {"base_model_config": base})
    with pytest.raises(ValueError, match=r"in \['bert', .*'xlm-roberta'\], got model_type 'qwen2'"):
        load_checkpoint(made.folder)


@pytest.mark.parametrize(
    ("layout", "field", "value"),
    [
        ("naver", "pooler_hidden_act", "relu"),
        ("open-modernbert", "classifier_activation", "silu"),
        ("open-modernbert", "classifier_pooling", "max"),
    ],
)
def test_heads_of_another_kind_are_refused(checkpoint, layout, field, value):
    made = checkpoint(layout)
    if layout == "naver":
        config = made.config | {field: value}
    else:
        base = made.config["base_model_config"] | {field: value}
        config = made.config | {"base_model_config": base}
    made.write(config=config)
    with pytest.raises(ValueError, match=f"(?s){field}.*{value}"):
        load_checkpoint(made.folder)


def test_a_configuration_without_a_nested_one_goes_by_names(checkpoint):
    made = checkpoint("zilliz")
    flat = made.config["base_model_config"] | {"model_type": "semantic_highlight"}
    made.write(config=flat)
    assert describe_checkpoint(made.folder).family == "xlm-roberta"
    assert load_checkpoint(made.folder).threshold == 0.5


def test_names_of_models_do_not_decide_where_tensors_do(checkpoint):
    made = checkpoint("naver")
    made.write(config=made.config | {"model_type": "Provence", "architectures": ["Provence"]})
    assert describe_checkpoint(made.folder).layout == "naver Provence"
    assert load_checkpoint(made.folder).threshold == 0.1


def test_a_highlighter_is_known_by_its_name_or_its_place_in_a_hub_cache(checkpoint):
    made = checkpoint("open-without-prefix")
    assert describe_checkpoint(made.folder).layout == "OpenProvence"
    made.write(config=made.config | {"_name_or_path": "zilliz/semantic-Highlight"})
    assert describe_checkpoint(made.folder).layout == "Zilliz semantic highlight"
    made.write(config=made.config)
    place = made.folder.parent / "models--zilliz--semantic-highlight-v1" / "snapshots" / "0a"
    place.parent.mkdir(parents=True)
    made.folder.rename(place)
    assert describe_checkpoint(place).layout == "Zilliz semantic highlight"


def test_a_tokenizer_without_its_file_or_roles_is_refused(checkpoint):
    made = checkpoint("open-bert")
    config = made.folder / "tokenizer_config.json"
    config.write_text('{"cls_token": {"content": "[CLS]"}, "pad_token": "[PAD]"}')
    (made.folder / "special_tokens_map.json").write_text('{"sep_token": "[SEP]"}')
    with pytest.raises(ModelNotFoundError, match=r"must state unk_token$"):
        load_checkpoint(made.folder)
    (made.folder / "tokenizer.json").unlink()
    with pytest.raises(ModelNotFoundError, match=r"holds no tokenizer\.json; save"):
        load_checkpoint(made.folder)
