# SPDX-License-Identifier: Apache-2.0
"""Which graph a node belongs to: two that meet in one ROS domain must not learn from each other by mistake."""

GRAPH_ID = "Identifier of this graph; what carries another one is refused. Empty: takes part in any."
"""Description of the parameter `graph_id`."""


def belong_together(one: str, other: str) -> bool:
    """Whether two identifiers are of one graph; who has none takes part in any."""
    return not one or not other or one == other


def mismatch(theirs: str, ours: str) -> str:
    """Two identifiers that do not belong together, in words."""
    return f"graph {theirs!r}, this is graph {ours!r}; give each a ROS_DOMAIN_ID or a namespace of its own"
