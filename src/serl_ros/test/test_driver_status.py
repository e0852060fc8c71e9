# SPDX-License-Identifier: Apache-2.0
"""What a driver says of itself holds as long as the driver is there."""

from __future__ import annotations

from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from serl_ros.driver_status import DriverStatus
from serl_ros.qos import LATCHED

FAULT = DiagnosticStatus(
    level=DiagnosticStatus.ERROR, message="arm: fault: no cable", values=[KeyValue(key="state", value="fault")]
)


def test_the_word_of_a_driver_that_has_gone_holds_nobody_up(ros: Any) -> None:
    told: list[str] = []
    listening = DriverStatus(ros.node(), on_change=told.append)
    node = ros.node()
    driver = node.create_publisher(DiagnosticStatus, "driver/status", LATCHED)
    assert listening.problem == ""
    driver.publish(FAULT)
    ros.spin_until(lambda: listening.problem)
    assert listening.problem == (
        "the driver, which moves nothing: arm: fault: no cable; see to that, then ./serl driver connect"
    )
    node.destroy_publisher(driver)
    ros.spin_until(lambda: not listening.problem)
    assert told[-1] == "" and len(told) == 2

    driver = node.create_publisher(DiagnosticStatus, "driver/status", LATCHED)  # the next one speaks for itself
    driver.publish(FAULT)
    ros.spin_until(lambda: listening.problem)
    driver.publish(DiagnosticStatus(level=DiagnosticStatus.OK, message="arm: holding"))
    ros.spin_until(lambda: not listening.problem)
