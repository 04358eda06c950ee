"""Short names of a user's own operators."""

import re

import pytest

from rag.short_names import name_of, operator


def test_a_named_function_is_left_as_it_is_and_knows_its_name():
    def shorten(query):
        return query

    assert operator("query.shorten")(shorten) is shorten
    assert name_of(shorten) == "query.shorten"


def test_what_was_not_named_has_no_name():
    assert name_of(lambda: None) == name_of([]) == ""


@pytest.mark.parametrize(
    "name", ["shorten", "Query.shorten", "query.", "a.b.c", "query.2", "a-b.c"]
)
def test_another_form_is_refused(name):
    message = f"name must be module.operator in lower case, got {name!r}"
    with pytest.raises(ValueError, match=re.escape(message)):
        operator(name)
