"""Make the ROS wheels of this environment fit to build interfaces with.

Some fifteen CMake files in the wheels name include folders of the machine that built them. This
puts this environment's own in their place. Run it with the environment's python as often as you
like: `python tools/repair_ros_wheels.py`. Without ROS wheels it changes nothing.
"""

from __future__ import annotations

import re
import sys
import sysconfig
from pathlib import Path

import numpy as np

PYTHON_INCLUDE = re.compile(r'/opt/python/[^/;"]+/include/python3\.\d+')
NUMPY_INCLUDE = re.compile(r'/opt/python/[^;"]+/numpy/(?:_core|core)/include')


def repair(text: str, python_include: str, numpy_include: str) -> str:
    """The text of a CMake file with this environment's include folders.

    Args:
        text: of one exported CMake file.
        python_include: folder that has `Python.h`.
        numpy_include: folder that has `numpy/arrayobject.h`.
    """
    text = PYTHON_INCLUDE.sub(lambda _: python_include, text)
    return NUMPY_INCLUDE.sub(lambda _: numpy_include, text)


def main() -> None:
    """Repair every CMake file that the wheels installed in this environment."""
    if sys.prefix == sys.base_prefix:
        raise SystemExit(
            f"{sys.executable} is no virtual environment's python, and a system is left alone; "
            "call it as .venv/bin/python tools/repair_ros_wheels.py"
        )
    python_include, numpy_include = sysconfig.get_paths()["include"], np.get_include()
    repaired = 0
    for file in sorted(Path(sys.prefix, "share").glob("**/*.cmake")):
        before = file.read_text(encoding="utf-8")
        after = repair(before, python_include, numpy_include)
        if after != before:
            file.write_text(after, encoding="utf-8")
            repaired += 1
    print(f"repaired {repaired} CMake files of the ROS wheels")


if __name__ == "__main__":
    main()
