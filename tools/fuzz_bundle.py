"""Fuzz what a robot reads: `python -m tools.fuzz_bundle manifest|rules|bundle [libFuzzer options]`.

Needs the extra `fuzz`; `make fuzz` runs all three for a bounded time. What is looked for is any end
but a bundle or a `BundleError`: another exception, a hang, a crash.

- `manifest`: bytes, or a changed good one, as `manifest.json`, in this process, guided by
  coverage;
- `rules`: bytes as a graph, through protobuf and `graph_rules`, likewise;
- `bundle`: a good bundle with bytes of one file changed and its hash made to fit, loaded whole,
  child and all: some a second only.
"""

from __future__ import annotations

import argparse
import importlib
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.fault_bundles import FAULTS, replace_file

atheris: Any = importlib.import_module("atheris")  # by name: it is in no extra that lint needs
with atheris.instrument_imports(include=["reptile_agent.onboard"]):
    from reptile_agent.onboard import graph_integers, graph_rules, manifest, trial_child
    from reptile_agent.onboard.bundle import Bundle, BundleError, parse_manifest
    from reptile_agent.onboard.interface import interfaces

SHIPPED = Path(__file__).parents[1] / "ros2_ws/src/reptile_agent/bundle/arm"
FILES = (*manifest.GRAPHS, *manifest.TENSORS)
Target = Callable[[bytes], None]


def main() -> None:
    """Fuzz one target; the exit code is libFuzzer's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=["manifest", "rules", "bundle"])
    parser.add_argument("--seconds", type=int, default=60, help="for how long")
    args, options = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        target, examples = TARGETS[args.target](Path(folder))
        corpus = Path(folder) / "corpus"
        corpus.mkdir()
        for i, example in enumerate(examples):
            (corpus / f"{i}").write_bytes(example)
        limits = [f"-max_total_time={args.seconds}", "-rss_limit_mb=2048", "-timeout=60"]
        limits += ["-len_control=0", "-reduce_inputs=0"]  # short inputs all change the same place
        largest = f"-max_len={2 * max(map(len, examples))}"
        atheris.Setup([sys.argv[0], *limits, largest, *options, str(corpus)], target)
        atheris.Fuzz()


def _manifest(_: Path) -> tuple[Target, list[bytes]]:
    good = (SHIPPED / "manifest.json").read_bytes()

    def target(data: bytes) -> None:
        provider = atheris.FuzzedDataProvider(data)
        if provider.ConsumeBool():
            document = json.loads(good)
            for _ in range(provider.ConsumeIntInRange(1, 4)):
                _change(document, provider)
            data = json.dumps(document).encode()
        try:
            interfaces(parse_manifest(Path("manifest.json"), data))
        except BundleError as error:
            _one_sentence(error)
        except ValueError as error:
            if "would take" not in str(error):
                raise

    return target, [good, *(bytes(range(i, i + 64)) for i in range(0, 192, 16))]


def _change(document: Any, provider: Any) -> None:
    """Put something else in some place of a JSON document."""
    while True:
        places = list(document) if isinstance(document, dict) else range(len(document))
        if not places:
            return
        place = provider.PickValueInList(list(places))
        if not isinstance(document[place], dict | list) or provider.ConsumeProbability() < 0.1:
            break
        document = document[place]
    text = provider.ConsumeUnicodeNoSurrogates(8)
    number = provider.ConsumeInt(9)
    junk = [None, [], {}, text, number, -1, 0, 1e308, float("nan"), [number] * 9, document[place]]
    if isinstance(document, dict) and provider.ConsumeBool():
        document[text] = document.pop(place)
    else:
        document[place] = provider.PickValueInList(junk)


def _rules(folder: Path) -> tuple[Target, list[bytes]]:
    protobuf = trial_child.onnx_protobuf()
    wanted = interfaces(Bundle.load(SHIPPED).manifest)["act.onnx"]
    inputs, outputs = ({n: list(s) for n, s in x.items()} for x in (wanted.inputs, wanted.outputs))

    def target(data: bytes) -> None:
        model = protobuf.ModelProto()
        try:
            model.ParseFromString(data)
        except Exception:  # protobuf's own refusal
            return
        checks = (
            graph_rules.check_structure,
            graph_rules.check_operators,
            graph_rules.check_constants,
            graph_integers.check_integers,
            lambda model: graph_rules.check_interface(model, inputs, outputs),
        )
        for check in checks:  # each on its own: the first shall not hide the others
            try:
                check(model)
            except graph_rules.GraphError as error:
                _one_sentence(error)

    examples = [(SHIPPED / name).read_bytes() for name in manifest.GRAPHS]
    for i, name in enumerate(("external data", "functions that double", "nested deep")):
        FAULTS[name](SHIPPED, folder / f"{i}")
        examples.append((folder / f"{i}" / "act.onnx").read_bytes())
    return target, examples


def _bundle(folder: Path) -> tuple[Target, list[bytes]]:
    copy = folder / "bundle"
    shutil.copytree(SHIPPED, copy)
    files = {name: (SHIPPED / name).read_bytes() for name in FILES}

    def target(data: bytes) -> None:
        provider = atheris.FuzzedDataProvider(data)
        name = provider.PickValueInList(list(FILES))
        changed = bytearray(files[name])
        for _ in range(provider.ConsumeIntInRange(1, 16)):
            at = provider.ConsumeIntInRange(0, len(changed) - 1)
            if provider.ConsumeBool():
                changed[at] = provider.ConsumeIntInRange(0, 255)
            else:
                changed[at : at + provider.ConsumeIntInRange(0, 8)] = provider.ConsumeBytes(4)
        replace_file(copy, name, bytes(changed))
        try:
            bundle = Bundle.load(copy)
        except BundleError as error:
            _one_sentence(error)
            if "was killed" in str(error) or "was not done" in str(error):
                print(f"the child died: {error}", file=sys.stderr)
        else:
            for graph in manifest.GRAPHS:
                bundle.session(graph)  # what the child let through must not end this process
        finally:
            replace_file(copy, name, files[name])

    return target, [bytes(range(i, i + 64)) for i in range(0, 192, 16)]


def _one_sentence(error: Exception) -> None:
    """What refuses a file is shown to people, and logged."""
    if "\n" in str(error) or len(str(error)) > 2000:
        raise AssertionError(f"no sentence for people: {error!r:.500}")


TARGETS: dict[str, Callable[[Path], tuple[Target, list[bytes]]]] = {
    "manifest": _manifest,
    "rules": _rules,
    "bundle": _bundle,
}


if __name__ == "__main__":
    main()
