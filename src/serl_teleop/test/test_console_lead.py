# SPDX-License-Identifier: Apache-2.0
from hypothesis import given
from hypothesis import strategies as st
from serl_teleop.console.lead import DEAD_MAN, Jog, Lead

FORWARD, BACK = Jog({"dx": 1.0}), Jog({"dx": -1.0})


def test_who_holds_first_leads_and_the_other_hears_why_not():
    lead = Lead()
    assert lead.hold("browser 1", 1, FORWARD, 0.0) == ""
    assert lead.hold("browser 2", 1, BACK, 0.01) == "browser 1 leads"
    assert lead.current(0.02) == ("browser 1", FORWARD)


def test_who_was_refused_does_not_jump_in_when_the_other_lets_go():
    lead = Lead()
    lead.hold("browser 1", 1, FORWARD, 0.0)
    lead.hold("browser 2", 1, BACK, 0.01)
    lead.let_go("browser 1", 1)
    assert lead.hold("browser 2", 1, BACK, 0.02) == "browser 1 leads"
    assert lead.current(0.02) is None
    assert lead.hold("browser 2", 2, BACK, 0.03) == ""


def test_silence_ends_a_hold_and_late_messages_do_not_bring_it_back():
    lead = Lead()
    lead.hold("browser 1", 7, FORWARD, 0.0)
    assert lead.current(DEAD_MAN) is not None
    assert lead.current(DEAD_MAN + 1e-6) is None
    assert "press again" in lead.hold("browser 1", 7, FORWARD, DEAD_MAN + 0.01)
    assert lead.current(DEAD_MAN + 0.01) is None
    assert lead.hold("browser 1", 8, FORWARD, DEAD_MAN + 0.02) == ""


def test_silence_counts_although_nobody_asked_meanwhile():
    lead = Lead()
    lead.hold("browser 1", 1, FORWARD, 0.0)
    assert lead.hold("browser 1", 1, FORWARD, 1.0) != ""
    assert lead.hold("browser 2", 1, BACK, 1.0) == ""


def test_an_older_let_go_does_not_end_a_newer_hold():
    lead = Lead()
    lead.hold("browser 1", 2, FORWARD, 0.0)
    lead.let_go("browser 1", 1)
    assert lead.current(0.0) is not None


def test_who_leaves_leads_no_more():
    lead = Lead()
    lead.hold("browser 1", 1, FORWARD, 0.0)
    lead.leave("browser 1")
    assert lead.current(0.0) is None


def test_who_is_lost_has_not_let_go_until_a_finger_is_lifted_or_somebody_else_leads():
    lead = Lead()
    lead.hold("browser 1", 1, FORWARD, 0.0)
    lead.revoke("the arm is stopped")
    assert not lead.is_lost
    lead.hold("browser 1", 2, FORWARD, 0.0)
    assert lead.current(1.0) is None
    assert lead.is_lost
    lead.let_go("browser 2", 5)
    assert lead.is_lost, "somebody else's finger"
    lead.let_go("browser 1", 2)
    assert not lead.is_lost
    lead.hold("browser 1", 3, FORWARD, 1.0)
    lead.leave("browser 1")
    assert lead.is_lost
    lead.hold("browser 2", 6, BACK, 2.0)
    assert not lead.is_lost


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["hold", "let_go", "leave", "revoke", "refuse"]),
        st.sampled_from(["a", "b"]),
        st.integers(0, 3),
        st.floats(0.0, 0.3),
    ),
    max_size=40,
)


@given(STEPS)
def test_nobody_leads_who_has_not_just_said_so_in_a_hold_that_still_lasts(steps):
    lead, now = Lead(), 0.0
    heard: dict[tuple[str, int], float] = {}
    ended: set[tuple[str, int]] = set()
    numbers = {"a": 0, "b": 0}  # a new page, with numbers of its own, after each leaving
    for step, browser, number, wait in steps:
        now += wait
        key = f"{browser}{numbers[browser]}", number
        match step:
            case "hold":
                if lead.hold(*key, FORWARD, now) == "":
                    assert key not in ended
                    heard[key] = now
            case "let_go":
                lead.let_go(*key)
                ended |= {(key[0], old) for old in range(number + 1)}
            case "refuse":
                lead.refuse(*key, "old")
                ended |= {(key[0], old) for old in range(number + 1)}
            case "leave":
                lead.leave(key[0])
                numbers[browser] += 1
                ended |= {(key[0], old) for old in range(4)}
            case "revoke":
                lead.revoke("e-stop")
                ended |= {each for each, at in heard.items() if at == max(heard.values())}
        leads = lead.current(now)
        if leads is not None:
            newest = max(at for (name, _), at in heard.items() if name == leads[0])
            assert now - newest <= DEAD_MAN
            assert any(each not in ended for each in heard if each[0] == leads[0])
