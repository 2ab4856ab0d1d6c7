#!/usr/bin/env bash
# What this machine lacks for `make venv` and `make workspace`: the Debian packages' names on
# stdout, one a line, and for people why on stderr. Fails if there are any.
#
#     tools/missing_packages.sh [PYTHON]
set -uo pipefail
python=${1:-python3}
missing=0

lacks() { # PACKAGE REASON
    echo "$1"
    echo "missing: $2 (Debian package $1)" >&2
    missing=1
}

python_can() { "$python" -c "$1" >/dev/null 2>&1; }

if ! command -v "$python" >/dev/null; then
    lacks python3 "Python 3.11 to 3.13, called '$python'"
    lacks python3-venv "Python's modules venv and ensurepip"
    lacks python3-dev "Python's header Python.h, which ROS messages are built with"
else
    if ! python_can 'import sys; assert (3, 11) <= sys.version_info[:2] <= (3, 13)'; then
        lacks python3 "Python 3.11 to 3.13; '$python' is $("$python" --version 2>&1); name another by PYTHON=python3.12"
    fi
    python_can 'import venv, ensurepip' || lacks python3-venv "Python's modules venv and ensurepip"
    python_can 'import os, sysconfig; os.stat(sysconfig.get_paths()["include"] + "/Python.h")' ||
        lacks python3-dev "Python's header Python.h, which ROS messages are built with"
fi
command -v cmake >/dev/null || lacks cmake "cmake"
command -v g++ >/dev/null || lacks g++ "the C++ compiler g++"
command -v make >/dev/null || lacks make "make"
exit "$missing"
