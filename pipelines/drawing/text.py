"""A pipeline as a tree of text, with box characters."""

from collections.abc import Iterator, Sequence

from pipelines.drawing.shapes import Lane, Picture, Shape


def drawn(picture: Picture) -> str:
    """Return the tree; its lines end without white space."""
    about = f": {picture.description}" if picture.description else ""
    lines = [f"{picture.name}{about}", f"│  given {picture.inputs or 'nothing'}"]
    lines += _children(picture.shapes, "", more=True)
    lines.append(f"└─ returns {picture.outputs or 'nothing'}")
    return "\n".join(_printable(line).rstrip() for line in lines)


def _children(shapes: Sequence[Shape | Lane], indent: str, *, more: bool = False) -> Iterator[str]:
    """Yield the lines of siblings; `more` says that another follows them."""
    for place, shape in enumerate(shapes):
        last = place == len(shapes) - 1 and not more
        yield from _one(
            shape, indent + ("└─ " if last else "├─ "), indent + ("   " if last else "│  ")
        )


def _one(shape: Shape | Lane, head: str, below: str) -> Iterator[str]:
    if isinstance(shape, Lane):
        yield f"{head}[{shape.label}]" + ("" if shape.shapes else "  nothing")
        yield from _children(shape.shapes, below)
        return
    said = f"writes {shape.gives}" in shape.details
    gives = f"  → {shape.gives}" if shape.gives and not said else ""
    if shape.kind == "step":
        yield f"{head}{'  '.join([shape.title, *shape.details])}{gives}"
        return
    yield f"{head}{shape.title}{gives}"
    inside = [*shape.before, *_inside(shape), *shape.after]
    for detail in shape.details:
        yield f"{below}{'│' if inside else ' '}    {detail}"
    yield from _children(inside, below)


def _inside(shape: Shape) -> Sequence[Shape | Lane]:
    if len(shape.lanes) == 1 and not shape.lanes[0].label:
        return shape.lanes[0].shapes
    return shape.lanes


def _printable(line: str) -> str:
    return "".join(char if char.isprintable() else "�" for char in line)
