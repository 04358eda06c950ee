"""The head that comes with the package: it loads, fits the default encoder, and beats cosine."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from pruners.cosine import CosineSentences
from pruners.features.head import SHIPPED, FeatureHead
from pruners.features.scorer import FeatureScorer
from rag.errors import ModelNotFoundError
from rag.evaluation.data import read_corpus
from rag.models import load_encoder
from rag.records import Passage, Query, Span

SHARED = Path(__file__).parents[4] / "shared" / "data"

# Question, and passages as (title, sentences); a sentence to keep begins with `*`.
CASES = [
    (
        "In which city was the director of The Glass Harbour born?",
        [
            (
                "The Glass Harbour",
                [
                    "*The Glass Harbour is a 1962 drama film directed by Ines Okafor.",
                    "It was shot in eleven weeks.",
                    "Critics praised its music and its long harbour scenes.",
                ],
            ),
            (
                "Ines Okafor",
                [
                    "*Ines Okafor (1921 - 1990) was a film director born in Porto.",
                    "She studied law before she turned to the stage.",
                    "Her last years were quiet.",
                ],
            ),
            (
                "Harbour (film)",
                [
                    "Harbour is a film about the city of Bergen.",
                    "Its director was born in the city that it shows.",
                ],
            ),
        ],
    ),
    (
        "When did the Larch Valley railway open?",
        [
            (
                "Larch Valley railway",
                [
                    "The Larch Valley railway is a narrow-gauge line in the north.",
                    "*The first trains ran on 4 May 1883.",
                    "It is known for a viaduct of nine arches.",
                    "Today it opens for visitors at weekends, as the railway is a museum.",
                ],
            )
        ],
    ),
    (
        "Are Mirabel Stone and Tomas Reyes both painters?",
        [
            (
                "Mirabel Stone",
                [
                    "*Mirabel Stone (born 1950) is a Canadian painter.",
                    "Her work hangs in Toronto.",
                    "She has two sons.",
                ],
            ),
            (
                "Tomas Reyes",
                [
                    "*Tomas Reyes was a Chilean painter and teacher.",
                    "He taught in Lima for ten years.",
                ],
            ),
            ("Stone (album)", ["Stone is an album by a band called The Painters."]),
        ],
    ),
    (
        "How many islands belong to the Selva group?",
        [
            (
                "Selva group",
                [
                    "The Selva group lies off the coast.",
                    "*There are fourteen of them, of which three are inhabited.",
                    "People of the islands live on fishing, and belong to one parish.",
                ],
            )
        ],
    ),
]


def passage(id_, title, sentences):
    texts = [sentence.removeprefix("*") for sentence in sentences]
    ends = list(itertools.accumulate(len(text) + 1 for text in texts))
    text = " ".join(texts)
    spans = [Span(start, end) for start, end in zip([0, *ends], [*ends[:-1], len(text)])]  # noqa: B905
    return Passage(id_, id_, text, Span(0, len(text)), tuple(spans), title=title)


def area(scores, gold):
    """Share of pairs of a gold sentence and another one that the scores order rightly."""
    scores, gold = np.array(scores), np.array(gold)
    above = scores[gold][:, None] - scores[~gold]
    return float((above > 0).mean() + (above == 0).mean() / 2)


def compression(scores, gold, lengths, recall=0.95):
    """Share of characters at or below the threshold that keeps `recall` of the gold sentences."""
    scores, gold, lengths = np.array(scores), np.array(gold), np.array(lengths)
    ordered = np.sort(scores[gold])[::-1]
    last = ordered[int(np.ceil(recall * len(ordered) - 1e-9)) - 1]
    return float(lengths[scores < last].sum() / lengths.sum())


@pytest.fixture(scope="module")
def minilm():
    try:
        return load_encoder()
    except ModelNotFoundError as error:
        pytest.skip(str(error))


def test_it_loads_and_says_how_it_was_made():
    head = FeatureHead.load()
    assert head.encoder == "minilm"
    assert len(head.encoder_fingerprint) == 64
    assert 0.0 < head.thresholds["0.98"] < head.threshold < head.thresholds["0.90"] < 1.0
    assert head.about["seed"] == 0
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 300_000


def test_its_card_names_recipe_data_and_licences():
    card = (SHIPPED / "README.md").read_text()
    for said in ("dovetail train pruner", "seed", "SHA-256", "CC BY-SA", "Apache-2.0", "comp@R95"):
        assert said in card


def test_it_orders_sentences_better_than_cosine_on_toy_cases(minilm):
    scorers = FeatureScorer(minilm, FeatureHead.load()), CosineSentences(minilm)
    areas = []
    for scorer in scorers:
        scores, gold = [], []
        for number, (question, shown) in enumerate(CASES):
            passages = [passage(f"{number}.{row}", *one) for row, one in enumerate(shown)]
            for found, (_, sentences) in zip(scorer(Query(question), passages), shown, strict=True):
                scores += found.sentences
                gold += [sentence.startswith("*") for sentence in sentences]
        areas.append(area(scores, gold))
    # The cases hold decoys: sentences with the question's words that do not answer it.
    assert areas[0] > 0.8
    assert areas[0] > areas[1] + 0.05


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "hotpotqa").is_dir(), reason="shared/data/hotpotqa is not here")
def test_it_prunes_ten_points_more_of_hotpotqa_than_cosine_at_equal_recall(minilm):
    corpus = {one.document: one for one in read_corpus(SHARED / "hotpotqa")}
    lines = (SHARED / "hotpotqa" / "queries.jsonl").read_text().splitlines()
    questions = [json.loads(line) for line in lines]
    scorers = FeatureScorer(minilm, FeatureHead.load()), CosineSentences(minilm)
    pruned = []
    for scorer in scorers:
        scores, gold, lengths = [], [], []
        for asked in questions[:25]:
            passages = [corpus[id_] for id_ in asked["context_ids"]]
            rows_of = {one["doc_id"]: one["sentence_ids"] for one in asked["supporting"]}
            found = scorer(Query(asked["question"]), passages)
            for of_passage, one in zip(found, passages, strict=True):
                scores += of_passage.sentences
                rows = rows_of.get(one.document, ())
                gold += [row in rows for row in range(len(one.sentences))]
                lengths += [len(span) for span in one.sentences]
        pruned.append(compression(scores, gold, lengths))
    assert pruned[0] > pruned[1] + 0.10
