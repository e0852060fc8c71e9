# SPDX-License-Identifier: Apache-2.0
"""Who counts as an arm of a fleet, and what becomes of the goals that it was given."""

from types import SimpleNamespace

import pytest
from action_msgs.msg import GoalStatus
from rclpy.task import Future
from serl_training.fleet import graph_arms, graph_remote_job
from serl_training.fleet.graph_arms import Arm, Arms, arms_among
from serl_training.fleet.graph_remote_job import ArmGone, RemoteJob
from serl_training.fleet.work import SharedCollection
from serl_training.link.learner_link import JobFailed

SERVICES = (
    "/train/_action/send_goal",  # the fleet's own
    "/arm_0/train/_action/send_goal",
    "/arm_0/evaluate/_action/send_goal",
    "/arm_1/evaluate/_action/send_goal",  # has no actor that trains
    "/lab/fleet/arms",  # another fleet
    "/lab/train/_action/send_goal",
    "/lab/arm_0/train/_action/send_goal",
    "/lab/arm_7/train/_action/send_goal",
    "/laboratory/train/_action/send_goal",
)


@pytest.mark.parametrize(
    ("root", "arms"), [("/", {"arm_0", "laboratory"}), ("/lab/", {"arm_0", "arm_7"}), ("/la/", set())]
)
def test_arms_are_those_one_step_below_the_namespace_that_are_no_fleets(root, arms):
    assert arms_among(SERVICES, root) == arms


class Server:
    """Both ends of an action: takes goals, and answers when a test says so."""

    def __init__(self):
        self.sent, self.asked, self.ids, self.cancelled = [], [], set(), 0

    def send_goal_async(self, _goal, feedback, uuid):
        self.feedback = feedback
        self.ids.add(bytes(uuid.uuid))
        self.sent.append(Future())
        return self.sent[-1]

    def get_result_async(self):
        self.asked.append(Future())
        return self.asked[-1]

    def cancel_goal_async(self):
        self.cancelled += 1

    def accept(self, accepted=True):
        names = ("get_result_async", "cancel_goal_async")
        self.sent[-1].set_result(SimpleNamespace(accepted=accepted, **{name: getattr(self, name) for name in names}))


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(value=100.0)
    monkeypatch.setattr(graph_remote_job.time, "monotonic", lambda: now.value)  # of the module time: for all
    return now


def test_a_goal_is_sent_again_under_one_identifier_until_it_is_answered(clock):
    server = Server()
    job = RemoteJob(server, "goal")
    clock.value += 2.5
    assert job.poll() is None
    assert (len(server.sent), len(server.ids)) == (2, 1)
    server.accept()
    assert job.poll() is None
    server.asked[0].set_result(SimpleNamespace(status=GoalStatus.STATUS_SUCCEEDED, result="done"))
    assert job.poll() == "done"


@pytest.mark.parametrize("taken_first", [True, False])
def test_a_goal_is_cancelled_even_if_it_is_not_taken_yet(clock, taken_first):
    server = Server()
    job = RemoteJob(server, "goal")
    if taken_first:
        server.accept()
        job.poll()
    job.cancel()
    if not taken_first:
        assert not server.cancelled
        server.accept()
        job.poll()
    assert server.cancelled == 1


def test_an_arm_that_never_answers_is_gone(clock):
    job = RemoteJob(Server(), "goal")
    clock.value += 10.5
    with pytest.raises(ArmGone, match="has not answered for 10 s"):
        job.poll()


def test_an_arm_that_refuses_is_left_out(clock):
    server = Server()
    job = RemoteJob(server, "goal")
    server.accept(accepted=False)
    with pytest.raises(ArmGone, match="refused"):
        job.poll()


def test_an_actor_that_was_started_anew_does_not_know_its_goal(clock):
    server = Server()
    job = RemoteJob(server, "goal")
    server.accept()
    job.poll()
    clock.value += 2.5  # without feedback: it is asked again
    job.poll()
    server.asked[-1].set_result(SimpleNamespace(status=GoalStatus.STATUS_UNKNOWN, result=None))
    with pytest.raises(ArmGone, match="started anew"):
        job.poll()


def test_an_arm_is_gone_that_falls_silent_and_not_one_that_is_heard(clock):
    server = Server()
    job = RemoteJob(server, "goal")
    server.accept()
    job.poll()
    for _ in range(5):
        clock.value += 4.0
        server.feedback(SimpleNamespace(feedback=SimpleNamespace(waiting="a person")))
        assert job.poll() is None
    assert job.waiting == "a person"
    clock.value += 6.5
    with pytest.raises(ArmGone, match="not been heard for 6 s"):
        job.poll()


def test_an_actor_is_asked_again_to_leave_a_goal_until_it_has(clock):
    server = Server()
    job = RemoteJob(server, "goal")
    server.accept()
    job.poll()
    job.cancel()
    for _ in range(3):
        clock.value += 1.1
        job.poll()
    assert server.cancelled >= 3


class Evaluation:
    """A work of one part, which is never over."""

    def __init__(self):
        self.given_back = 0

    def take(self, arm):
        return "part" if not self.given_back else None

    def give_back(self, arm, part):
        self.given_back += 1

    def is_over(self, busy, waiting):
        return False


@pytest.fixture
def arms(monkeypatch):
    monkeypatch.setattr(graph_arms, "log", lambda *_, **__: None)
    node = SimpleNamespace(get_namespace=lambda: "/", get_service_names_and_types=list)
    made = Arms(node, SimpleNamespace(spin_once=lambda _: None), lambda: None, lambda: False)
    made.look = lambda: None
    return made


def test_an_arm_that_fell_silent_with_a_job_is_told_to_leave_it_when_it_is_heard_again(arms, clock):
    server = Server()
    server.server_is_ready = lambda: True
    arm = arms.arms["arm_0"] = Arm("arm_0", {"train": server})
    work = Evaluation()

    def turn():
        arms._cancel_given_up()
        arms._turn(work, "train", lambda _arm, part: part, lambda _: None)

    turn()
    server.accept()
    turn()
    clock.value += 7.0
    turn()
    assert (arm.job, work.given_back, server.cancelled) == (None, 1, 1)
    clock.value += 2.0
    server.feedback(SimpleNamespace(feedback=SimpleNamespace(waiting="")))
    turn()
    assert server.cancelled == 2
    server.asked[-1].set_result(SimpleNamespace(status=GoalStatus.STATUS_CANCELED, result="left"))
    turn()
    clock.value += 2.0
    turn()
    assert server.cancelled == 2, "it has left it"


def test_what_was_wrong_in_one_job_does_not_end_the_next(arms):
    arm = arms.arms["arm_0"] = Arm("arm_0", {})
    arm.problem = "of an hour ago"
    arms.do(SimpleNamespace(is_over=lambda busy, waiting: True), "train", lambda _arm, part: part)
    assert not arm.problem


class Reason:
    """The service of an actor that says why it refused; answers at once."""

    def __init__(self, for_good, message):
        self.answer = SimpleNamespace(success=not for_good, message=message)

    def service_is_ready(self):
        return True

    def call_async(self, _request):
        future = Future()
        future.set_result(self.answer)
        return future


class Refusing(Server):
    """Refuses whatever it is asked for."""

    def server_is_ready(self):
        return True

    def send_goal_async(self, goal, feedback, uuid):
        super().send_goal_async(goal, feedback, uuid)
        self.accept(accepted=False)
        return self.sent[-1]


def turns(arms, work, clock, seconds, told):
    for _ in range(int(seconds / 0.5)):
        clock.value += 0.5
        if arms._turn(work, "train", lambda _arm, part: part, told.append):
            return


@pytest.mark.parametrize(("expected", "patience"), [(2, 1.0), (3, 31.0)])
def test_a_job_that_all_arms_refuse_fails_with_their_reasons_once_those_have_come_that_should(
    arms, clock, expected, patience
):
    for name, task in (("arm_0", "lift_bar"), ("arm_1", "stack")):
        arms.arms[name] = Arm(name, {"train": Refusing()}, Reason(True, f"this actor does {task}"))
    arms._expected, told = expected, []
    if expected == 3:
        turns(arms, SharedCollection(100), clock, patience - 2.0, told)  # the third may come yet
    with pytest.raises(JobFailed, match="arm_0: this actor does lift_bar; arm_1: this actor does stack"):
        turns(arms, SharedCollection(100), clock, 4.0, told)


def test_arms_that_are_busy_are_waited_for_and_named(arms, clock):
    arms.arms["arm_0"] = Arm("arm_0", {"train": Refusing()}, Reason(False, "another job is running"))
    told = []
    turns(arms, SharedCollection(100), clock, 60.0, told)
    assert "arm_0: another job is running" in told and not arms.arms["arm_0"].problem


def test_an_arm_that_refuses_for_good_keeps_no_other_from_working(arms, clock):
    arms.arms["arm_0"] = Arm("arm_0", {"train": Refusing()}, Reason(True, "this actor does stack"))
    server = Server()
    server.server_is_ready = lambda: True
    good = arms.arms["arm_1"] = Arm("arm_1", {"train": server})
    told = []
    turns(arms, SharedCollection(100), clock, 1.0, told)
    server.accept()
    turns(arms, SharedCollection(100), clock, 4.0, told)
    assert good.job is not None and arms.arms["arm_0"].problem == "this actor does stack"
    assert not any(told), "what one of several refuses is in the log and the diagnostics, not what is waited for"


def test_an_arm_that_works_after_all_is_not_counted_among_those_that_failed(arms, clock):
    first = Server()
    first.server_is_ready = lambda: True
    arms._expected = 2
    working = arms.arms["arm_0"] = Arm("arm_0", {"train": first})
    working.problem = "this actor does stack"  # until it was started again, for another task
    turns(arms, SharedCollection(100), clock, 1.0, [])
    first.accept()
    arms.arms["arm_1"] = Arm("arm_1", {"train": Refusing()}, Reason(True, "this actor does lift_bar"))
    turns(arms, SharedCollection(100), clock, 4.0, [])
    assert working.job is not None and arms.arms["arm_1"].problem


def test_who_waits_for_the_first_arm_is_told_so(arms, clock):
    told = []
    arms._spin = lambda condition: [condition() for _ in range(3)]
    arms.await_some(told.append)
    arms.arms["arm_0"] = Arm("arm_0", {})
    arms.await_some(told.append)
    assert told[0].startswith("waiting for an arm") and told[-1] == ""


class Actor(Server):
    """An arm that is there or not, collects as many steps as it is told, and loses its part when it goes."""

    def __init__(self):
        super().__init__()
        self.there, self.parts, self.goal = True, 0, None

    def server_is_ready(self):
        return self.there

    def send_goal_async(self, goal, feedback, uuid):
        super().send_goal_async(goal, feedback, uuid)
        if self.there:
            self.goal = goal
            self.parts += 1
            self.accept()
        return self.sent[-1]

    def end(self, env_steps):
        result = SimpleNamespace(termination_reason="goal", message="", env_steps=env_steps)
        self.asked[-1].set_result(SimpleNamespace(status=GoalStatus.STATUS_SUCCEEDED, result=result))
        self.goal = None


def test_arms_join_a_running_job_leave_it_and_come_back(arms, clock):
    """Two arms have the job; a third comes, and is given a part at once; it is killed, and comes back."""
    there = {f"arm_{number}": Actor() for number in range(3)}
    services = {f"/{name}/train/_action/send_goal": name for name in there}
    seen = {"arm_0", "arm_1"}
    arms._node.get_service_names_and_types = lambda: [(key, []) for key, name in services.items() if name in seen]
    del arms.look  # that of the class
    arms._node.create_client = lambda *_: None
    work, told = SharedCollection(1000), []

    def turn(seconds):
        for _ in range(int(seconds / 0.5)):
            clock.value += 0.5
            arms.look()
            for name, arm in arms.arms.items():
                arm.clients["train"] = there[name]
                if there[name].goal is not None and there[name].there:
                    there[name].feedback(SimpleNamespace(feedback=SimpleNamespace(waiting="")))
            assert not arms._turn(work, "train", lambda arm, part: (arm.name, part), told.append)

    def parts():
        return [actor.parts for actor in there.values()]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph_arms, "ActionClient", lambda *_: None)
        turn(1.0)
        assert parts() == [1, 1, 0]
        seen.add("arm_2")
        turn(1.0)
        assert parts() == [1, 1, 1] and there["arm_2"].goal == ("arm_2", 1000)
        there["arm_2"].there = False  # killed
        seen.remove("arm_2")
        turn(10.0)
        assert arms.arms["arm_2"].job is None and not arms.arms["arm_2"].there
        there["arm_2"].there = True
        seen.add("arm_2")
        turn(1.0)
        assert parts() == [1, 1, 2]
        there["arm_2"].end(env_steps=400)
        turn(1.0)
        assert parts() == [1, 1, 3], "its result counts, and it is given more"
    assert work.env_steps == 400 and not any(told)
