"""A neighbourhood of the corpus graph as one HTML page: the image, its edges, its passages."""

from pipelines.drawing.neighbourhood import Neighbourhood
from pipelines.drawing.neighbourhood_svg import STYLE, neighbourhood_svg
from rag.records import Passage
from rag.tracing.html import html_page
from rag.tracing.markup import Markup, el, joined


def neighbourhood_html(shown: Neighbourhood) -> str:
    """Return a self-contained page that fetches nothing; every text in it is escaped."""
    titles = {p.id: p.title or p.id for p in (*shown.chosen, *shown.neighbours)}
    rows = [
        el(
            "tr",
            el("td", titles[edge.source], title=edge.source),
            el("td", edge.kind),
            el("td", titles[edge.target], title=edge.target),
            el("td", f"{edge.weight:.2f}", class_="ms"),
        )
        for edge in shown.edges
    ]
    head = el("tr", *(el("th", name) for name in ("from", "kind", "to", "weight")))
    body = joined(
        [
            el("header", el("h1", "Corpus graph")),
            el("div", Markup(neighbourhood_svg(shown)), class_="scroll"),
            el("h2", "Edges"),
            el("table", el("thead", head), el("tbody", *rows)) if rows else el("p", "none"),
            el("h2", "Chosen passages"),
            *map(_card, shown.chosen),
            *([el("h2", "What they lead to")] if shown.neighbours else []),
            *map(_card, shown.neighbours),
        ]
    )
    return html_page(f"Corpus graph: {shown.heading}", body, (STYLE,))


def _card(passage: Passage) -> Markup:
    return el(
        "article",
        el("h3", passage.title or passage.id),
        el("p", passage.id, class_="quiet mono"),
        el("p", passage.text),
        class_="card",
    )
