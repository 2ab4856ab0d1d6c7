"""docs/families.md says what the code says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docs" / "families.md"


def families_doc(*arguments: str, code: str = "") -> subprocess.CompletedProcess[str]:
    """Run the tool as a user does; `code` runs before it."""
    run = f"import runpy, sys; {code}\nrunpy.run_module('tools.families_doc', run_name='__main__')"
    return subprocess.run(
        [sys.executable, "-c", run, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_file_is_up_to_date():
    done = families_doc("--check")
    assert done.returncode == 0, done.stderr


def test_a_file_that_is_not_is_refused_with_the_command(tmp_path):
    copy = tmp_path / "families.md"
    copy.write_text(FILE.read_text().replace("payload_kg", "payload_lb"))
    done = families_doc("--check", "--file", str(copy))
    assert done.returncode == 1
    assert "write it anew: python -m tools.families_doc" in done.stderr
    assert families_doc("--file", str(copy)).returncode == 0
    assert copy.read_text() == FILE.read_text()


def test_every_family_has_units_ranges_and_its_splits_hash():
    text = FILE.read_text()
    arm = text.split("\n## arm\n")[1].split("\n## ")[0]
    assert "| `payload_kg` | kg | 0 | 0 .. 0.2 | 0 .. 0.4 |" in arm
    assert "measures 5 positions (rad), 5 velocities (rad/s)" in arm
    assert "Only in the split held_out:" in arm
    frozen = json.loads((ROOT / "sim/families/arm/splits.json").read_text())
    assert frozen["sha256"][:16] in arm


def test_a_family_whose_package_is_missing_keeps_its_section_or_gets_a_note(tmp_path):
    register = (
        "from sim import registry; from importlib.metadata import EntryPoint;"
        "registry._points()['zeppelin'] = "
        "[EntryPoint('zeppelin', 'zeppelins_r_us:Zeppelin', registry.GROUP)]"
    )
    copy = tmp_path / "families.md"
    assert families_doc("--file", str(copy), code=register).returncode == 0
    noted = copy.read_text()
    assert "\n## zeppelin\n\nNot described: " in noted
    assert "'zeppelins_r_us'" in noted
    copy.write_text(noted.split("Not described")[0] + "Flies where it likes.\n")
    kept = copy.read_text()
    assert families_doc("--check", "--file", str(copy), code=register).returncode == 0
    assert families_doc("--file", str(copy), code=register).returncode == 0
    assert copy.read_text() == kept
