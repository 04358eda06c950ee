"""Clips and videos: cuts by hand, a partition of any transcript, the definition read literally."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.corpus.clips import ClipChunker, VideoChunker, clock
from rag.corpus.loaders import subtitles
from rag.records import Cue, Document, Link, Span

FACTS = {"modality": "video", "duration_s": 1.0}


def talk(*cues, between=" "):
    """A transcript of cues (start_s, end_s, words)."""
    text, placed = "", []
    for start_s, end_s, words in cues:
        text += between * bool(text)
        placed.append(Cue(Span(len(text), len(text) + len(words)), start_s, end_s))
        text += words
    return Document("talks/a.srt", text, "A talk", metadata=FACTS, cues=tuple(placed))


def steady(*words, seconds=10):
    """Cues that follow each other at once."""
    return talk(*((seconds * n, seconds * n + seconds, each) for n, each in enumerate(words)))


def spans(passages):
    return [(p.metadata["start_s"], p.metadata["end_s"]) for p in passages]


def test_a_short_transcript_is_one_clip_and_one_video():
    document = talk((0.5, 3.0, "We begin. Then"), (61.2, 65.25, "we end."))
    for chunker, tag in ((ClipChunker(), "c0"), (VideoChunker(), "v0")):
        (passage,) = chunker(document)
        assert passage.id == f"talks/a.srt:{tag}"
        assert passage.document == passage.parent == "talks/a.srt"
        assert passage.text == document.text == "We begin. Then we end."
        assert passage.span == Span(0, 22)
        assert [s.of(passage.text) for s in passage.sentences] == ["We begin. ", "Then we end."]
        assert passage.title == "A talk > 00:00:00-00:01:06"
        assert passage.modality == "video"
        assert passage.metadata == {**FACTS, "start_s": 0.5, "end_s": 65.25}
        assert (passage.previous, passage.next, passage.page) == (None, None, None)


def test_a_clip_ends_at_the_longest_pause_in_its_second_half():
    document = talk(
        (0, 40, "One."), (50, 60, "Two."), (63, 70, "Three."), (75, 88, "Four."), (88, 150, "Five.")
    )  # fmt: skip
    assert spans(ClipChunker()(document)) == [(0, 40), (50, 88), (88, 150)]
    # A pause in the first half does not count, and one too short does not either.
    assert spans(ClipChunker(seconds=120)(document)) == [(0, 70), (75, 150)]
    assert spans(ClipChunker(seconds=120, pause=6)(document)) == [(0, 88), (88, 150)]


def test_without_a_pause_a_clip_ends_at_the_last_end_of_a_sentence():
    document = steady(
        "First ends.", "C", "d", "ends.", "Second ends.", "G", "h", "i", "j", "k", "l"
    )
    assert spans(ClipChunker(seconds=80)(document)) == [(0, 50), (50, 110)]


def test_without_the_end_of_a_sentence_a_clip_is_as_long_as_it_may_be():
    document = steady(*"abcdefghijk")
    assert spans(ClipChunker(seconds=40)(document)) == [(0, 40), (40, 80), (80, 110)]


def test_the_last_clip_is_not_a_scrap_where_that_can_be_avoided():
    assert spans(ClipChunker(seconds=40)(steady(*"abcdefghi"))) == [(0, 40), (40, 80), (80, 90)]
    assert spans(ClipChunker(seconds=40)(steady(*"abcde", seconds=9))) == [(0, 27), (27, 45)]


def test_a_cue_that_is_longer_than_a_clip_is_one_of_its_own():
    document = talk((0, 5, "a"), (5, 200, "b"), (200, 201, "c"))
    assert spans(ClipChunker(seconds=60)(document)) == [(0, 5), (5, 200), (200, 201)]
    assert spans(ClipChunker(seconds=60)(talk((0, 500, "a"), (1, 2, "b")))) == [(0, 500), (1, 2)]


def test_a_clip_ends_when_its_last_cue_to_end_does():
    assert spans(ClipChunker()(talk((0, 20, "a"), (5, 10, "b")))) == [(0, 20)]


def test_silence_is_measured_from_the_last_word_of_all_cues_before():
    document = talk((0, 58, "A."), (20, 30, "B."), (55, 60, "C."), (60, 80, "D."), (80, 130, "E."))
    # Between B (30) and C (55) somebody speaks: A, to 58.
    assert spans(ClipChunker(seconds=80, pause=1)(document)) == [(0, 80), (80, 130)]


def test_a_sentence_is_cut_where_a_clip_ends():
    passages = ClipChunker(seconds=40)(
        steady("We go", "on and", "on and", "on to", "Rome. Then", "home.")
    )
    assert [[s.of(p.text) for s in p.sentences] for p in passages] == [
        ["We go on and on and on to"],
        ["Rome. ", "Then home."],
    ]


def test_a_sentence_without_end_is_cut_between_cues():
    (passage,) = VideoChunker()(steady(*["seven words are in each cue here"] * 9))
    assert [len(s.of(passage.text).split()) for s in passage.sentences] == [28, 28, 7]
    (passage,) = VideoChunker()(steady("w " * 61, *["seven words are in each cue here"] * 2))
    assert [len(s.of(passage.text).split()) for s in passage.sentences] == [61, 14]
    (passage,) = VideoChunker()(steady("w " * 50, "w " * 10))
    assert len(passage.sentences) == 1


def test_neighbours_are_linked_and_numbered():
    passages = ClipChunker(seconds=20)(steady(*"abcdef"))
    ids = [f"talks/a.srt:c{n}" for n in range(3)]
    assert [p.id for p in passages] == ids
    assert [p.previous for p in passages] == [None, *ids[:-1]]
    assert [p.next for p in passages] == [*ids[1:], None]
    assert [p.title for p in passages] == [
        "A talk > 00:00:00-00:00:20", "A talk > 00:00:20-00:00:40", "A talk > 00:00:40-00:01:00"
    ]  # fmt: skip


def test_a_long_transcript_is_cut_at_the_ends_of_sentences():
    document = steady(
        "one two three.", "four five", "six. seven", "eight nine ten.", "Eleven two three"
    )
    texts = [p.text for p in VideoChunker(words=10)(document)]
    assert texts == ["one two three. four five six. seven eight nine ten.", "Eleven two three"]
    texts = [p.text for p in VideoChunker(words=9)(document)]
    assert texts == ["one two three. four five six. seven", "eight nine ten. Eleven two three"]
    assert spans(VideoChunker(words=9)(document)) == [(0, 30), (30, 50)]
    assert [p.id for p in VideoChunker(words=9)(document)] == ["talks/a.srt:v0", "talks/a.srt:v1"]


def test_links_go_to_the_clip_they_stand_in():
    document = steady("a b", "c d")
    document = Document(
        "d", document.text, "T", cues=document.cues, links=(Link(2, "x.md"), Link(4, "y.md"))
    )
    assert [p.links for p in ClipChunker(seconds=10)(document)] == [("x.md",), ("y.md",)]


def test_a_document_that_is_not_spoken_has_none():
    for chunker in (ClipChunker(), VideoChunker()):
        assert chunker(Document("d", "Text.", "T")) == []


def clips_by_definition(cues, seconds, pause, ends):
    """Read the docstring literally, with all cues in integers of seconds."""
    found, rest = [], list(range(len(cues)))
    while rest:
        fitting = [
            stop
            for stop in range(1, len(rest) + 1)
            if max(cues[r][1] for r in rest[:stop]) - cues[rest[0]][0] <= seconds
        ] or [1]
        stop = fitting[-1]
        if stop < len(rest):
            last_end = max(end for _, end in cues)
            allowed = [
                cut
                for cut in range(1, stop + 1)
                if cues[rest[cut]][0] >= cues[rest[0]][0] + seconds / 2
                and last_end - cues[rest[cut]][0] >= seconds / 4
            ]
            silence = {
                cut: cues[rest[cut]][0] - max(end for _, end in cues[: rest[cut]])
                for cut in allowed
            }
            pauses = [cut for cut in allowed if silence[cut] >= pause]
            sentences = [cut for cut in allowed if ends[rest[cut] - 1]]
            if pauses:
                longest = max(silence[cut] for cut in pauses)
                at_longest = [cut for cut in pauses if silence[cut] == longest]
                # Of equal pauses the one after a sentence, then the later.
                stop = max([cut for cut in at_longest if cut in sentences] or at_longest)
            elif sentences:
                stop = max(sentences)
            elif allowed:
                stop = max(allowed)
        found.append(rest[:stop])
        rest = rest[stop:]
    return found


CUES = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 25), st.booleans()), min_size=1, max_size=25
)


@given(CUES, st.integers(5, 60), st.integers(0, 6))
def test_clips_match_the_definition(steps, seconds, pause):
    starts = [sum(gap for gap, _, _ in steps[: n + 1]) for n in range(len(steps))]
    cues = [(start, start + length) for start, (_, length, _) in zip(starts, steps, strict=True)]
    ends = [ended for _, _, ended in steps]
    words = [f"Word{'.' if ended else ''}" for ended in ends]
    document = talk(*((a, b, word) for (a, b), word in zip(cues, words, strict=True)))
    passages = ClipChunker(seconds, pause)(document)
    rows = [
        [n for n, cue in enumerate(document.cues) if p.span.start <= cue.span.start < p.span.end]
        for p in passages
    ]
    assert rows == clips_by_definition(cues, seconds, pause, ends)


@given(CUES, st.integers(1, 9), st.sampled_from([" ", "\n", "\n\n"]))
def test_every_cue_is_in_one_passage_and_sentences_partition_it(steps, size, between):
    cues = [(3 * n, 3 * n + 3, "Word and. " * a + "more") for n, (a, _, _) in enumerate(steps)]
    document = talk(*cues, between=between)
    for chunker in (ClipChunker(seconds=5 * size), VideoChunker(words=size)):
        passages = chunker(document)
        assert [p.span.start for p in passages] == sorted({p.span.start for p in passages})
        held = [
            cue
            for p in passages
            for cue in document.cues
            if p.span.start <= cue.span.start and cue.span.end <= p.span.end
        ]
        assert held == list(document.cues)
        for passage in passages:
            assert passage.text == passage.span.of(document.text)
            assert "".join(s.of(passage.text) for s in passage.sentences) == passage.text
            assert all(a.end == b.start for a, b in pairwise(passage.sentences))
            assert all(len(s) for s in passage.sentences)


def test_no_part_of_a_video_has_more_words_than_it_may_but_a_cue_of_its_own():
    document = steady("w " * 6 + "w.", "w " * 30 + "w.", "w w w", "w w.", "w w w w w w")
    counts = [len(p.text.split()) for p in VideoChunker(words=10)(document)]
    assert counts == [7, 31, 5, 6]
    assert len(VideoChunker(words=49)(document)) == 1


def test_clips_lie_inside_videos():
    text = "\n\n".join(
        f"00:{n // 6:02}:{n % 6 * 10:02},000 --> 00:{n // 6:02}:{n % 6 * 10 + 9:02},000\n"
        f"Sentence {n} goes\n\n"
        for n in range(60)
    )
    document = subtitles.load_srt(text.encode(), "a.srt", "a")[0]
    (video,), clips = VideoChunker()(document), ClipChunker()(document)
    assert len(clips) == 7
    assert all(video.span.start <= c.span.start and c.span.end <= video.span.end for c in clips)


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0, "00:00:00"), (90.99, "00:01:30"), (360_061, "100:01:01")]
)
def test_a_clock(seconds, expected):
    assert clock(seconds) == expected


def test_fingerprints_tell_settings_apart():
    chunkers = [
        ClipChunker(), ClipChunker(60), ClipChunker(pause=1), VideoChunker(), VideoChunker(100)
    ]  # fmt: skip
    assert len({chunker.fingerprint for chunker in chunkers}) == 5
    assert ClipChunker(90).fingerprint == ClipChunker().fingerprint == "clips-1-seconds-90-pause-2"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ClipChunker(seconds=0), "seconds must be above 0 and finite, got 0"),
        (lambda: ClipChunker(seconds=float("nan")), "seconds must be above 0 and finite, got nan"),
        (lambda: ClipChunker(pause=-1), "pause must be at least 0 and finite, got -1"),
        (lambda: VideoChunker(words=0), "words must be at least 1, got 0"),
    ],
)
def test_numbers_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
