"""Pairs as tokens: exact ranges, whole-sentence blocks, caps, odd texts."""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruners.provence import pair_blocks

KINDS = ["pieces", "bytes", "spaces"]
odd = st.text(
    st.one_of(
        st.characters(),
        st.sampled_from("a .\r\n\u2028\x00\u0301\u200d👩‍🔬字ا\u00ad"),
    ),
    max_size=40,
)


def spelled(tokenizer, ids):
    return tokenizer.convert_ids_to_tokens(list(ids))


def test_hand_worked_pair(tokenizers, passage):
    tokenizer = tokenizers["pieces"]
    read = passage("Yield returns. ", "A program", title="The program")
    (block,) = pair_blocks(tokenizer, " yield values? ", read, window=96)
    assert spelled(tokenizer, block.ids) == [
        *("[CLS]", "yield", "values", "?", "[SEP]", "the", "program"),
        *("yield", "returns", ".", "a", "program", "[SEP]"),
    ]
    assert block.types == (0,) * 5 + (1,) * 8
    assert block.rows == (-1,) * 7 + (0,) * 3 + (1,) * 2 + (-1,)
    assert block.query_dropped == 0


@pytest.mark.parametrize("kind", KINDS)
def test_control_tokens_stand_where_the_tokenizer_puts_them(tokenizers, passage, kind):
    tokenizer = tokenizers[kind]
    (block,) = pair_blocks(tokenizer, "yield values", passage("the program returns"), window=96)
    whole = tokenizer("yield values", "the program returns", return_token_type_ids=True)
    assert list(block.ids) == whole["input_ids"]
    assert list(block.types) == whole["token_type_ids"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("title", ["", "a program"])
def test_pieces_joined_by_a_space_are_the_running_text(tokenizers, passage, kind, title):
    tokenizer = tokenizers[kind]
    read = passage("  the program\n", "returns values. ", "yield\r\n", title=title)
    (block,) = pair_blocks(tokenizer, "values", read, window=128)
    running = f"{title} the program returns values. yield".strip()
    assert list(block.ids) == tokenizer("values", running)["input_ids"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_sentence_with_text_has_no_leading_space(tokenizers, passage, kind):
    tokenizer = tokenizers[kind]
    (block,) = pair_blocks(tokenizer, "a", passage(" \n", "yield a", " "), window=96)
    assert list(block.ids) == tokenizer("a", "yield a")["input_ids"]
    assert set(block.rows) == {-1, 1}


def test_a_title_is_read_and_belongs_to_no_sentence(tokenizers, passage):
    tokenizer = tokenizers["pieces"]
    read = passage(*["yield returns values. "] * 12, title="the program")
    blocks = pair_blocks(tokenizer, "a", read, window=24, query_tokens=4, title_tokens=4)
    assert len(blocks) > 1
    for block in blocks:
        assert spelled(tokenizer, block.ids)[3:5] == ["the", "program"]
        assert block.rows[3:5] == (-1, -1)
    without = pair_blocks(tokenizer, "a", read, window=24, query_tokens=4, title_tokens=0)
    assert all("program" not in spelled(tokenizer, block.ids) for block in without)


def test_a_title_over_its_cap_is_cut(tokenizers, passage):
    read = passage("yield", title="the program returns values")
    (block,) = pair_blocks(tokenizers["pieces"], "a", read, window=64, title_tokens=2)
    assert spelled(tokenizers["pieces"], block.ids)[3:5] == ["the", "program"]
    assert len(block) == 3 + 1 + 2 + 1


def test_a_query_over_its_cap_is_cut_and_counted(tokenizers, passage):
    read = passage("yield")
    (block,) = pair_blocks(tokenizers["pieces"], "a " * 60, read, window=96, query_tokens=48)
    assert block.query_dropped == 12
    assert block.rows.index(0) == 50


def test_sentences_move_whole_to_the_next_block(tokenizers, passage):
    # Three control tokens and one of the query leave eight; sentences have three, three, four.
    read = passage("a a a ", "a a a ", "a a a a ", "a")
    blocks = pair_blocks(tokenizers["pieces"], "a", read, window=12, query_tokens=1, title_tokens=0)
    assert [[row for row in block.rows if row >= 0] for block in blocks] == [
        [0, 0, 0, 1, 1, 1],
        [2, 2, 2, 2, 3],
    ]


def test_a_sentence_over_a_block_is_cut_into_even_fragments_of_its_own(tokenizers, passage):
    read = passage("a ", "a " * 18, "a")
    blocks = pair_blocks(tokenizers["pieces"], "a", read, window=12, query_tokens=1, title_tokens=0)
    assert [[row for row in block.rows if row >= 0] for block in blocks] == [
        [0],
        [1] * 6,
        [1] * 6,
        [1] * 6,
        [2],
    ]


@given(
    sizes=st.lists(st.integers(0, 30), max_size=12), more=st.lists(st.integers(0, 30), max_size=6)
)
def test_blocks_hold_every_token_once_and_nothing_depends_on_what_follows(
    tokenizers, passage, sizes, more
):
    def blocks_of(lengths):
        read = passage(*("a " * size for size in lengths))
        return pair_blocks(
            tokenizers["pieces"], "a", read, window=16, query_tokens=2, title_tokens=0
        )

    blocks = blocks_of(sizes)
    rows = [row for block in blocks for row in block.rows if row >= 0]
    assert rows == [row for row, size in enumerate(sizes) for _ in range(size)]
    assert all(len(block) <= 16 for block in blocks)
    for row, size in enumerate(sizes):
        holding = sum(row in block.rows for block in blocks)
        assert holding == (-(-size // 12) if size > 12 else min(size, 1))
    assert blocks_of(sizes + more)[: max(0, len(blocks) - 1)] == blocks[:-1]


@pytest.mark.parametrize("kind", KINDS)
@given(texts=st.lists(odd, max_size=5), title=odd, query=odd)
def test_any_text_gives_ranges_of_its_own_sentence_alone(
    tokenizers, passage, kind, texts, title, query
):
    tokenizer = tokenizers[kind]
    blocks = pair_blocks(tokenizer, query, passage(*texts, title=title), window=128)
    found = [[] for _ in texts]
    for block in blocks:
        assert len(block.ids) == len(block.types) == len(block.rows) <= 128
        for id_, row in zip(block.ids, block.rows, strict=True):
            if row >= 0:
                found[row].append(id_)
    first = next((row for row, text in enumerate(texts) if text.strip()), None)
    for row, text in enumerate(texts):
        space = " " if row != first or title.strip() else ""
        clean = (space + text.strip()).encode("utf-8", "replace").decode()
        alone = tokenizer(clean, add_special_tokens=False)["input_ids"]
        assert found[row] == (alone if text.strip() else [])


@pytest.mark.parametrize("kind", KINDS)
def test_control_tokens_in_a_text_are_unknown(tokenizers, passage, kind):
    tokenizer = tokenizers[kind]
    read = passage("a [SEP] a", title="[CLS]")
    (block,) = pair_blocks(tokenizer, "[SEP]", read, window=128)
    plain = tokenizer("a", "a")["input_ids"]
    for control in (2, 3):
        assert block.ids.count(control) == plain.count(control)
    assert block.ids.count(1) == 3


def test_without_an_unknown_token_control_tokens_in_a_text_are_left_out(tokenizers, passage):
    tokenizer = copy.deepcopy(tokenizers["bytes"])
    tokenizer.unk_token = None
    (block,) = pair_blocks(tokenizer, "a[SEP]", passage("a[CLS][PAD]"), window=128)
    assert list(block.ids) == tokenizer("a", "a")["input_ids"]


def test_lone_surrogates_are_read_as_a_question_mark(tokenizers, passage):
    tokenizer = tokenizers["pieces"]
    (block,) = pair_blocks(tokenizer, "\ud800", passage("a \udfff", title="\ud800"), window=96)
    assert spelled(tokenizer, block.ids) == ["[CLS]", "?", "[SEP]", "?", "a", "?", "[SEP]"]


@pytest.mark.parametrize("texts", [(), ("",), (" \n",), ("\x00",)])
def test_without_tokens_there_is_no_block(tokenizers, passage, texts):
    assert pair_blocks(tokenizers["pieces"], "a", passage(*texts, title="a")) == []


def test_a_window_without_room_for_the_passage_is_refused(tokenizers, passage):
    message = (
        r"window must be at least 84: 3 control tokens, query_tokens 48, title_tokens 32 .* got 83"
    )
    with pytest.raises(ValueError, match=message):
        pair_blocks(tokenizers["pieces"], "a", passage("a"), window=83)
    assert len(pair_blocks(tokenizers["pieces"], "a", passage("a"), window=84)) == 1


def test_negative_caps_are_refused(tokenizers, passage):
    with pytest.raises(ValueError, match=r"must be at least 0, got -1 and 32"):
        pair_blocks(tokenizers["pieces"], "a", passage("a"), query_tokens=-1)


def test_verbatim_reads_white_space_as_it_stands(tokenizers, passage):
    tokenizer = tokenizers["bytes"]
    read = passage(" the\n", "a  b. ", "c", title=" a program ")
    (block,) = pair_blocks(tokenizer, "a", read, window=96, verbatim=True)

    def text(block, *rows):
        ids = [id_ for id_, row in zip(block.ids, block.rows, strict=True) if row in rows]
        read = "".join(tokenizer.convert_ids_to_tokens(ids))
        return read.replace("Ġ", " ").replace("Ċ", "\n")

    assert [text(block, row) for row in range(3)] == [" the\n", "a  b. ", "c"]
    assert text(block, -1) == "[CLS]a[SEP]a program\n[SEP]"
    (spaced,) = pair_blocks(tokenizer, "a", read, window=96)
    assert text(spaced, -1, 0, 1, 2) == "[CLS]a[SEP]a program the a  b. c[SEP]"
