"""One scope for several corpora: fields that only some of them have."""

from collections.abc import Mapping

from retrievers.filters import And, Compare, Filter, Node, Not, Or, kind_of

_NOTHING, _EVERYTHING = Or(()), And(())


def for_corpus(scope: Filter, fields: Mapping[str, frozenset[str]]) -> Filter:
    """Return a filter that lets through the same passages of a corpus, and names its fields only.

    Args:
        scope: of all corpora together.
        fields: what some passage of the corpus has, with the kinds of its values.
    """
    return Filter(_narrowed(scope.node, fields))


def _narrowed(node: Node, fields: Mapping[str, frozenset[str]]) -> Node:
    if isinstance(node, Compare):
        return _compared(node, fields.get(node.field))
    if isinstance(node, Not):
        return Not(_narrowed(node.part, fields))
    return type(node)(tuple(_narrowed(part, fields) for part in node.parts))


def _compared(compare: Compare, kinds: frozenset[str] | None) -> Node:
    """Return a comparison that no value of the corpus makes an error."""
    if kinds is None:
        lets_through = compare.op == "exists" and compare.value is False
        return _EVERYTHING if lets_through else _NOTHING
    comparable = tuple(value for value in compare.values if kind_of(value) in kinds)
    if len(comparable) == len(compare.values):
        return compare
    if comparable:
        return Compare(compare.field, compare.op, comparable)
    # No value equals one of another kind, and none is above or below it.
    unequal = compare.op in ("ne", "nin")
    return Compare(compare.field, "exists", value=True) if unequal else _NOTHING
