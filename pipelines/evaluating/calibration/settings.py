"""What calibration tries: ways to read passages as options of `generate.cached`, stage by stage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any, Final

from rag.generation.cached import MODES, READING_OPTIONS

GENERATOR: Final = "generate.cached"
EXACT_MODES: Final = ("sequential", "prefix")
"""Modes that compute every passage, and say what the model says by itself."""
CACHED_MODES: Final = tuple(mode for mode in MODES if mode not in EXACT_MODES)
OPTIONS: Final = tuple(READING_OPTIONS)
"""Options that say how passages are read; the prompt, the sampling and the citations are the
recipe's own."""


@cache
def defaults() -> Mapping[str, Any]:
    """Return the generator's default of each of `OPTIONS`."""
    from pipelines.catalogue.table import catalogue

    options = catalogue().operators[GENERATOR].options
    return {option.name: option.default for option in options if option.name in READING_OPTIONS}


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
                for name, modes in READING_OPTIONS.items()
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
    """Return the usual stages: modes; weights and serial positions; repairs.

    Repairs are tried where passages stand one after another, as in one prompt: there a row that is
    computed anew sees what it would see in it. At shared positions passages lie over each other,
    and rows computed anew were measured to make answers worse.
    """
    return [
        Stage("modes", lambda _: _modes()),
        Stage("weights and positions", _weights_and_positions),
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
    unknown = [name for name in tried if name not in READING_OPTIONS]
    if unknown:
        raise ValueError(
            f"options to try must be of {', '.join(OPTIONS)}, got {', '.join(unknown)}"
        )
    found = [
        own.with_(**dict(zip(tried, values, strict=True))) for values in product(*tried.values())
    ]
    return [Stage("settings", lambda _: found)]


def _modes() -> list[Setting]:
    # Serial positions make `parallel` the mode `block`.
    ape, graph = _ape(0.8, 1.0, 0.0), Setting.of({"mode": "graph"})
    return [
        Setting.of({"mode": "prefix"}),
        Setting.of({"mode": "parallel"}),
        ape,
        ape.with_(positions="serial"),
        _ape(0.9, 0.9, 0.0),
        _ape(0.5, 1.0, 0.0),
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


def _weights_and_positions(ranked: Sequence[Setting]) -> list[Setting]:
    ape, graph = (_best(ranked, mode) for mode in ("ape", "graph"))
    shared = [one for one in (ape, graph) if one is not None and not _serial(one)]
    around = [] if ape is None else _around(ape)
    return [*around, *(one.with_(positions="serial") for one in shared)]


def _best(ranked: Sequence[Setting], mode: str) -> Setting | None:
    return next((setting for setting in ranked if setting.mode == mode), None)


def _serial(setting: Setting) -> bool:
    return setting.mode == "block" or setting.options["positions"] == "serial"


def _around(ape: Setting) -> list[Setting]:
    """Return T, S and b around those of a setting of APE, one at a time."""
    names = ("ape_temperature", "ape_scale", "ape_bias")
    t, s, b = (float(ape.options[name]) for name in names)
    steps = [
        *((t + step, s, b) for step in (-0.2, -0.1, 0.1, 0.2)),
        *((t, s + step, b) for step in (-0.1, 0.1)),
        *((t, s, b + step) for step in (-0.25, 0.25)),
    ]
    # Neutral weights are mode `parallel`, or `block` at serial positions.
    return [
        ape.with_(**dict(zip(names, _rounded(one), strict=True)))
        for one in steps
        if one[0] > 0.05 and one[1] > 0.05 and _rounded(one) != (1.0, 1.0, 0.0)
    ]


def _rounded(weights: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(round(value, 3) for value in weights)


def _repairs(ranked: Sequence[Setting]) -> list[Setting]:
    mended = [
        repaired
        for setting in _best_two([one for one in ranked if _serial(one)])
        for repaired in _repairs_of(setting)
    ]
    return [*mended, *(setting.with_(see_prefix=False) for setting in _best_two(ranked))]


def _best_two(ranked: Sequence[Setting]) -> list[Setting]:
    """Return the best setting, and the best one of another mode."""
    return [*ranked[:1], *[one for one in ranked if one.mode != ranked[0].mode][:1]]


def _repairs_of(setting: Setting) -> Iterator[Setting]:
    for first in (4, 16):
        yield setting.with_(recompute_first_k=first)
    for share in (0.05, 0.15, 0.3):
        yield setting.with_(recompute_top_r=share)


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
