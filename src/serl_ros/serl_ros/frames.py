# SPDX-License-Identifier: Apache-2.0
"""Names of frames where several arms share one TF tree's topics."""

from rclpy.node import Node

from serl_ros.parameters import declare


def declare_frame_prefix(node: Node) -> str:
    """Declare `frame_prefix` and return it: what stands before the name of each frame, as in robot_state_publisher.

    `/tf` is one topic for all, so a node in the namespace `/left` calls its frames `left/...`, if it is not told
    otherwise.

    Raises:
        ParameterError: it is no text.
    """
    default = "".join(f"{part}/" for part in node.get_namespace().split("/") if part)
    return declare(node, "frame_prefix", default, "Before the names of all frames. Default: the namespace, as in left/")
