# SPDX-License-Identifier: Apache-2.0
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from serl_ros.diagnostics import Diagnostics
from serl_training.actor.graph_person import GraphPerson
from serl_training.env.episode import EpisodeDiscarded, EpisodeLeft
from std_srvs.srv import SetBool, Trigger

from serl_interfaces.msg import TeleopEvent


class Asked:
    """A person who says things to the actor's node."""

    def __init__(self, ros):
        self._ros, self._node = ros, ros.node("person")
        node = ros.node("actor")
        self.diagnostics = Diagnostics(node, period=0.05)
        self.actor = GraphPerson(node, rewind_steps=7)
        self.statuses = {}
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self._buttons = self._node.create_publisher(TeleopEvent, "teleop/event", 10)

    def _on_diagnostics(self, message):
        self.statuses |= {status.name: status.message for status in message.status}

    def until_status(self, wanted):
        self._ros.spin_until(lambda: self.statuses.get("actor: pause") == wanted)

    def call(self, kind, name, request):
        client = self._node.create_client(kind, name)
        self._ros.spin_until(client.service_is_ready)
        future = client.call_async(request)
        self._ros.spin_until(future.done)
        return future.result()

    def discard(self):
        return self.call(Trigger, "episode/discard", Trigger.Request())

    def pause(self, wanted):
        return self.call(SetBool, "episode/pause", SetBool.Request(data=wanted))

    def press(self, event, condition):
        """Once, when somebody hears it."""
        self._ros.spin_until(lambda: self._buttons.get_subscription_count() > 0)
        self._buttons.publish(TeleopEvent(event=event))
        self._ros.spin_until(condition)

    def press_until(self, event, condition):
        def pressed():
            self._buttons.publish(TeleopEvent(event=event))
            return condition()

        self._ros.spin_until(pressed)


@pytest.fixture
def asked(ros):
    return Asked(ros)


def leaves(actor):
    try:
        actor.check()
    except EpisodeLeft:
        return True
    return False


def test_a_discarded_episode_is_left_once_and_the_next_one_is_not(asked):
    assert not asked.discard().success
    asked.actor.begin()
    assert asked.discard().success
    assert [leaves(asked.actor), leaves(asked.actor)] == [True, False]
    asked.discard()
    asked.actor.begin()
    assert not leaves(asked.actor)


def test_a_pause_leaves_the_episode_and_lasts_until_it_is_taken_back(asked):
    asked.actor.begin()
    assert asked.pause(True).success
    assert leaves(asked.actor)
    asked.actor.end()
    assert asked.actor.paused
    assert asked.pause(False).success
    assert not asked.actor.paused


def test_whether_it_is_paused_is_told_also_while_no_job_runs(asked):
    asked.pause(True)
    asked.until_status("paused")
    asked.pause(False)
    asked.until_status("going on")


def test_a_pause_without_an_episode_leaves_none(asked):
    asked.pause(True)
    asked.actor.begin()
    assert not leaves(asked.actor)


def test_the_button_of_a_device_discards_too(asked):
    asked.actor.begin()
    asked.press_until(TeleopEvent.DISCARD, lambda: leaves(asked.actor))


def test_a_rewind_takes_back_the_newest_steps(asked):
    assert not asked.call(Trigger, "episode/rewind", Trigger.Request()).success
    asked.actor.begin()
    answer = asked.call(Trigger, "episode/rewind", Trigger.Request())
    assert answer.success and "newest 7 steps" in answer.message
    with pytest.raises(EpisodeDiscarded) as left:
        asked.actor.check()
    assert [left.value.first_void(length) for length in (0, 5, 7, 20)] == [0, 0, 0, 13]
    asked.actor.begin()
    asked.press_until(TeleopEvent.REWIND, lambda: leaves(asked.actor))


def test_two_rewinds_add_up_and_neither_takes_back_that_all_was_discarded(asked):
    asked.actor.begin()
    for _ in range(2):
        answer = asked.call(Trigger, "episode/rewind", Trigger.Request())
    assert "newest 14 steps" in answer.message
    with pytest.raises(EpisodeDiscarded) as left:
        asked.actor.check()
    assert left.value.steps == 14
    asked.discard()
    assert asked.call(Trigger, "episode/rewind", Trigger.Request()).message.startswith("a person discarded it")
    with pytest.raises(EpisodeDiscarded) as left:
        asked.actor.check()
    assert left.value.steps is None
    asked.call(Trigger, "episode/rewind", Trigger.Request())
    asked.discard()
    with pytest.raises(EpisodeDiscarded) as left:
        asked.actor.check()
    assert left.value.steps is None


def test_a_button_pauses_and_goes_on(asked):
    asked.actor.begin()
    asked.press(TeleopEvent.PAUSE, lambda: asked.actor.paused)
    assert leaves(asked.actor)
    asked.press(TeleopEvent.PAUSE, lambda: not asked.actor.paused)


def test_a_pause_takes_nothing_back_of_what_was_discarded(asked):
    asked.actor.begin()
    asked.discard()
    asked.pause(True)
    with pytest.raises(EpisodeDiscarded):
        asked.actor.check()


def test_an_episode_that_is_discarded_in_its_last_step_is_left(asked):
    asked.actor.begin()
    assert asked.discard().success
    with pytest.raises(EpisodeLeft, match="discarded"):
        asked.actor.end_by_itself()


def test_one_that_has_ended_is_not_discarded_any_more_and_nobody_is_told_so(asked):
    asked.actor.begin()
    asked.actor.end_by_itself()
    answer = asked.discard()
    assert (answer.success, answer.message) == (False, "no episode is running")
    asked.actor.begin()
    assert not leaves(asked.actor)


def test_a_pause_in_the_last_step_leaves_what_was_done(asked):
    asked.actor.begin()
    asked.pause(True)
    asked.actor.end_by_itself()
