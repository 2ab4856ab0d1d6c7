"""Transitions and parameters as messages, without a copy where there need be none."""

from __future__ import annotations

import array

from builtin_interfaces.msg import Time
import numpy as np
from rclpy.node import Node
from reptile_agent.onboard import parameters
from reptile_agent.transition import Transition
from reptile_agent_msgs.msg import Parameters
from reptile_agent_msgs.msg import Transition as TransitionMessage
from std_msgs.msg import Header


def stamp(node: Node) -> Time:
    """ROS time now, to stamp a message with: control goes by the steady clock alone."""
    return node.get_clock().now().to_msg()


def floats(values: np.ndarray) -> array.array:
    """A message's float32[] of an array."""
    return array.array('f', np.ascontiguousarray(values, np.float32).tobytes())


def transition_message(
    transition: Transition, header: Header, step: int, version: int, start_sha256: str
) -> TransitionMessage:
    """A one-lane transition as a message."""
    return TransitionMessage(
        header=header,
        step=step,
        first=bool(transition.first[0]),
        observation=floats(transition.obs[0]),
        action=floats(transition.action[0]),
        next_observation=floats(transition.next_obs[0]),
        reference=[] if transition.reference is None else floats(transition.reference[0]),
        reward=float(transition.reward[0]),
        parameters_version=version,
        start_sha256=start_sha256,
    )


def parameters_message(
    flat: np.ndarray, header: Header, version: int, start_sha256: str
) -> Parameters:
    """Parameters as a message that names its start and its own hash."""
    return Parameters(
        header=header,
        version=version,
        start_sha256=start_sha256,
        sha256=parameters.sha256(flat),
        data=floats(flat),
    )


def read_parameters(message: Parameters) -> np.ndarray:
    """The flat vector of a message.

    Raises:
        ValueError: it does not have the hash that the message says.
    """
    flat = np.frombuffer(message.data, np.float32)
    if parameters.sha256(flat) != message.sha256:
        raise ValueError('parameters do not have the sha256 that their message says')
    return flat
