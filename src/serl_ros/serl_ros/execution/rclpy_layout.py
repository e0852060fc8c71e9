# SPDX-License-Identifier: Apache-2.0
"""Whether this rclpy is built the way that the fast executor knows.

What is asked for here is not part of rclpy's interface for users, and has changed between and within distributions.
"""

import inspect
import re
from typing import Any

from rclpy.client import Client
from rclpy.context import Context
from rclpy.impl import implementation_singleton
from rclpy.service import Service
from rclpy.waitable import NumberOfEntities, Waitable

# Class and method of the compiled half: how many arguments the fast executor gives.
_COMPILED = {
    ("WaitSet", "__init__"): 7,
    ("WaitSet", "clear_entities"): 0,
    ("WaitSet", "add_subscription"): 1,
    ("WaitSet", "add_timer"): 1,
    ("WaitSet", "add_client"): 1,
    ("WaitSet", "add_service"): 1,
    ("WaitSet", "add_guard_condition"): 1,
    ("WaitSet", "wait"): 1,
    ("WaitSet", "get_ready_entities"): 1,
    ("Subscription", "take_message"): 2,
    ("Timer", "is_timer_ready"): 0,
    ("Client", "take_response"): 1,
    ("Service", "service_take_request"): 1,
}
_PYTHON = {
    (Client, "get_pending_request"): 1,
    (Service, "send_response"): 2,
    (Waitable, "add_to_wait_set"): 1,
    (Waitable, "is_ready"): 1,
    (Waitable, "get_num_entities"): 0,
}
COUNTED = ("subscriptions", "guard_conditions", "timers", "clients", "services", "events")
"""What a wait set has room for, in the order of its arguments."""


def compiled() -> Any:
    """Return rclpy's compiled half, or None."""
    return getattr(implementation_singleton, "rclpy_implementation", None)


def difference(context: Context) -> str | None:
    """Return the first thing that this rclpy has otherwise than the fast executor needs it, or None.

    Args:
        context: an initialized one; an empty wait set is tried in it.
    """
    library = compiled()
    if library is None:
        return "no compiled half"
    for (class_name, name), given in _COMPILED.items():
        method = getattr(getattr(library, class_name, None), name, None)
        if method is None:
            return f"no {class_name}.{name}"
        taken = _arguments(method)
        if taken is not None and taken != given:
            return f"{class_name}.{name} takes {taken} arguments instead of {given}"
    if not (hasattr(library.Timer, "call_timer") or hasattr(library.Timer, "call_timer_with_info")):
        return "no Timer.call_timer"
    for (owner, name), given in _PYTHON.items():
        try:
            inspect.signature(getattr(owner, name)).bind(*range(given + 1))
        except (AttributeError, TypeError):
            return f"{owner.__name__}.{name} is missing or takes other arguments than {given}"
    for field in COUNTED[:-1]:
        if not hasattr(NumberOfEntities(), f"num_{field}"):
            return f"no NumberOfEntities.num_{field}"
    try:
        wait_set = library.WaitSet(0, 0, 0, 0, 0, 0, context.handle)
        wait_set.clear_entities()
        wait_set.get_ready_entities("subscription")
    except (AttributeError, TypeError, ValueError) as error:
        return f"a wait set cannot be made: {error}"
    return None


def _arguments(method: Any) -> int | None:
    """Return how many arguments a compiled method takes besides `self`; None where its documentation does not say."""
    signature = re.match(r"\w+\(self\b(.*)\)", (method.__doc__ or "").partition("\n")[0])
    return None if signature is None else len(re.findall(r"\barg\d*:", signature[1]))
