"""Answering: retrieve, prune and generate wired over an index of notes and a tiny model."""

import dataclasses

import numpy as np
import pytest

from kvstore.store import KVStore
from pipelines.answering import Answering, AnsweringSession, AskOptions
from rag.errors import IndexFolderError, ModelNotFoundError
from rag.generation.decoding import Sampling
from rag.records import Answer, Query
from rag.tracing import Trace

QUESTION = "What is about apples?"


@pytest.fixture(scope="module")
def options(checkpoint):
    """Options that name a tiny checkpoint."""
    return AskOptions(model=str(checkpoint), dtype="float32", sampling=Sampling(max_tokens=8))


def test_a_question_is_answered_from_the_passages_that_were_retrieved(index, options):
    with AnsweringSession(index, options) as session:
        answer = session.ask(QUESTION)
        retrieved = session.answering.retrieve(Query(QUESTION))
    assert [p.id for p in answer.passages] == [p.id for p in retrieved]
    assert answer.passages[0].document == "notes/apples.md"
    assert all(p.kept is not None and p.score is not None for p in answer.passages)
    assert (answer.cache.hits, answer.cache.misses) == (0, 1 + _read(answer))
    assert (answer.mode, answer.model) == ("ape", options.model)
    assert answer.prompt.endswith(f"Question: {QUESTION}\nAnswer:")


def test_the_second_time_nothing_is_encoded_even_by_another_session(index, options):
    with AnsweringSession(index, options) as session:
        first, second = session.ask(QUESTION), session.ask(QUESTION)
    with AnsweringSession(index, options) as session:
        third = session.ask(QUESTION)
    assert (second.cache.misses, third.cache.misses) == (0, 0)
    assert second.cache.hits == third.cache.hits == first.cache.misses
    assert first.text == second.text == third.text
    assert set(third.cache.reasons.values()) == {"hit (disk)"}


def test_times_of_all_steps_and_their_total(index, options):
    with AnsweringSession(index, options) as session:
        times = session.ask(QUESTION).timings_ms
    assert set(times) == {"retrieve", "prune", "kv", "ttft", "decode", "total"}
    parts = times["retrieve"] + times["prune"] + times["ttft"] + times["decode"]
    assert parts <= times["total"] + 0.01
    assert 0 < times["kv"] <= times["ttft"]


def test_a_trace_tells_what_every_step_did(index, options):
    trace = Trace(question=QUESTION)
    with AnsweringSession(index, options) as session:
        answer = session.ask(QUESTION, trace)
    by_name = {}
    for record in trace.records:
        by_name.setdefault((record["kind"], record["name"]), []).append(record)
    assert [by_name["span", step][0]["wall_ms"] for step in ("retrieve", "prune", "generate")]
    (retrieved,) = by_name["event", "retrieved"]
    assert [p["id"] for p in retrieved["passages"]] == [p.id for p in answer.passages]
    pruned = {record["passage"]: record for record in by_name["event", "pruned"]}
    for passage in answer.passages:
        kept = [row for row, s in enumerate(pruned[passage.id]["sentences"]) if s["kept"]]
        assert tuple(kept) == passage.kept_rows
    assert by_name["event", "kv"][0]["misses"] == answer.cache.misses
    assert by_name["event", "prompt"][0]["text"] == answer.prompt
    assert by_name["event", "generated"][0]["tokens"] == answer.tokens.generated


def test_pieces_come_before_the_answer_and_make_it_up(index, options):
    with AnsweringSession(index, options) as session:
        *pieces, answer = session.answering.stream(Query(QUESTION))
    assert isinstance(answer, Answer)
    assert "".join(pieces).rstrip() == answer.text


def test_threshold_zero_reads_every_sentence(index, options):
    every = dataclasses.replace(options, threshold=0.0)
    with AnsweringSession(index, every) as session:
        answer = session.ask(QUESTION)
    assert all(len(p.kept_rows) == len(p.sentences) for p in answer.passages)


def test_without_a_pruner_passages_are_read_whole(index, options):
    with AnsweringSession(index, options) as session:
        wired = session.answering
        answer = Answering(wired.retrieve, None, wired.generate)(Query(QUESTION))
    assert all(p.kept is None for p in answer.passages)
    assert answer.timings_ms["prune"] >= 0


def test_fewer_passages_where_fewer_are_asked_for(index, options):
    with AnsweringSession(index, dataclasses.replace(options, top_k=1)) as session:
        assert len(session.ask(QUESTION).passages) == 1


def test_an_empty_question_is_refused(index, options):
    with (
        AnsweringSession(index, options) as session,
        pytest.raises(ValueError, match="question must not be empty"),
    ):
        session.ask(" ")


def test_another_writer_makes_the_session_read_only_with_a_note(index, options):
    with AnsweringSession(index, options) as session:
        expected = session.ask(QUESTION).text
    for file in (index / "kv").glob("*/*.safetensors"):
        file.unlink()
    with (
        KVStore(index / "kv", ram_bytes=0),
        AnsweringSession(index, options) as session,
    ):
        (note,) = session.notes
        assert "is being written by process" in note
        assert "new entries in RAM only" in note
        assert session.ask(QUESTION).text == expected
        assert session.ask(QUESTION).cache.misses == 0
    assert list((index / "kv").glob("*/*.safetensors")) == []


def test_closing_frees_the_store_and_twice_is_harmless(index, options):
    session = AnsweringSession(index, options)
    session.close()
    session.close()
    KVStore(index / "kv").close()


def test_an_index_of_another_encoder_is_refused(index, options, encoder):
    encoder.fingerprint = "e" * 64
    with pytest.raises(IndexFolderError, match="was made with encoder 'hash'"):
        AnsweringSession(index, options)


def test_an_unknown_model_is_refused_and_locks_nothing(index, options):
    with pytest.raises(ModelNotFoundError, match="nonesuch"):
        AnsweringSession(index, dataclasses.replace(options, model="nonesuch"))
    KVStore(index / "kv").close()


def test_a_session_that_could_not_be_made_locks_nothing(index, options):
    with pytest.raises(ValueError, match="top_k must be at least 1"):
        AnsweringSession(index, dataclasses.replace(options, top_k=0))
    with AnsweringSession(index, options) as session:
        assert session.notes == []


def test_vectors_of_retrieved_passages_are_the_encoders(index, options, encoder):
    with AnsweringSession(index, options) as session:
        passages = session.answering.retrieve(Query(QUESTION))
        vectors = session.answering.retrieve.vectors([p.id for p in passages])
    assert np.allclose(vectors, encoder.encode([p.searchable for p in passages]), atol=1e-3)


def _read(answer):
    return sum(bool(p.kept_rows) for p in answer.passages)
