# SPDX-License-Identifier: Apache-2.0
"""Several who send a person's actions at once: one is followed at a time."""

from controller_rig import BACK, FORWARD, PERIOD, Rig
from hypothesis import given, settings
from hypothesis import strategies as st
from serl_robots.control.arbitration import ActionInput, Person
from serl_robots.safety.source import Source

TIMEOUT = 0.2


def led(rig: Rig) -> list[float]:
    """What persons' commands did, since the last call: dx of each."""
    commands = [command for command in rig.commands if command.source is Source.HUMAN]
    rig.commands.clear()
    return [float(command.executed[0]) for command in commands if command.executed is not None]


def test_two_who_begin_at_the_same_time_do_not_interleave(paced: Rig) -> None:
    for _ in range(50):  # 0.5 s of two devices at 100 Hz
        paced.teleop(*FORWARD, sender="page")
        paced.teleop(*BACK, sender="device")
        paced.state()
    moved = led(paced)
    assert len(moved) > 3
    assert set(moved) == {1.0}
    assert paced.controller.leader.name == "page"
    assert paced.controller.unheard == 50

    paced.teleop(active=False, sender="page")  # lets go
    for _ in range(50):
        paced.teleop(*BACK, sender="device")
        paced.state()
    assert paced.controller.leader.name == "device"
    assert led(paced)[-1] == -1.0


def test_who_does_not_lead_cannot_stop_who_does(paced: Rig) -> None:
    for _ in range(50):
        paced.teleop(*FORWARD, sender="page")
        paced.teleop(active=False, sender="device")
        paced.state()
    assert len(led(paced)) > 3
    assert paced.controller.unheard == 0, "who rests wants nothing"


def test_who_falls_silent_is_followed_no_longer(paced: Rig) -> None:
    paced.teleop(*FORWARD, sender="page")
    paced.states(TIMEOUT - 0.05)
    paced.teleop(*BACK, sender="device")
    assert paced.controller.leader.name == "page"
    paced.states(0.1)
    paced.teleop(*BACK, sender="device")
    paced.states(PERIOD)
    assert paced.controller.leader.name == "device"


def test_a_higher_priority_takes_over_at_once_and_is_not_taken_over_from(paced: Rig) -> None:
    paced.teleop(*FORWARD, sender="scripted", synchronous=True, episode=1)
    paced.state()
    for _ in range(30):
        paced.teleop(*BACK, sender="device", priority=1)
        paced.teleop(*FORWARD, sender="scripted", synchronous=True, episode=1)
        paced.state()
    assert paced.controller.leader == ("device", 1)
    assert set(led(paced)[-2:]) == {-1.0}


def test_in_lockstep_nobody_waits_for_the_answer_of_who_is_not_followed(lockstep: Rig) -> None:
    lockstep.episode(1, human_expected=True)
    lockstep.teleop(*BACK, sender="device", priority=1)
    command = lockstep.policy(1, 0, *FORWARD)
    assert command is not None and command.source is Source.HUMAN


def test_the_persons_of_two_tasks_answer_by_turns(lockstep: Rig) -> None:
    for episode, sender in ((1, "forward"), (2, "backward"), (3, "forward")):
        lockstep.episode(episode, human_expected=True)
        lockstep.policy(episode, 0, *FORWARD)
        command = lockstep.teleop(*BACK, sender=sender, synchronous=True, episode=episode)
        assert command is not None and command.source is Source.HUMAN
        lockstep.state()


def test_a_device_that_repeats_itself_is_dead_whoever_else_sends(paced: Rig) -> None:
    for step in range(100):
        paced.teleop(*BACK, sender="stuck", stamp_ns=5)
        paced.teleop(active=False, sender="page", stamp_ns=100 + step)
        paced.state()
    assert len(led(paced)) <= 1 + round(TIMEOUT / PERIOD), "what its first message is good for"
    assert paced.controller.leader.name == ""


def test_a_device_that_died_while_another_one_led_does_not_lead_after_it(paced: Rig) -> None:
    for step in range(50):
        paced.teleop(*FORWARD, sender="page", stamp_ns=100 + step)
        paced.teleop(*BACK, sender="stuck", stamp_ns=5)
        paced.state()
    assert set(led(paced)) == {1.0}
    paced.teleop(active=False, sender="page", stamp_ns=200)  # lets go
    for _ in range(50):
        paced.teleop(*BACK, sender="stuck", stamp_ns=5)
        paced.state()
    assert led(paced) == [], "it said nothing new"
    for step in range(50):
        paced.teleop(*BACK, sender="stuck", stamp_ns=6 + step)
        paced.state()
    assert set(led(paced)) == {-1.0}, "it is alive again"


def test_no_flood_of_names_lets_a_dead_device_lead_on(paced: Rig) -> None:
    for step in range(50):
        paced.teleop(*FORWARD, sender="stuck", stamp_ns=5)
        for name in range(100):
            paced.teleop(*BACK, sender=f"{step} {name}", stamp_ns=7 + 100 * step + name)
        paced.state()
        if paced.controller.leader.name not in ("", "stuck"):
            break
    moved = led(paced)
    assert moved[-1] == -1.0, "another one is followed in the end"
    assert moved.count(1.0) <= 1 + round(TIMEOUT / PERIOD), "what its first message is good for"


def test_who_was_forgotten_among_many_names_says_nothing_new_by_its_old_message_and_something_by_the_next() -> None:
    person = Person(TIMEOUT)

    def repeats(sender: str, stamp_ns: int) -> bool:
        return person.repeats(ActionInput(0, 0, (), stamp_ns, sender=sender))

    assert not repeats("dead", 50)
    for name in range(100):
        assert not repeats(f"{name}", 10_000 + name)
    assert repeats("dead", 50), "its own stamp is forgotten"
    assert repeats("dead", 50)
    for name in range(100):
        repeats(f"others {name}", 20_000 + name)
    assert repeats("another clock", 7)
    assert not repeats("another clock", 8)
    assert not repeats("new", 30_000)


def test_who_has_let_go_leads_no_more_and_who_rests_does_not_lead_instead(lockstep: Rig) -> None:
    lockstep.episode(1, human_expected=True)
    lockstep.teleop(*BACK, sender="device", priority=1)
    lockstep.policy(1, 0, *FORWARD)
    assert lockstep.controller.leader == ("device", 1)
    for sender in ("device", "scripted"):  # the world stands until the next step, which nobody has led yet
        lockstep.teleop(active=False, sender=sender, synchronous=sender == "scripted", episode=1)
        assert lockstep.controller.leader == ("", 0)


MESSAGES = st.tuples(st.sampled_from("abc"), st.booleans(), st.integers(0, 2), st.sampled_from([0.0, 0.02, 0.1, 0.3]))


@settings(max_examples=100, deadline=None)
@given(st.lists(MESSAGES, max_size=40))
def test_the_sender_changes_only_when_it_may(messages: list[tuple[str, bool, int, float]]) -> None:
    timeout = 0.25  # no sum of the pauses, which are rounded
    person, now = Person(timeout), 0.0
    leader, leads_until, rank = "", -1.0, 0
    for sender, active, priority, pause in messages:
        now += pause
        message = ActionInput(0, 0, (), 0, active, False, sender, priority)
        is_free = not leader or now > leads_until
        may = is_free or sender == leader or (active and priority > rank)
        assert person.admits(message, now) == may
        if may:
            person.hear(message, now)
            leader, leads_until, rank = (sender, now + timeout, priority) if active else ("", -1.0, 0)
        leading = person.leading(now, by_answers=True)
        assert (leading.sender if leading else "") == (leader if now <= leads_until else "")
