"""Subtitles: times and markup of both formats, sentences over cues, speakers, roll-up, errors."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.corpus.loaders import subtitles
from rag.errors import CorpusError
from rag.text.sentences import split_sentences


def srt(text):
    return subtitles.load_srt(text.encode(), "talks/a.srt", "a")[0]


def vtt(text):
    return subtitles.load_vtt(text.encode(), "talks/a.vtt", "a")[0]


def cued(*words, gap=0.0):
    """A WebVTT file of cues of two seconds each, `gap` seconds apart."""
    times = [(n * (2 + gap), n * (2 + gap) + 2) for n in range(len(words))]
    return "WEBVTT\n\n" + "\n\n".join(
        f"{a // 60:02.0f}:{a % 60:06.3f} --> {b // 60:02.0f}:{b % 60:06.3f}\n{each}"
        for (a, b), each in zip(times, words, strict=True)
    )


def said(document):
    return [cue.span.of(document.text) for cue in document.cues]


def times(document):
    return [(cue.start_s, cue.end_s) for cue in document.cues]


def sentences(document):
    return [span.of(document.text).strip() for span in split_sentences(document.text)]


def test_a_file_by_hand():
    document = srt(
        "1\n00:00:01,500 --> 00:00:04,000\nClocks tell the time\nin every room.\n\n"
        "2\n00:00:04,100 --> 00:00:06,000\nSome of them\n\n"
        "3\n01:00:06,000 --> 01:00:08,250\nare wrong.\n"
    )
    assert document.id == "talks/a.srt"
    assert document.title == "a"
    assert document.text == "Clocks tell the time in every room.\nSome of them are wrong."
    assert said(document) == ["Clocks tell the time in every room.", "Some of them", "are wrong."]
    assert times(document) == [(1.5, 4.0), (4.1, 6.0), (3606.0, 3608.25)]
    assert document.metadata == {"modality": "video", "duration_s": 3608.25, "encoding": "utf-8"}


def test_a_sentence_that_runs_over_cues_is_one_sentence():
    document = vtt(cued("We start with", "Mr.", "Huber. Then we", "go on to Rome! And", "stop?"))
    assert sentences(document) == [
        "We start with Mr.\nHuber.", "Then we go on to Rome!", "And stop?"
    ]  # fmt: skip


def test_the_end_of_a_sentence_is_a_line_feed_and_else_a_space():
    document = vtt(cued("One.", "two", "three?”", "four…", "five"))
    assert document.text == "One.\ntwo three?”\nfour…\nfive"


@pytest.mark.parametrize("load", [subtitles.load_srt, subtitles.load_vtt])
def test_marks_line_ends_and_both_signs_before_milliseconds(load):
    text = "\ufeff1\r\n00:00:01,5 --> 00:00:02.25\r\nOne.\r\n\r\n00:03 --> 0:00:04.000\r\nTwo.\r\n"
    document = load(text.encode(), "a", "a")[0]
    assert times(document) == [(1.5, 2.25), (3.0, 4.0)]
    assert document.text == "One.\nTwo."
    assert document.metadata["encoding"] == "utf-8-sig"
    wide = load(text.encode("utf-16"), "a", "a")[0]
    assert (wide.text, wide.metadata["encoding"]) == (document.text, "utf-16")


def test_counters_may_be_missing_and_numbers_may_be_said():
    document = srt(
        "00:00:01,000 --> 00:00:02,000\n42\n\n00:00:02,000 --> 00:00:03,000\nThe year was\n\n1872\n"
        "3\n00:00:03,000 --> 00:00:04,000\nTwo.\n\n 4 \n\n00:00:05,000 --> 00:00:06,000\n7"
    )
    assert said(document) == ["42", "The year was 1872", "Two.", "7"]
    assert said(srt("1\n00:00:01,000 --> 00:00:02,000\nOne.\n\n2\n")) == ["One."]


def test_blank_lines_between_all_lines():
    text = (
        "1\n\n00:00:01,000 --> 00:00:02,000\n\nOne.\n\n2\n\n00:00:02,000 --> 00:00:03,000\n\nTwo."
    )
    assert said(srt(text)) == ["One.", "Two."]


def test_webvtt_header_comments_styles_regions_ids_and_settings():
    document = vtt(
        "WEBVTT - A talk\nKind: captions\nLanguage: en\n\n"
        "STYLE\n::cue { color: red }\n\nREGION\nid:fred\nwidth:40%\n\n"
        "NOTE checked by Bo\n\nNOTE\n00:00.000 --> 00:09.000\nnot said\n\n"
        "intro\n00:01.000 --> 00:02.000 align:start position:0% line:85%\nOne.\n\nnot said either\n\n"
        "NOTES\n12:00:02.000 --> 12:00:03.000\nTwo.\n00:00:04.000 --> 00:00:05.000\nThree."
    )
    assert said(document) == ["One.", "Three.", "Two."]
    assert times(document)[2] == (43202.0, 43203.0)


def test_an_srt_file_that_says_it_is_webvtt_is_read_as_that():
    assert said(srt("WEBVTT\n\n00:01.000 --> 00:02.000\nOne.\n\nNOTE later\n")) == ["One."]


def test_markup_goes_and_what_only_looks_like_it_stays():
    document = vtt(
        cued(
            '{\\an8}<i>So</i> <c.yellow.bg_blue>we</c> <font color="red">said</font>',
            "<00:00:02.500>a < b<br/>&amp;&nbsp;&lt;i&gt; is\u200e x<y> &unknown; AT&T &copyme",
        )
    )
    assert said(document) == ["So we said", "a < b & <i> is x<y> &unknown; AT&T &copyme"]


def test_a_voice_is_named_where_its_turn_begins():
    document = vtt(
        cued(
            "<v Ann>We see",
            "<v.loud\tAnn>two clocks",
            "here.</v>",
            "<v Bob Lee>Three!",
            "<v Ann>Two.",
        )
    )
    assert document.text == "Ann: We see two clocks here.\n\nBob Lee: Three!\n\nAnn: Two."
    assert sentences(document) == ["Ann: We see two clocks here.", "Bob Lee: Three!", "Ann: Two."]


def test_a_cue_without_a_voice_does_not_end_a_turn():
    assert vtt(cued("<v Ann>We see", "two", "<v Ann>clocks.")).text == "Ann: We see two clocks."


def test_voices_inside_a_cue_are_turns():
    document = vtt(cued("<v Ann>Yes</v> <v Bob>no", "maybe</v>"))
    assert document.text == "Ann: Yes\n\nBob: no maybe"
    assert said(document) == ["Ann: Yes\n\nBob: no", "maybe"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("And then", "- No"),
        ("And then", "-No"),
        ("And then", "ANN LEE: No"),
        ("And then", "VOICE 2: No"),
    ],
)
def test_dashes_and_capital_names_begin_turns(first, second):
    assert vtt(cued("It is.", first, second)).text == f"It is.\n{first}\n\n{second}"


def test_arrows_begin_turns_and_are_not_kept():
    assert vtt(cued("It is.", "&gt;&gt; And then", ">>> No")).text == "It is.\n\nAnd then\n\nNo"


@pytest.mark.parametrize("second", ["-5 degrees", "Note: this", "at 10:30", "TO BE OR NOT TO: no"])
def test_what_is_no_turn_goes_on_with_the_sentence(second):
    assert vtt(cued("It is.", "And then", second)).text == f"It is.\nAnd then {second}"


def test_sounds_stand_apart_between_sentences_and_not_inside_one():
    document = vtt(
        cued("[Music]", "We wind", "(ticking)", "the clock.", "♪ chime ♪", "[laughs] Good.")
    )
    assert document.text == (
        "[Music]\n\nWe wind (ticking) the clock.\n\n♪ chime ♪\n\n[laughs] Good."
    )
    assert sentences(document)[:2] == ["[Music]", "We wind (ticking) the clock."]


def test_without_punctuation_pauses_and_sounds_end_sentences():
    words = ["so we start", "[Music]", "with a clock"]
    assert vtt(cued(*words)).text == "so we start\n\n[Music]\n\nwith a clock"
    assert vtt(cued("so we start", "with a clock", gap=0.9)).text == "so we start with a clock"
    assert vtt(cued("so we start", "with a clock", gap=1)).text == "so we start\n\nwith a clock"
    assert vtt(cued("so we start", "with a clock.", gap=1)).text == "so we start with a clock."


def test_scripts_without_spaces_are_joined_without_one():
    assert (
        vtt(cued("時計は", "古い。", "でも good", "です。")).text
        == "時計は古い。\nでも good です。"
    )


def test_captions_that_roll_up_say_each_line_once():
    document = vtt(
        cued("one fish", "one fish\ntwo fish", "two fish\nred fish.", "red fish.\nblue fish.")
    )
    assert said(document) == ["one fish", "two fish", "red fish.", "blue fish."]
    assert [start for start, _ in times(document)] == [0, 2, 4, 6]


def test_captions_that_roll_up_word_by_word_say_each_line_once():
    document = vtt(
        "WEBVTT\n\n00:00.000 --> 00:02.000 align:start\n \nso<00:00.500><c> we</c>\n\n"
        "00:02.000 --> 00:02.010\nso we\n \n\n00:02.010 --> 00:04.000\nso we\nbegin<c> now</c>\n\n"
        "00:04.000 --> 00:04.010\nbegin now\n \n\n00:09.000 --> 00:10.000\nbegin now\n"
    )
    assert said(document) == ["so we", "begin now", "begin now"]
    assert times(document) == [(0, 2), (2.01, 4), (9, 10)]


def test_what_is_said_twice_stays_where_captions_do_not_roll_up():
    assert said(vtt(cued("No.", "No.", "No.\nYes."))) == ["No.", "Yes."]
    song = ["La la", "La la", "Oh\nyes", "Oh\nno", "Ah\nno", "no\nAh"]
    assert said(vtt(cued(*song))) == ["La la", "La la", "Oh yes", "Oh no", "Ah no", "no Ah"]


def test_cues_are_in_order_of_time_and_may_overlap_or_be_empty():
    document = srt(
        "1\n00:00:09,000 --> 00:00:10,000\nThree.\n\n2\n00:00:01,000 --> 00:00:08,000\nOne.\n\n"
        "3\n00:00:02,000 --> 00:00:02,000\nTwo.\n\n4\n00:00:01,000 --> 00:00:01,500\nAnd.\n\n"
        "5\n00:00:11,000 --> 00:00:12,000\n<i> </i>\n\n"
    )
    assert said(document) == ["One.", "And.", "Two.", "Three."]
    assert times(document) == [(1, 8), (1, 1.5), (2, 2), (9, 10)]
    assert document.metadata["duration_s"] == 10


def test_an_arrow_may_be_said():
    assert said(srt("1\n00:00:01,000 --> 00:00:02,000\nfrom A --> B\n")) == ["from A --> B"]


@pytest.mark.parametrize("load", [subtitles.load_srt, subtitles.load_vtt])
def test_errors_name_the_line(load):
    with pytest.raises(
        CorpusError, match=r"line 4: a cue must not end before it starts, got '00:0"
    ):
        load(b"WEBVTT\n\n1\n00:00:02.000 --> 00:00:01.999\nOne.\n", "a", "a")
    for broken in ("1:2:3:4 --> 00:00:05", "00:00:01,000 --> 00:00:0x", "-00:01 --> 00:02"):
        with pytest.raises(CorpusError, match="line 2: times must be like 00:01"):
            load(f"1\n{broken}\nOne.".encode(), "a", "a")
    with pytest.raises(CorpusError, match="binary content"):
        load(b"\0\0", "a", "a")


@pytest.mark.parametrize(
    "text", ["", "WEBVTT\n", "Just a text.\n", "1\n00:00:01,000 --> 00:00:02,000\n\n", "a --> b"]
)
def test_a_file_without_words_in_a_cue_is_refused(text):
    for load in (subtitles.load_srt, subtitles.load_vtt):
        with pytest.raises(CorpusError, match="holds no cue with words"):
            load(text.encode(), "a", "a")


WORDS = st.text("ab .?[]()-<>:&;♪\n水0", min_size=1, max_size=24)


@given(
    st.lists(
        st.tuples(st.integers(0, 99_000), st.integers(0, 9_000), WORDS), min_size=1, max_size=8
    )
)
def test_cues_partition_any_transcript_in_order(cues):
    def time(ms):
        return f"00:{ms // 60_000:02}:{ms // 1000 % 60:02}.{ms % 1000:03}"

    text = "\n\n".join(f"{time(a)} --> {time(a + b)}\n{words}" for a, b, words in cues)
    try:
        document = vtt("WEBVTT\n\n" + text)
    except CorpusError as error:
        assert "no cue with words" in str(error)  # noqa: PT017
        return
    covered = 0
    for cue in document.cues:
        assert document.text[covered : cue.span.start] in {"", " ", "\n", "\n\n"}
        assert cue.span.of(document.text).strip()
        covered = cue.span.end
    assert covered == len(document.text)
    starts = [cue.start_s for cue in document.cues]
    assert starts == sorted(starts)
    assert document.metadata["duration_s"] <= max(a + b for a, b, _ in cues) / 1000
