"""References in values: `${vars.x}`, `${env:NAME}`, `${env:NAME:-default}`; `$${` is a plain `${`.

A value that is nothing but one `${vars.x}` becomes whatever that variable is, of any shape and at
its place; inside longer text only the text of a scalar fits. What comes from the environment is
marked, so that a trace can mask it; keys are never looked at.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace

from pipelines.definition.convert import looks_like_text
from pipelines.definition.nodes import DEEPEST, MOST_NODES, Fields, Items, Node, Scalar, shape
from pipelines.flow.diagnostics import Mistake, nearest

_REFERENCE = re.compile(r"\$\$\{|\$\{([^}]*)\}|\$\{")
_VARIABLE = re.compile(r"vars\.([A-Za-z_][A-Za-z0-9_-]*)")
_ENVIRONMENT = re.compile(r"env:([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)
_LONGEST = 100_000
_HOW = "write ${vars.NAME}, ${env:NAME} or ${env:NAME:-default}; $${ is a plain ${"


class Interpolation:
    """Replaces references; collects what is wrong with them.

    Attributes:
        mistakes: in the order found.
        variables: the variables that are resolved already.
    """

    def __init__(
        self,
        variables: Node | None,
        *,
        given: Mapping[str, Node] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """Take the variables; each is resolved when it is first needed.

        Args:
            variables: the `vars` of the file.
            given: variables that are final and go before those.
            environ: of the process by default.
        """
        self.mistakes: list[Mistake] = []
        self.variables: dict[str, Node] = dict(given or {})
        self._written = variables.values if isinstance(variables, Fields) else {}
        self._known = [*self._written, *(name for name in self.variables)]
        self._open: list[str] = []
        self._environ = os.environ if environ is None else environ
        self._sizes: dict[int, tuple[Node, int, int]] = {}

    def resolved(self, node: Node) -> Node:
        """Return a node without references; one that cannot be resolved stays as it is written."""
        if isinstance(node, Scalar):
            return self._scalar(node)
        if isinstance(node, Items):
            return replace(node, items=tuple(self.resolved(item) for item in node.items))
        values = {key: self.resolved(value) for key, value in node.values.items()}
        return replace(node, values=values)

    def all_variables(self) -> dict[str, Node]:
        """Return every variable, resolved, in the order written."""
        return {name: self._variable(name) for name in dict.fromkeys(self._known)}

    def bounded(self, node: Node) -> bool:
        """Return whether a node is small enough with everything in it; note a mistake if not."""
        size, depth = self._measured(node)
        if size <= MOST_NODES and depth <= DEEPEST:
            return True
        much = f"more than {MOST_NODES} values" if size > MOST_NODES else f"deeper than {DEEPEST}"
        message = f"{much}, variables written out"
        self.mistakes.append(Mistake("too-large", message, node.place))
        return False

    def _scalar(self, node: Scalar) -> Node:
        if "${" not in node.text:
            return replace(node, quoted=node.quoted and not looks_like_text(node.text))
        whole = _REFERENCE.fullmatch(node.text)
        if whole and whole[1] is not None:
            found = self._referred(whole[1], node)
            return replace(node, unresolved=True) if found is None else found
        return self._text(node)

    def _text(self, node: Scalar) -> Scalar:
        text, written, end, referring = "", "", 0, False
        secrets: list[str] = []
        for match in _REFERENCE.finditer(node.text):
            literal = node.text[end : match.start()]
            part = self._part(match, node)
            if part is None or part.unresolved:
                return replace(node, unresolved=True)
            text += literal + part.text
            written += literal + (part.written or escaped(part.text))
            referring = referring or bool(part.written)
            secrets.extend(part.secrets)
            end = match.end()
            if len(text) > _LONGEST:
                self._note("too-large", f"a text of more than {_LONGEST} characters", node)
                return replace(node, unresolved=True)
        text += node.text[end:]
        written += node.text[end:]
        quoted = node.quoted and not looks_like_text(text)
        return Scalar(text, quoted, node.place, tuple(secrets), written if referring else "")

    def _part(self, match: re.Match[str], node: Scalar) -> Scalar | None:
        if match[0] == "$${":
            return Scalar("${", quoted=False, place=node.place)
        if match[1] is None:
            self._note("bad-reference", "a reference has no closing }", node, _HOW)
            return None
        found = self._referred(match[1], node)
        if found is None or isinstance(found, Scalar):
            return found
        message = f"${{{match[1]}}} is {shape(found)}, which does not fit into a text"
        self._note("bad-reference", message, node, "let it be the whole value")
        return None

    def _referred(self, name: str, node: Scalar) -> Node | None:
        variable = _VARIABLE.fullmatch(name)
        if variable:
            return self._named(variable[1], node)
        environment = _ENVIRONMENT.fullmatch(name)
        if environment:
            return self._environment(environment, node)
        self._note("bad-reference", f"'${{{name}}}' is no reference", node, _HOW)
        return None

    def _named(self, name: str, node: Scalar) -> Node | None:
        if name in self._open:
            way = " -> ".join(f"vars.{one}" for one in (*self._open, name))
            self._note("cycle", f"variables go round in a circle: {way}", node)
            return None
        if name not in self._known:
            self._note("unknown-var", f"there is no vars.{name}", node, nearest(name, self._known))
            return None
        return self._variable(name)

    def _variable(self, name: str) -> Node:
        if name not in self.variables:
            self._open.append(name)
            self.variables[name] = self.resolved(self._written[name])
            self._open.pop()
        return self.variables[name]

    def _environment(self, reference: re.Match[str], node: Scalar) -> Scalar | None:
        name, default = reference.groups()
        value = self._environ.get(name)
        if value is not None:
            hidden = (value,) if value else ()
            return Scalar(value, False, node.place, hidden, f"${{{reference[0]}}}")
        if default is not None:
            return Scalar(default, False, node.place, written=f"${{{reference[0]}}}")
        hint = f"set it, or write ${{env:{name}:-default}}"
        self._note("unset-env", f"the environment variable {name} is not set", node, hint)
        return None

    def _measured(self, node: Node) -> tuple[int, int]:
        if isinstance(node, Scalar):
            return 1, 0
        if id(node) not in self._sizes:
            inside = node.items if isinstance(node, Items) else node.values.values()
            size, depth = 1, 0
            for one in inside:
                more, below = self._measured(one)
                size, depth = size + more, max(depth, 1 + below)
            self._sizes[id(node)] = node, size, depth
        return self._sizes[id(node)][1:]

    def _note(self, code: str, message: str, node: Scalar, hint: str = "") -> None:
        self.mistakes.append(Mistake(code, message, node.place, hint))


def escaped(text: str) -> str:
    """Return a text that interpolation leaves as this one."""
    return text.replace("${", "$${")
