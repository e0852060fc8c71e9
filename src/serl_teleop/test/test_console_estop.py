# SPDX-License-Identifier: Apache-2.0
import time

import pytest
from serl_teleop.console.graph_estop import GraphEstop
from std_srvs.srv import SetBool, Trigger

from serl_interfaces.msg import SafetyStatus


class Stops:
    """The e-stop of a page, and an arm that may be late, deaf or dead."""

    def __init__(self, ros):
        self.ros, self.notices, self.halts, self.asked = ros, [], 0, 0
        self.estop = GraphEstop(ros.node("console"), self.notices.append, self._halt)
        self._arm = ros.node("arm")

    def _halt(self):
        self.halts += 1

    def _on_stop(self, request, response):
        self.asked += 1
        assert request.data
        response.success = self.asked >= self.obeys
        return response

    def _on_release(self, _request, response):
        response.success, response.message = True, "e-stop is released"
        return response

    def arm_appears(self, obeys=1):
        """The arm's services are there from now on; it obeys when it is asked for the `obeys`-th time."""
        self.obeys = obeys
        self._arm.create_service(SetBool, "arm/estop", self._on_stop)
        self._arm.create_service(Trigger, "arm/reset_estop", self._on_release)

    def until(self, condition, what):
        def turn():
            self.estop.tick(time.monotonic())
            return condition()

        self.ros.spin_until(turn, what=what)

    @property
    def waits(self):
        return self.estop.waits(time.monotonic())


@pytest.fixture
def stops(ros):
    return Stops(ros)


def test_an_arm_that_is_not_there_yet_is_stopped_when_it_is(stops):
    stops.estop.stop("browser 1")
    assert stops.halts == 1
    assert stops.waits > 0.0
    stops.arm_appears()
    stops.until(lambda: not stops.waits, "the arm has answered")
    assert stops.asked == 1


def test_an_arm_that_does_not_obey_is_asked_again(stops):
    stops.arm_appears(obeys=3)
    stops.estop.stop("browser 1")
    stops.until(lambda: not stops.waits, "the arm has obeyed")
    assert stops.asked == 3


def test_it_is_told_who_was_first(stops):
    stops.arm_appears()
    stops.estop.stop("browser 1")
    stops.until(lambda: not stops.waits, "the arm has answered")
    stops.estop.hear(SafetyStatus(estop=True))
    stops.estop.stop("a browser at 127.0.0.1")
    assert stops.estop.by == "browser 1"
    assert stops.notices == ["e-stop by browser 1"]
    stops.estop.hear(SafetyStatus(estop=True))
    stops.estop.hear(SafetyStatus(estop=False))
    assert stops.estop.by == ""


def test_what_is_not_stopped_yet_is_not_released(stops):
    stops.estop.stop("browser 1")
    stops.estop.release("browser 2")
    assert "not released" in stops.notices[-1]
    stops.arm_appears()
    stops.until(lambda: not stops.waits, "the arm has answered")
    stops.until(lambda: stops.estop.release("browser 2") or "e-stop is released" in stops.notices[-1], "it is released")


def test_nobody_is_stopped_whom_nobody_can_ask(stops):
    stops.estop.release("browser 1")
    assert "nobody offers" in stops.notices[-1]
