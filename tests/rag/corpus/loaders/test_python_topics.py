"""The topics that ship with Python: ids, titles, sections."""

from rag.corpus.loaders import python_topics


def test_every_topic_is_a_document_named_by_its_first_heading():
    documents = {document.id: document for document in python_topics.load()}
    assert len(documents) == len(python_topics.topics()) > 50
    assertion = documents["python/assert"]
    assert assertion.title == 'The "assert" statement'
    assert assertion.text.startswith('The "assert" statement\n****')


def test_underlined_lines_are_sections_by_the_kind_of_line():
    for document in python_topics.load():
        assert document.sections
        for section in document.sections:
            heading, underline = document.text[section.start :].split("\n")[:2]
            assert heading == section.title
            assert underline == "*=-~"[section.level - 1] * len(underline)
            assert len(underline) >= 3
