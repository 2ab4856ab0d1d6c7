"""Write the JSON schema of a bundle's manifest from the code: `python -m tools.manifest_schema`.

For tools outside Python; on the robot the model itself validates. `--check` only looks.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from reptile_agent.onboard import manifest

FILE = Path(manifest.__file__).with_name("manifest.schema.json")
COMMAND = "python -m tools.manifest_schema"


def main() -> None:
    """Write the file, or with --check exit 1 where it is not what the code says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing")
    args = parser.parse_args()
    if not args.check:
        FILE.write_text(document())
        print(f"wrote {FILE}")
    elif not FILE.exists() or FILE.read_text() != document():
        sys.exit(f"{FILE} is not what the code says; write it anew: {COMMAND}")


def document() -> str:
    """The whole file."""
    schema = manifest.Manifest.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = f"reptile-agent bundle manifest, schema version {manifest.SCHEMA_VERSION}"
    return json.dumps(schema, indent=1) + "\n"


if __name__ == "__main__":
    main()
