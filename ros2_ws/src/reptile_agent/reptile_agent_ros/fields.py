"""`signal=field`: which signals of a RobotSpec lie in which fields of a message."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from reptile_agent.spec import Signal

UNSTATED = '1'
"""Unit of a signal that has none, or whose spec does not say it."""


def split_pairs(parameter: str, pairs: Sequence[str], form: str) -> list[tuple[str, str]]:
    """Both sides of each `left=right` of a parameter.

    Args:
        parameter: name of it, for errors.
        pairs: its value.
        form: how a pair should read, for errors.

    Raises:
        ValueError: a pair has not two sides.
    """
    found = []
    for pair in pairs:
        left, equals, right = pair.partition('=')
        if not (left and equals and right):
            raise ValueError(f"{parameter} entry '{pair}' should read {form}")
        found.append((left, right))
    return found


def match(
    parameter: str, pairs: Sequence[str], signals: Sequence[str], fields: Collection[str]
) -> dict[str, str]:
    """`['x.velocity=linear.x']` to the field of each signal.

    Args:
        parameter: name of it, for errors.
        pairs: its value.
        signals: names that may stand on the left.
        fields: what may stand on the right.

    Raises:
        ValueError: a pair has not two sides, a signal is unknown or named twice, or there is no
            such field.
    """
    found: dict[str, str] = {}
    for signal, field in split_pairs(parameter, pairs, 'signal=field'):
        if signal not in signals:
            raise ValueError(
                f"{parameter} names '{signal}', which the bundle has not (has: "
                f'{", ".join(signals)})'
            )
        if signal in found:
            raise ValueError(f"{parameter} names '{signal}' twice; give it one field")
        if field not in fields:
            raise ValueError(
                f"{parameter} takes '{signal}' from '{field}', and there is no such field "
                f'(there are: {", ".join(fields)})'
            )
        found[signal] = field
    return found


def match_all(
    parameter: str, pairs: Sequence[str], signals: Sequence[str], fields: Collection[str]
) -> list[str]:
    """As `match`, where every signal needs a field of its own; the fields in order of signals.

    Raises:
        ValueError: as `match`, a signal has no field, or two have the same one.
    """
    found = match(parameter, pairs, signals, fields)
    lacking = [name for name in signals if name not in found]
    if lacking:
        raise ValueError(
            f"{parameter} names no field for {', '.join(lacking)}; add '{lacking[0]}=field' "
            f'(fields: {", ".join(fields)})'
        )
    chosen = [found[name] for name in signals]
    twice = sorted({field for field in chosen if chosen.count(field) > 1})
    if twice:
        raise ValueError(f"{parameter} has two signals for '{twice[0]}'; give each its own field")
    return chosen


def check_units(parameter: str, fields: Mapping[str, str], signals: Sequence[Signal]) -> None:
    """Refuse a signal in a field of another unit: metres per second are no radians per second.

    Args:
        parameter: name of it, for errors.
        fields: of each signal, as `match` finds them.
        signals: that have them, and others.

    Raises:
        ValueError: the units differ.
    """
    for signal in signals:
        unit = _unit(fields[signal.name]) if signal.name in fields else signal.unit
        if signal.unit not in (unit, UNSTATED):
            raise ValueError(
                f"{parameter} has '{signal.name}' [{signal.unit}] in '{fields[signal.name]}', "
                f'which is in {unit}'
            )


def _unit(field: str) -> str:
    """Unit of a field of Imu, Odometry and Twist, by its name (REP-103)."""
    if field.endswith(('.roll', '.pitch', '.yaw')):
        return 'rad'
    if 'orientation' in field:
        return '1'
    if 'position' in field:
        return 'm'
    if 'acceleration' in field:
        return 'm/s^2'
    return 'rad/s' if 'angular' in field else 'm/s'
