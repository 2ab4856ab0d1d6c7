"""~/load_bundle: another bundle drives and adapts without a restart; a bad one changes nothing."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from played_robot import start_reference
from safetensors.numpy import load, save

from bench.fault_bundles import edit_manifest, replace_file
from bench.faults.nodes import bring_up, latched, statuses
from reptile_agent.onboard import parameters

NODES = ("policy_node", "adapter_node")
MORE_S = 0.2
"""Longest time between two commands on a busy machine; a control period is 0.04 s."""


def other_start(source: Path, folder: Path, manifest) -> str:
    """The bundle with another start, and graphs that no process has tried; its start_sha256."""
    shutil.copytree(source, folder)
    tensors = load((folder / "start.safetensors").read_bytes())
    moved = {name: tensor * np.float32(1.001) for name, tensor in tensors.items()}
    replace_file(folder, "start.safetensors", save(moved))
    for name in manifest.graphs:
        graph = onnx.load_model_from_string((folder / name).read_bytes())
        graph.doc_string = folder.name
        replace_file(folder, name, graph.SerializeToString())
    start = parameters.sha256(parameters.flatten(moved, manifest.parameters))
    edit_manifest(folder, lambda document: document.update(start_sha256=start))
    return start


@pytest.fixture
def bundles(arm_bundle, tmp_path) -> tuple[Path, str]:
    """A folder of bundles, one of which is good, and that one's start."""
    folder = tmp_path / "bundles"
    folder.mkdir()
    start = other_start(arm_bundle.path, folder / "second", arm_bundle.manifest)
    shutil.copytree(folder / "second", tmp_path / "outside")
    (folder / "link").symlink_to(tmp_path / "outside")
    # Their graphs are others: those of the good one are tried when that is loaded, not before.
    other_start(arm_bundle.path, folder / "cut", arm_bundle.manifest)
    shutil.copytree(folder / "cut", folder / "other")
    shutil.copytree(folder / "cut", folder / "loose")
    (folder / "cut" / "act.onnx").write_bytes(b"")
    edit_manifest(folder / "other", lambda d: d["robot"].update(name="other"))
    edit_manifest(folder / "loose", lambda d: d["robot"]["actions"][0].update(high=100.0))
    return folder, start


REFUSED = {
    "../outside": "is no name of a bundle",
    "link": "a link that leads out of it",
    "missing": "there is no bundle 'missing'",
    "cut": "act.onnx has 0 bytes",
    "other": "its robot is 'other', the present one 'arm'",
    "loose": "are looser than",
}


def test_a_bundle_is_swapped_live_and_a_bad_one_is_refused(start_node, peer, arm_bundle, bundles):
    from reptile_agent_msgs.msg import AdaptationStatus
    from reptile_agent_msgs.srv import LoadBundle
    from std_msgs.msg import Float64MultiArray
    from std_srvs.srv import Trigger

    folder, start = bundles
    first, sent_s = arm_bundle.manifest.start_sha256, []
    status, verdicts = statuses(peer), latched(peer, AdaptationStatus, "adapter_node/status")
    peer.node.create_subscription(
        Float64MultiArray,
        "forward_command_controller/commands",
        lambda _: sent_s.append(time.monotonic()),
        50,
    )
    start_node("reptile_agent_mujoco.mujoco_robot", publish_rate_hz=200.0)
    made = {name: start_node(f"reptile_agent_ros.{name}", bundles_folder=folder) for name in NODES}
    start_reference(start_node)
    for name in NODES:
        bring_up(peer, name)

    def ask(node: str, name: str) -> LoadBundle.Response:
        return peer.call(LoadBundle, f"{node}/load_bundle", LoadBundle.Request(name=name))

    def still_drives(sha256: str) -> None:
        ticks = status[-1].ticks
        peer.wait_for(lambda: status[-1].ticks > ticks + 10, "control periods", 2.0)
        assert status[-1].mode == "active"
        assert status[-1].parameters_version > 0 or status[-1].parameters_sha256 == sha256

    peer.wait_for(lambda: status[-1].parameters_version > 0, "adapted parameters", 30.0)
    for node in NODES:
        for name, sentence in REFUSED.items():
            answer = ask(node, name)
            assert not answer.success
            assert sentence in answer.message, name
            assert answer.start_sha256 == first
    still_drives(first)

    sent_s[:] = [time.monotonic()]
    answer = ask("policy_node", "second")
    assert (answer.success, answer.start_sha256) == (True, start), answer.message
    peer.wait_for(lambda: status[-1].parameters_sha256 == start, "the new start")
    assert status[-1].parameters_version == 0
    peer.wait_for(lambda: "the policy runs another bundle" in made["adapter_node"].output(), "a no")
    still_drives(start)
    longest_s = float(np.diff(sent_s).max())
    print(f"longest time between two commands: {1e3 * longest_s:.0f} ms, {len(sent_s)} commands")
    assert longest_s < MORE_S, "loading held control up"

    answer = ask("adapter_node", "second")
    assert (answer.success, answer.start_sha256) == (True, start), answer.message

    def learned() -> list:
        """Verdicts on the new start; before the first, one on the old may have been called off."""
        return [verdict for verdict in verdicts if verdict.in_use_sha256 == start]

    peer.wait_for(learned, "an adaptation of the new start", 20.0)
    assert learned()[0].window > 50, "what was remembered stays"
    peer.wait_for(lambda: status[-1].parameters_version > 0, "adapted parameters", 30.0)
    assert not ask("policy_node", "cut").success
    still_drives(start)
    assert peer.call(Trigger, "policy_node/rollback", Trigger.Request()).success
    assert "keeps adapted parameters out" in ask("policy_node", "second").message
    still_drives(start)
    for node in made.values():
        assert "Traceback" not in node.output()
