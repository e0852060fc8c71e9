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


def status(*, estop: bool, stops: int) -> SafetyStatus:
    return SafetyStatus(estop=estop, limit_names=["workspace", "estop"], limit_counts=[7, stops])


def test_a_controller_that_was_started_again_while_it_was_stopped_is_stopped_again(stops):
    stops.arm_appears()
    stops.estop.stop("browser 1")
    stops.until(lambda: not stops.waits, "the arm has answered")
    stops.estop.hear(status(estop=True, stops=3))
    stops.estop.hear(status(estop=False, stops=0))  # what is latched died with the controller
    assert stops.waits
    stops.until(lambda: not stops.waits, "the new controller has answered")
    assert stops.asked == 2
    assert stops.estop.by == "browser 1"
    stops.estop.hear(status(estop=True, stops=1))
    stops.estop.hear(status(estop=False, stops=1))  # released
    stops.estop.hear(status(estop=False, stops=0))  # and started again
    assert not stops.waits


def test_a_stop_by_somebody_else_is_kept_up_as_well(stops):
    stops.arm_appears()
    stops.estop.hear(status(estop=True, stops=1))
    stops.estop.hear(status(estop=False, stops=0))
    stops.until(lambda: stops.asked == 1, "the new controller is asked")


def test_a_late_answer_is_none_to_the_stop_after_it(stops, monkeypatch):
    stops.arm_appears()
    answered = []
    on_answer = GraphEstop._on_answer
    monkeypatch.setattr(GraphEstop, "_on_answer", lambda self, *answer: answered.append(answer))
    stops.estop.stop("browser 1")
    stops.until(lambda: answered, "an answer, which is not taken in yet")
    stops.estop.hear(status(estop=True, stops=1))
    stops.estop.hear(status(estop=False, stops=1))  # released
    stops.estop.stop("browser 2")
    on_answer(stops.estop, *answered[0])
    assert stops.waits, "it goes on to ask"
