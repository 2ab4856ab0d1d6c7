"""What a name such as `gymnasium:ALE/Pong-v5?obs_type=ram&mode=0,1` says.

After the environment's id come keywords of its constructor: `keyword=4` is fixed (a number, true,
false, or a word), `keyword=0,1,2` varies among whole numbers, `keyword=0.5..2` varies in a range.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from reptile_agent.task import Task
from sim import splits
from sim.variations import Variation

PREFIX = "gymnasium:"
INNER_SHARE = 0.6
"""Of a range, around its middle: what is trained on; the rest is kept for judging."""
MOST_LISTED = 256
"""Combinations of choices up to which all are listed; of more, some are drawn."""
Fixed = int | float | bool | str


@dataclass(frozen=True)
class Query:
    """A family's name, taken apart."""

    env_id: str
    """As gymnasium.make takes it."""
    fixed: dict[str, Fixed]
    """Keywords that are the same in every task."""
    ranges: dict[str, tuple[float, float]]
    """Keywords that vary between two values."""
    choices: dict[str, tuple[float, ...]]
    """Keywords that vary among whole numbers, in rising order."""


def parse(name: str) -> Query:
    """Take a family's name apart.

    Raises:
        ValueError: a part of it cannot be read; the part is named.
    """
    env_id, _, text = name.removeprefix(PREFIX).partition("?")
    query = Query(env_id, {}, {}, {})
    for part in text.split("&") if text else ():
        keyword, _, value = part.partition("=")
        if not keyword.isidentifier() or not value:
            raise ValueError(
                f"cannot read '{part}' in '{name}': expected keyword=value, keyword=0,1,2 or "
                f"keyword=low..high, several joined by &"
            )
        if keyword in query.fixed | query.ranges | query.choices:
            raise ValueError(f"'{name}' names the keyword '{keyword}' twice")
        try:
            if ".." in value:
                query.ranges[keyword] = _range(value)
            elif "," in value:
                query.choices[keyword] = _choices(value)
            else:
                query.fixed[keyword] = _literal(value)
        except ValueError as error:
            raise ValueError(f"cannot read '{part}' in '{name}': {error}") from error
    return query


def variations(query: Query, default: Callable[[str], Any]) -> tuple[Variation, ...]:
    """What varies; the largest choice and the outer parts of a range are kept from training.

    Args:
        query: of the family's name.
        default: the environment's own value of a keyword; taken as nominal where it fits.

    Raises:
        ValueError: the length of an episode was asked to vary.
    """
    if "max_episode_steps" in query.ranges | query.choices:
        raise ValueError("max_episode_steps is the same for all tasks of a family: name one number")
    made = []
    for keyword, (low, high) in query.ranges.items():
        margin = (1 - INNER_SHARE) / 2 * (high - low)
        own = default(keyword)
        fits = isinstance(own, int | float) and low <= own <= high
        made.append(
            Variation(
                name=keyword,
                unit="-",
                nominal=float(own) if fits else (low + high) / 2,
                train=(low + margin, high - margin),
                beyond=(low, high),
                why="named as a range: the middle is trained on, the outer parts are for judging",
            )
        )
    for keyword, values in query.choices.items():
        own = default(keyword)
        fits = isinstance(own, int | float) and own in values
        made.append(
            Variation(
                name=keyword,
                unit="-",
                nominal=float(own) if fits else values[0],
                train=(values[0], values[-2]),
                beyond=(values[0], values[-1]),
                why="named as choices: the largest is kept from training, for judging",
                choices=values,
            )
        )
    return tuple(made)


def split(vary: tuple[Variation, ...]) -> dict[str, list[Task]]:
    """Splits drawn with seed 0; listed where there are only choices, and few.

    Drawn: as for every family, and held_out has every variation outside its training range.
    Listed: train has the combinations of choices for training, each once, and in_range the same
    (nothing else is in range; other seeds start other episodes). held_out is the one combination
    of kept choices alone. The others with a kept choice go to extrapolated and validation in turn;
    where none is left for validation, it is train: what judges never tunes.
    """
    if not all(v.choices for v in vary) or math.prod(len(v.choices) for v in vary) > MOST_LISTED:
        return splits.draw(
            vary,
            lambda rng: {v.name: v.draw_beyond(rng) for v in vary},
            feasible=lambda _: True,
            seed=0,
        )
    names = [v.name for v in vary]
    every = [dict(zip(names, values)) for values in itertools.product(*(v.choices for v in vary))]
    train = [t for t in every if all(t[v.name] <= v.train[1] for v in vary)]
    outside = [task for task in every if task not in train]
    held_out = outside[-1:] or train
    between = outside[:-1] or held_out
    return {
        "train": train,
        "validation": between[1::2] or train,
        "in_range": train,
        "extrapolated": between[::2],
        "held_out": held_out,
        splits.INFEASIBLE: [],
    }


def _range(text: str) -> tuple[float, float]:
    low, high = (float(part) for part in text.split(".."))
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError("a range needs finite numbers, low..high with low < high")
    if (round(low, 6), round(high, 6)) != (low, high):
        raise ValueError("tasks have six decimals, so a range must not have more")
    return low, high


def _choices(text: str) -> tuple[float, ...]:
    values = tuple(sorted({float(part) for part in text.split(",")}))
    if len(values) < 2 or not all(value.is_integer() for value in values):
        raise ValueError("choices must be at least two different whole numbers")
    return values


def _literal(text: str) -> Fixed:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
