"""The analyser: English as `terms` has it, each language's inflections, and what must not break."""

import hashlib
import sys
import threading
import unicodedata
from collections import Counter
from dataclasses import FrozenInstanceError, replace
from importlib import resources

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag.errors import MissingExtraError
from rag.text import analyser as module
from rag.text.analyser import LANGUAGES, Analyser
from rag.text.terms import STOP_WORDS, query_terms, terms

LISTED = ("da", "de", "en", "es", "fi", "fr", "it", "nl", "no", "pt", "ru", "sv")
WORDS = st.sampled_from(
    ["The", "cats", "hopping", "don't", "King’s", "sys.exit", "__enter__", "3.11", "straße", "ﬁle",
     "東京タワー", "Tokyo塔", "हिन्दी", "cafe\u0301", "\ud800", "___", "a.b_c", "İ", "who", "is"]
)  # fmt: skip
MIXED = st.lists(WORDS | st.text(max_size=5), max_size=12).map(" ".join)


@pytest.fixture
def snowball():
    return pytest.importorskip("Stemmer")


def test_english_by_hand():
    english = Analyser()
    text = "Who said it's the King's sys.exit in 3.11, hopping?"
    found = [
        "who", "said", "it", "the", "king", "sys.exit", "sy", "exit", "in", "3.11", "hop",
    ]  # fmt: skip
    assert english.terms(text) == found
    assert english.query_terms(text) == ["said", "king", "sys.exit", "sy", "exit", "3.11", "hop"]


@settings(deadline=None)
@given(MIXED, st.lists(WORDS).map(" ".join))
def test_english_is_what_terms_and_query_terms_give(text, words):
    assert Analyser().terms(text) == terms(text)
    assert Analyser().terms(words) == terms(words)
    assert Analyser().query_terms(words) == query_terms(words)


def test_case_is_folded_in_ascii_and_beyond():
    assert Analyser().terms("straße STRASSE Ärger ÄRGER CATS ﬁle") == [
        "strass", "strass", "ärger", "ärger", "cat", "file",
    ]  # fmt: skip


def test_a_repeated_term_weighs_more_and_the_order_is_kept():
    weights = Analyser().query_weights("What hops, the hopping cat or the cats that hop?")
    assert weights == {"hop": 3.0, "cat": 2.0}
    assert list(weights) == ["hop", "cat"]
    assert Analyser().query_weights(" ?!") == {}


@settings(deadline=None)
@given(MIXED, st.sampled_from(["en", "none", "de", "fr", "tr", "ru", "it"]))
def test_a_question_asks_for_terms_of_its_text(text, language):
    if language not in {"en", "none"}:
        pytest.importorskip("Stemmer")
    analyser = Analyser(language)
    found, asked = analyser.terms(text), analyser.query_terms(text)
    assert Counter(asked) <= Counter(found)
    assert bool(asked) == bool(found)
    assert "" not in found
    assert analyser.query_weights(text) == Counter(asked)


@pytest.mark.parametrize(
    ("language", "family"),
    [
        ("de", "Haus Hauses HÄUSER"), ("fr", "cheval chevaux"), ("es", "libro libros"),
        ("it", "gatto gatti"), ("pt", "cidade cidades"), ("nl", "boek boeken"),
        ("sv", "bil bilar bilarna"), ("da", "bøger bøgerne"), ("no", "bil biler bilene"),
        ("fi", "talon talossa taloissa"), ("ru", "книга книги КНИГАМИ"), ("tr", "kızlar KIZLAR"),
        ("el", "σκύλος ΣΚΎΛΟΣ σκύλοι"), ("hi", "किताब किताबें"), ("hu", "ház házak"),
        ("pl", "kot koty"), ("sr", "књига књиге"), ("ar", "كتاب الكتاب"),
    ],
)  # fmt: skip
def test_inflections_share_a_stem(snowball, language, family):
    assert len(set(Analyser(language).terms(family))) == 1


@pytest.mark.parametrize("language", sorted(LANGUAGES))
def test_every_language_answers_to_its_code_and_its_name(snowball, language):
    named = Analyser(LANGUAGES[language].title())
    assert named == Analyser(language)
    assert named.language == language
    assert named.terms("\ud800") == []
    assert named.terms("sys.exit 3.11")[0] == "sys.exit"
    assert named.terms("sys.exit 3.11")[-1] == "3.11"


def test_all_languages_of_snowball_are_offered(snowball):
    assert set(snowball.algorithms()) - {"porter", "dutch_porter"} == set(LANGUAGES.values())


@pytest.mark.parametrize("language", sorted(set(LANGUAGES) - {"hy", "ga", "st", "eo"}))
def test_words_are_stemmed_as_snowball_stems_them(snowball, language):
    reference = snowball.Stemmer(LANGUAGES[language])
    words = sorted(Analyser(language).stop_words) or ["kitap", "domy", "книга"]
    stems = [reference.stemWord(word) or word for word in words]
    assert Analyser(language, "snowball").terms(" ".join(words)) == stems


def test_snowball_english_cuts_derivations(snowball):
    text = "national organisations generate"
    assert Analyser("en", "snowball").terms(text) == ["nation", "organis", "generat"]
    assert Analyser("en").terms(text) == ["national", "organisation", "generat"]
    assert Analyser("en", "snowball").query_terms("the nation") == ["nation"]


def test_a_stem_is_never_empty_and_words_with_a_digit_stay(snowball):
    assert snowball.Stemmer("nepali").stemWord("का") == ""
    assert Analyser("ne").terms("का") == ["का"]
    assert snowball.Stemmer("english").stemWord("a4s") == "a4"
    assert Analyser("en", "snowball").terms("a4s") == ["a4s"]


def test_none_neither_stems_nor_drops():
    plain = Analyser("none")
    assert plain.query_terms("What were the Cats' 東京都") == [
        "what", "were", "the", "cats", "東京", "京都",
    ]  # fmt: skip
    assert plain == Analyser("NONE", "none")
    assert Analyser("en", "none").query_terms("the cats") == ["cats"]
    assert Analyser("de", "none").query_terms("die Häuser") == ["häuser"]


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("fr", "L’homme qu'aujourd'hui", ["l", "homm", "qu", "aujourdhui"]),
        ("it", "dell'amico", ["dell", "amic"]),
        ("ca", "l'home", ["l", "hom"]),
        ("ga", "d'ól", ["d", "ól"]),
        ("tr", "İSTANBUL'da", ["istanbul"]),
        ("nl", "foto's", ["foto"]),
        ("de", "geht's Straße", ["geht", "strass"]),
        ("de", "covid19 日本Häuser", ["covid19", "日本", "haus"]),
    ],
)
def test_apostrophes_and_scripts_are_a_language_s_own(snowball, language, text, expected):
    assert Analyser(language).terms(text) == expected


def test_a_question_in_french_drops_what_was_elided(snowball):
    assert Analyser("fr").query_terms("Qu'est-ce que l'homme ?") == ["homm"]


@pytest.mark.parametrize("language", LISTED)
def test_stop_words_are_spelt_as_the_tokens_they_are_compared_with(language):
    words = module._stop_words(language)
    assert len(words) >= 60
    assert all(module._tokens(word, language) == [word] for word in words)
    file = resources.files("rag.text") / "stop_words" / f"{language}.txt"
    first, *lines = file.read_text("utf-8").splitlines()
    assert first.startswith("# Stop words of ")
    assert lines == sorted(set(lines))
    assert {unicodedata.normalize("NFC", line) for line in lines} == words


def test_the_list_of_english_is_that_of_terms():
    assert Analyser().stop_words == STOP_WORDS


def test_a_language_without_a_list_drops_nothing(snowball):
    assert Analyser("pl").stop_words == frozenset()
    assert Analyser("pl").query_terms("i koty") == Analyser("pl").terms("i koty")


def test_fingerprints_differ_where_terms_may(snowball, monkeypatch):
    made = [Analyser(code) for code in LANGUAGES]
    made += [Analyser("none"), Analyser("en", "snowball"), Analyser("en", "none")]
    assert len({one.fingerprint for one in made}) == len(made)
    assert Analyser("german").fingerprint == Analyser("de").fingerprint
    english, german = Analyser().fingerprint, Analyser("de").fingerprint
    monkeypatch.setattr(module, "_snowball_version", lambda: "0")
    assert Analyser("de").fingerprint != german
    assert Analyser().fingerprint == english
    monkeypatch.setattr(module, "_stop_words", lambda language: frozenset({"x"}))
    assert Analyser().fingerprint != english
    monkeypatch.undo()
    monkeypatch.setattr(module, "_RULES", 0)
    assert Analyser().fingerprint != english


def test_the_rules_of_english_change_only_with_their_number():
    text = "The king's sys.exit and __enter__ in 3.11: hopping 東京タワー, naïve STRASSE ﬁles"
    digest = hashlib.sha256(" ".join(Analyser().terms(text)).encode()).hexdigest()[:8]
    assert (module._RULES, digest) == (1, "42c6bca9")


def test_nothing_gives_nothing():
    for text in ("", " \n", "?!", "___", "\ud800\udfff"):
        assert Analyser().terms(text) == Analyser().query_terms(text) == []


def test_long_runs_of_letters_are_neither_stemmed_nor_kept():
    for run in ("a" * 200_000 + "e", "ab" * 100_000 + "ing", "x." * 50_000 + "x"):
        assert Analyser().terms(run)[0] == run
        assert run not in module._words("en", "inflections")
    assert len(Analyser().terms("hopping " * 200_000)) == 200_000


def test_the_cache_is_bounded_and_does_not_show(monkeypatch):
    monkeypatch.setattr(module, "_CACHED_TOKENS", 8)
    module._words.cache_clear()
    text = " ".join(f"w{n} hopping" for n in range(100))
    assert Analyser().terms(text) == terms(text)
    assert len(module._words("en", "inflections")) <= 8


def test_threads_get_what_one_thread_gets(snowball, monkeypatch):
    monkeypatch.setattr(module, "_CACHED_TOKENS", 50)
    texts = [" ".join(f"{root}{end}" for root in ("haus", "lauf", "kind", "buch", "zeit")
                      for end in ("", "e", "en", "er", "ung", f"{n}lichkeit")) for n in "abcdef"]  # fmt: skip
    german = Analyser("de")
    expected = [german.terms(text) for text in texts]
    module._words.cache_clear()
    wrong: list[str] = []

    def work() -> None:
        for _ in range(30):
            got = [german.terms(text) for text in texts]
            wrong.extend("x" for pair in zip(got, expected, strict=True) if pair[0] != pair[1])

    threads = [threading.Thread(target=work) for _ in range(8)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert wrong == []


def test_it_is_a_value():
    assert replace(Analyser()) == Analyser("English", "inflections")
    assert len({Analyser(), Analyser("en"), Analyser("none")}) == 2
    with pytest.raises(FrozenInstanceError):
        Analyser().language = "de"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("germna",), r"none or one of ar \(arabic\), .*got 'germna' \(did you mean 'german'\?\)"),
        (("xx",), r"yi \(yiddish\); got 'xx'$"),
        (("",), "got ''$"),
        (("en", "porter"), r"stemmer must be one of \('inflections', .*got 'porter'"),
        (("de", "inflections"), "'snowball' or 'none' for language 'de', got 'inflections'"),
        (("none", "snowball"), "stemmer must be 'none' for language 'none', got 'snowball'"),
    ],
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        Analyser(*arguments)


@pytest.mark.parametrize("language", ["de", "no"])
def test_a_missing_stemmer_names_its_extra(monkeypatch, language):
    monkeypatch.setitem(sys.modules, "Stemmer", None)
    assert Analyser().terms("cats") == ["cat"]
    with pytest.raises(MissingExtraError, match=rf"'{language}'.*dovetail-rag\[languages\]"):
        Analyser(language)


def test_an_older_stemmer_without_the_language_names_the_extra(monkeypatch, snowball):
    monkeypatch.setattr(snowball, "algorithms", lambda: ["german"])
    assert Analyser("de").language == "de"
    with pytest.raises(MissingExtraError, match=r"'pl'.* PyStemmer 3\.1 or later"):
        Analyser("pl")
