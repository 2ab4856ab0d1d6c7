"""A run's settings by their names on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import TypeAdapter


def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted name."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def by_name(config: Any) -> dict[str, Any]:
    """Of a TrainConfig or OnPolicyConfig; paths as they lead from anywhere."""
    dumped = TypeAdapter(type(config)).dump_python(config)
    lr_scale = dumped.pop("lr_scale")  # one option, of names and factors
    found = flat(dumped) | {"lr_scale": lr_scale}
    return {n: v.resolve() if isinstance(v, Path) else v for n, v in found.items()}


def option(name: str) -> str:
    """A setting's option."""
    return f"--{name.replace('_', '-')}"


def typed(value: Any) -> str:
    """A setting's value as it is given on the command line."""
    parts = value.items() if isinstance(value, dict) else [value]
    words = [w for part in parts for w in (part if isinstance(part, tuple) else (part,))]
    return " ".join(map(str, words))
