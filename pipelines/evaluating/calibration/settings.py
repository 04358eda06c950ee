"""What calibration tries: ways to read passages as options of `generate.cached`, stage by stage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any, Final

GENERATOR: Final = "generate.cached"
EXACT_MODES: Final = ("sequential", "prefix")
"""Modes that compute every passage, and say what the model says by itself."""
CACHED_MODES: Final = ("parallel", "ape", "block", "graph")
_USED: Final[Mapping[str, tuple[str, ...]]] = {
    "mode": (*EXACT_MODES, *CACHED_MODES),
    "ape_temperature": ("ape",),
    "ape_scale": ("ape",),
    "ape_bias": ("ape",),
    "edges": ("graph",),
    "k": ("graph",),
    "pairs": ("graph",),
    "rounds": ("graph",),
    "keep_round0": ("graph",),
    "self_edge": ("graph",),
    "positions": ("parallel", "ape", "graph"),
    "repack": ("parallel", "ape"),
    "see_prefix": CACHED_MODES,
    "recompute_first_k": CACHED_MODES,
    "recompute_top_r": CACHED_MODES,
    "deviation": CACHED_MODES,
    "repeat_passages": (*EXACT_MODES, *CACHED_MODES),
}
OPTIONS: Final = tuple(_USED)
"""Options that say how passages are read; the prompt and the sampling are the recipe's own."""


@cache
def defaults() -> Mapping[str, Any]:
    """Return the generator's default of each of `OPTIONS`."""
    from pipelines.catalogue.table import catalogue

    options = catalogue().operators[GENERATOR].options
    return {option.name: option.default for option in options if option.name in _USED}


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to read passages; what its mode has no use for is left at the default.

    Attributes:
        changed: the options that are not default, in the order of `OPTIONS`.
    """

    changed: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Setting:
        """Return the setting of some options of the generator; others than `OPTIONS` do not count.

        Args:
            options: by name; the default stands for those that are left out.
        """
        mode = options.get("mode", defaults()["mode"])
        return cls(
            tuple(
                (name, _hashable(options[name]))
                for name, modes in _USED.items()
                if name in options
                and (mode in modes or name == "mode")
                and options[name] != defaults()[name]
            )
        )

    def with_(self, **options: Any) -> Setting:
        """Return the setting with some options changed."""
        return Setting.of({**dict(self.changed), **options})

    @property
    def mode(self) -> str:
        """Its mode."""
        return str(self.options["mode"])

    @property
    def exact(self) -> bool:
        """Whether it computes every passage."""
        return self.mode in EXACT_MODES

    @property
    def options(self) -> dict[str, Any]:
        """All of `OPTIONS`, with the defaults."""
        return {**defaults(), **{name: _listed(value) for name, value in self.changed}}

    def changes(self, other: Setting) -> dict[str, Any]:
        """Return what makes this of `other`: the mode, and whatever else differs."""
        there = other.options
        return {
            name: value
            for name, value in self.options.items()
            if name == "mode" or value != there[name]
        }

    @property
    def name(self) -> str:
        """What a table and a picture call it; different settings have different names."""
        return ", ".join(_words(self.options))


EXACT: Final = Setting((("mode", "sequential"),))
"""The exact mode that everything is compared with."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage of the search.

    Attributes:
        name: what progress calls it.
        settings: gives what is tried, by what was measured before; the best cached one first.
    """

    name: str
    settings: Callable[[Sequence[Setting]], Sequence[Setting]]


def search() -> list[Stage]:
    """Return the usual stages: modes; T, S and b around the best of APE; repairs of the best two.

    Repairs mend the best setting, and the best one of another mode.
    """
    return [
        Stage("modes", lambda _: _modes()),
        Stage("weights of ape", _around_the_best_ape),
        Stage("repairs", _repairs),
    ]


def grid(tried: Mapping[str, Sequence[Any]], own: Setting) -> list[Stage]:
    """Return one stage with all combinations of some options, the others as the recipe has them.

    Args:
        tried: option to values.
        own: the recipe's setting.

    Raises:
        ValueError: for an option that does not say how passages are read.
    """
    unknown = [name for name in tried if name not in _USED]
    if unknown:
        raise ValueError(
            f"options to try must be of {', '.join(OPTIONS)}, got {', '.join(unknown)}"
        )
    found = [
        own.with_(**dict(zip(tried, values, strict=True))) for values in product(*tried.values())
    ]
    return [Stage("settings", lambda _: found)]


def _modes() -> list[Setting]:
    weights = [(0.8, 1.0, 0.0), (0.9, 0.9, 0.0), (0.5, 1.0, 0.0), (0.8, 1.0, 0.5)]
    graph = Setting.of({"mode": "graph"})
    return [
        Setting.of({"mode": "prefix"}),
        Setting.of({"mode": "parallel"}),
        *(_ape(*one) for one in weights),
        Setting.of({"mode": "block"}),
        graph,
        graph.with_(k=2),
    ]


def _ape(temperature: float, scale: float, bias: float) -> Setting:
    return Setting.of(
        {
            "mode": "ape",
            "ape_temperature": temperature,
            "ape_scale": scale,
            "ape_bias": bias,
        }
    )


def _around_the_best_ape(ranked: Sequence[Setting]) -> list[Setting]:
    best = next((setting for setting in ranked if setting.mode == "ape"), None)
    if best is None:
        return []
    names = ("ape_temperature", "ape_scale", "ape_bias")
    t, s, b = (float(best.options[name]) for name in names)
    steps = [
        *((t + step, s, b) for step in (-0.2, -0.1, 0.1, 0.2)),
        *((t, s + step, b) for step in (-0.1, 0.1)),
        *((t, s, b + step) for step in (-0.25, 0.25)),
    ]
    return [
        best.with_(**dict(zip(names, _rounded(one), strict=True)))
        for one in steps
        if one[0] > 0.05 and one[1] > 0.05 and _rounded(one) != (1.0, 1.0, 0.0)
    ]


def _rounded(weights: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(round(value, 3) for value in weights)


def _repairs(ranked: Sequence[Setting]) -> list[Setting]:
    best = list(ranked[:1])
    best += [setting for setting in ranked if setting.mode != ranked[0].mode][:1]
    return [repaired for setting in best for repaired in _repairs_of(setting)]


def _repairs_of(setting: Setting) -> Iterator[Setting]:
    for first in (4, 16):
        yield setting.with_(recompute_first_k=first)
    for share in (0.05, 0.15, 0.3):
        yield setting.with_(recompute_top_r=share)
    yield setting.with_(positions="serial")
    yield setting.with_(see_prefix=False)


def _words(options: Mapping[str, Any]) -> Iterator[str]:
    """Yield the parts of a name."""
    mode, standard = options["mode"], defaults()
    told = {"mode"}
    if mode == "ape":
        told |= {"ape_temperature", "ape_scale", "ape_bias"}
        bias = f" b={options['ape_bias']:g}" if options["ape_bias"] else ""
        yield f"ape T={options['ape_temperature']:g} S={options['ape_scale']:g}{bias}"
    elif mode == "graph" and options["edges"] in ("into_top_k", "from_top_m"):
        told |= {"edges", "k"}
        yield f"graph {options['edges'].rpartition('_')[0]}_{options['k']}"
    else:
        yield str(mode)
    if options["positions"] == "serial":
        told.add("positions")
        yield "serial"
    if not options["see_prefix"]:
        told.add("see_prefix")
        yield "prefix not seen"
    if options["recompute_first_k"]:
        told.add("recompute_first_k")
        yield f"first {options['recompute_first_k']} anew"
    if options["recompute_top_r"]:
        told.add("recompute_top_r")
        yield f"{100 * options['recompute_top_r']:g} % anew"
    for name, value in options.items():
        if name not in told and value != standard[name]:
            yield f"{name}={value}"


def _hashable(value: Any) -> Any:
    return tuple(map(_hashable, value)) if isinstance(value, (list, tuple)) else value


def _listed(value: Any) -> Any:
    return list(map(_listed, value)) if isinstance(value, tuple) else value
