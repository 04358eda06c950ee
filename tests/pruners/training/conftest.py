"""A tiny random trunk in a folder, labelled passages to learn, and a prior that knows a little."""

import json

import pytest

from pruners.training.labelled import LabelledPassage
from rag.records import PassageScores

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
TOPICS = "apple river stone cloud music paper horse winter garden silver bridge candle".split()  # noqa: SIM905


def write_trunk(folder, *, hidden=32, seed=0):
    """Write a BERT of two layers that reads letters and the words of `TOPICS`."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    letters = [chr(code) for code in range(33, 127)]
    pieces = [*SPECIAL, *TOPICS, "what", "of", "the", "is", "old", *letters]
    pieces += [f"##{one}" for one in letters]
    vocabulary = {piece: id_ for id_, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    named = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token"), SPECIAL, strict=True))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named).save_pretrained(folder)
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=hidden,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=2 * hidden,
        max_position_embeddings=256,
        pad_token_id=0,
    )
    model = BertModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.2)
    model.save_pretrained(folder)
    return folder


def labelled(count, *, first=0):
    """Passages of three sentences of which the one that names the question's topic is gold.

    Every fourth passage does not help.
    """
    made = []
    for n in range(first, first + count):
        topic = TOPICS[n % len(TOPICS)]
        others = [TOPICS[(n + step) % len(TOPICS)] for step in (3, 5, 7)]
        sentences = [f"the {other} is old {n}." for other in others]
        helps = n % 4 != 3
        if helps:
            sentences[n % 3] = f"the {topic} is old {n}."
        made.append(
            LabelledPassage(
                f"p{n:03}",
                "topics",
                f"what is of the {topic} {n}?",
                f"{topic} {n}" if helps else "",
                tuple(sentences),
                frozenset({n % 3} if helps else ()),
            )
        )
    return made


def write_labelled(path, examples):
    rows = [
        {
            "id": one.id,
            "source": one.source,
            "question": one.question,
            "title": one.title,
            "sentences": one.sentences,
            "gold": sorted(one.gold),
            "answers": one.answers,
        }
        for one in examples
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


class LengthPrior:
    """Scores a sentence by its length alone: deterministic, cheap, and of little use."""

    name = "length"
    fingerprint = "1" * 64

    def __init__(self):
        self.calls = 0

    def __call__(self, query, passages):
        self.calls += 1
        return [
            PassageScores(tuple(min(0.9, 0.1 + len(span) / 100) for span in one.sentences))
            for one in passages
        ]


@pytest.fixture(scope="session")
def trunk_folder(tmp_path_factory):
    return write_trunk(tmp_path_factory.mktemp("trunk"))


@pytest.fixture
def fresh_trunk(trunk_folder):
    """Return a function () -> trunk, read anew, as training changes it."""
    from pruners.provence.trunk import load_trunk

    return lambda: load_trunk(str(trunk_folder))


@pytest.fixture
def prior():
    return LengthPrior()


@pytest.fixture
def examples():
    """Return `labelled`: a function (count, first) -> labelled passages."""
    return labelled


@pytest.fixture
def write_rows():
    """Return `write_labelled`: a function (path, examples) -> path."""
    return write_labelled
