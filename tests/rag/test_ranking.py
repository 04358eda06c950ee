"""Rankings: a list of passages, and hits below it."""

from rag.ranking import TAIL, Ranking
from rag.records import Hit, Passage, Span

ONE = Passage("a", "d", "x", Span(0, 1), (Span(0, 1),), score=2.0)
OTHER = Passage("b", "d", "x", Span(0, 1), (Span(0, 1),))


def test_it_equals_the_list_of_its_passages():
    assert Ranking([ONE], [Hit("b", 1.0)]) == [ONE]


def test_hits_are_its_passages_and_then_the_tail():
    ranking = Ranking([ONE, OTHER], [Hit("c", -1.0)])
    assert ranking.hits == [Hit("a", 2.0), Hit("b", 0.0), Hit("c", -1.0)]


def test_passages_and_tail_together_are_bounded():
    tail = [Hit(str(n), 0.0) for n in range(2 * TAIL)]
    assert len(Ranking([ONE], tail).hits) == TAIL
    assert len(Ranking([ONE] * (TAIL + 5), tail).hits) == TAIL + 5


def test_a_ranking_stays_itself_and_a_list_becomes_one_without_tail():
    ranking = Ranking([ONE], [Hit("b", 1.0)])
    assert Ranking.of(ranking) is ranking
    assert Ranking.of([ONE]).tail == ()
