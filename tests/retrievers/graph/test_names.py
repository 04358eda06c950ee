"""Names: what a passage is called and what a text mentions, by hand and by the definition."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.records import Passage, Span
from retrievers.graph.names import Names, defined_term, names_of, rarest_words, title_names
from retrievers.graph.words import is_capital, key, words

STOP_WORDS = frozenset({"the", "a", "an", "of", "is", "it", "there", "this"})


def passage(text="", title="", **metadata):
    return Passage("p", "d", text, Span(0, len(text)), (), title=title, metadata=metadata)


def called(text="", title="", **metadata):
    return names_of(passage(text, title, **metadata), STOP_WORDS)


def mentioned(text, *names):
    return Names(dict.fromkeys(names, (0,))).mentioned(text)


def mentioned_by_definition(text, names):
    """Read the rule literally for a text of plain words with spaces between."""
    said = text.split(" ") if text else []
    lower = text == text.lower()

    def says(first, last):
        span = said[first:last]
        named = " ".join(span).lower() in names
        return named and (any(w[0] != w[0].lower() for w in span) or (lower and len(span) > 1))

    spans = [(i, j) for i in range(len(said)) for j in range(i + 1, len(said) + 1) if says(i, j)]
    longest = [max(span for span in spans if span[0] == i) for i in {i for i, _ in spans}]
    taken, found = set(), []
    for first, last in sorted(longest):
        if first not in taken:
            taken |= set(range(first, last))
            found.append(" ".join(said[first:last]).lower())
    return sorted(set(found), key=found.index)


@pytest.mark.parametrize(
    ("title", "names"),
    [
        ("Ada Lovelace", ["ada lovelace"]),
        ("Engines > Analytical Engine > Mill", ["analytical engine", "engines", "mill"]),
        ("Kiss (band)", ["kiss", "kiss band"]),
        ("Song > Kiss (band) > Kiss (band) fan", ["kiss", "kiss band", "kiss band fan", "song"]),
        ("Kiss(band) ", ["kiss", "kiss band"]),
        ("(band)", ["band"]),
        ("Café Müller's", ["cafe muller"]),
        ("", []),
        (" > ", []),
        ("The > A > 1984 > X > ?", []),
        ("The Who > X Y > 1984 Redux", ["1984 redux", "the who", "x y"]),
        ("It (novel)", ["it novel"]),
        ("IT", []),
    ],
)  # fmt: skip
def test_title_and_headings_are_names_with_and_without_a_remark(title, names):
    assert called(title=title) == names
    assert title_names(title, STOP_WORDS) == set(names)


@pytest.mark.parametrize("number", ["3.14", "1,000", "3.11.2"])
def test_a_number_with_a_point_or_comma_is_no_name(number):
    assert called(title=number) == []


@pytest.mark.parametrize(
    ("aliases", "names"),
    [
        ("AAL", ["aal"]),
        ("AAL; Countess of Lovelace;;", ["aal", "countess of lovelace"]),
        ("AAL;aal; The ;7;B", ["aal"]),
        (1984, []),
    ],
)
def test_aliases_are_names_between_semicolons(aliases, names):
    assert called(aliases=aliases) == names
    assert called(alias=aliases) == []


@pytest.mark.parametrize(
    ("text", "term"),
    [
        ("Ada (born 1815) was a mathematician.", "Ada"),
        ("Ada is a language.", "Ada"),
        ("The Analytical Engine was a machine.", "Analytical Engine"),
        ("An Engine is a machine.", "Engine"),
        ("Charles Babbage, a man of many parts, was an engineer.", "Charles Babbage"),
        ("engines are machines.", ""),
        ("It is raining.", ""),
        ("There are many.", ""),
        ("Ada wrote. Babbage was there.", ""),
        ("Ada wrote", ""),
        ("", ""),
    ],
)  # fmt: skip
def test_the_first_sentence_may_define_a_term(text, term):
    found = defined_term(text, STOP_WORDS)
    assert found == term
    assert called(text) == ([" ".join(words(found).keys)] if term else [])


def test_a_term_of_more_than_eight_words_is_none_and_of_eight_is_one():
    eight = "Alpha beta gamma delta epsilon zeta eta theta"
    assert defined_term(f"{eight} are letters.", STOP_WORDS) == eight
    assert defined_term(f"{eight} iota are letters.", STOP_WORDS) == ""


def test_a_definition_stands_at_the_beginning():
    assert defined_term(f"Ada{' ' * 380}is here", STOP_WORDS) == "Ada"
    assert defined_term(f"Ada{' ' * 400}is here", STOP_WORDS) == ""


def test_names_of_all_sources_come_ascending_and_once():
    found = called("Ada (born 1815) was …", title="Lovelace > Ada (person)", aliases="Zed;ada")
    assert found == ["ada", "ada person", "lovelace", "zed"]


@pytest.mark.parametrize(
    ("word", "compared"),
    [
        ("Ada", "ada"),
        ("ADA", "ada"),
        ("Ada's", "ada"),
        ("Ada’s", "ada"),
        ("ADA'S", "ada"),
        ("s", "s"),
        ("its", "its"),
        ("O'Brien", "o'brien"),
        ("O’Brien", "o'brien"),
        ("Frédéric", "frederic"),
        ("Straße", "strasse"),
        ("İzmir", "izmir"),
        ("ﬁsh", "fish"),
        ("Москва", "москва"),
        ("東京", "東京"),
        ("２０", "20"),
    ],
)
def test_words_are_compared_without_case_accents_and_possessive(word, compared):
    assert key(word) == compared


def test_a_mathematical_letter_is_compared_without_case():
    assert key("𝐀𝐝𝐚") == "ada"


def test_a_decomposed_accent_is_part_of_its_word():
    assert words("Fre\u0301de\u0301ric").keys == words("Frédéric").keys == ["frederic"]


def test_words_tell_where_they_stand():
    text = "Ada's engine -- O’Brien, 東京; x_1!"
    found = words(text)
    assert found.raw == ["Ada's", "engine", "O’Brien", "東京", "x_1"]
    assert found.keys == ["ada", "engine", "o'brien", "東京", "x_1"]
    assert [text[a:b] for a, b in zip(found.starts, found.ends, strict=True)] == found.raw
    assert words("?! …") == ([], [], [], [])
    assert words("हिन्दी").raw == ["हिन्दी"]


@pytest.mark.parametrize(
    ("word", "capital"),
    [("Ada", True), ("ada", False), ("7", True), ("東京", True), ("é", False), ("_x", True)],
)
def test_a_word_may_be_a_name_unless_it_begins_in_lower_case(word, capital):
    assert is_capital(word) is capital


@pytest.mark.parametrize(
    ("text", "names", "found"),
    [
        ("Ada met Babbage.", ["ada", "babbage"], ["ada", "babbage"]),
        ("Babbage met Ada and Babbage.", ["ada", "babbage"], ["babbage", "ada"]),
        ("New York City", ["new york", "new york city", "york"], ["new york city"]),
        ("New York City", ["new york city", "new york", "new"], ["new york city"]),
        ("New York", ["new york", "york city", "york"], ["new york"]),
        ("New York City", ["new york", "york city", "city"], ["new york", "city"]),
        ("the New York Times", ["the new york times", "new york"], ["the new york times"]),
        ("in York", ["new york city", "york"], ["york"]),
        ("He reads It.", ["it"], ["it"]),
        ("He reads IT.", ["it"], ["it"]),
        ("He reads it.", ["it"], []),
        ("Analytical engine", ["analytical engine"], ["analytical engine"]),
        ("An analytical Engine", ["analytical engine"], ["analytical engine"]),
        ("An analytical engine", ["analytical engine"], []),
        ("an analytical engine", ["analytical engine"], ["analytical engine"]),
        ("what is ada", ["ada"], []),
        ("who met ada lovelace in 1984?", ["ada lovelace", "1984"], ["ada lovelace", "1984"]),
        ("Ada Lovelace's engine", ["ada lovelace"], ["ada lovelace"]),
        ("Ada’s friend", ["ada"], ["ada"]),
        ("FREDERIC CHOPIN", ["frederic chopin"], ["frederic chopin"]),
        ("Frédéric Chopin", ["frederic chopin"], ["frederic chopin"]),
        ("Я люблю Москву и Москва", ["москва"], ["москва"]),
        ("東京 是 大", ["東京"], ["東京"]),
        ("ada-lovelace, Ada-Lovelace", ["ada lovelace"], ["ada lovelace"]),
        ("", ["ada"], []),
        ("Ada", [], []),
    ],
)
def test_mentions_by_hand(text, names, found):
    assert mentioned(text, *names) == found
    assert Names(dict.fromkeys(names, (0,))).mentioned(words(text)) == found


@pytest.mark.parametrize("word", ["iPhone", "eBay", "macOS"])
def test_a_name_with_capitals_inside_is_not_in_lower_case(word):
    assert mentioned(f"The {word} sells.", word.lower()) == [word.lower()]


def test_a_sign_that_stands_for_several_words_hides_no_mention():
    sign = "\ufdfa"
    (name,) = called(title=f"Muhammad {sign}")
    assert mentioned(f"Muhammad {sign} and Ali Baba", name, "ali baba") == [name, "ali baba"]


VOCABULARY = st.sampled_from(["Ada", "ada", "Love", "love", "of"])
NAME = st.lists(st.sampled_from(["ada", "love", "of"]), min_size=1, max_size=4).map(" ".join)


@given(said=st.lists(VOCABULARY, max_size=9).map(" ".join), names=st.sets(NAME, max_size=6))
def test_mentions_match_the_definition(said, names):
    assert mentioned(said, *names) == mentioned_by_definition(said, names)


@given(said=st.lists(VOCABULARY, max_size=9).map(" ".join), names=st.sets(NAME, max_size=6))
def test_a_text_without_any_of_the_rarest_words_mentions_nothing(said, names):
    rarest = rarest_words(sorted(names))
    assert all(rarest & set(name.split(" ")) for name in names)
    if rarest.isdisjoint(words(said).keys):
        assert mentioned(said, *names) == []


@given(title=st.text(max_size=30), text=st.text(max_size=60))
def test_any_text_has_names_and_mentions(title, text):
    found = called(text, title)
    assert found == sorted(set(found))
    assert set(mentioned(text, *found)) <= set(found)


def test_names_know_their_rows():
    names = Names({"ada": [1, 4], "engine": [2]})
    assert names.rows("ada").tolist() == [1, 4]
    assert names.rows("ada").dtype == "int64"
    assert "ada" in names
    assert "Ada" not in names
    assert 7 not in names
    with pytest.raises(KeyError, match="babbage"):
        names.rows("babbage")
