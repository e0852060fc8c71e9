# SPDX-License-Identifier: Apache-2.0
"""Which of several devices leads."""

from __future__ import annotations

from collections.abc import Sequence

from serl_teleop.devices.operator import Intent, Operator


def leader(operators: Sequence[Operator], intents: Sequence[Intent]) -> int | None:
    """Choose who leads, and overrule the others.

    Args:
        operators: the first one has the highest priority.
        intents: what is wanted by each of them.

    Returns:
        the index of the one that leads; None: none of them. One that was overruled has to be let go before it leads.
    """
    chosen: int | None = None
    for index, (operator, intent) in enumerate(zip(operators, intents, strict=True)):
        if not intent.phase.leads:
            continue
        if chosen is None:
            chosen = index
        else:
            operator.overrule()
    return chosen
