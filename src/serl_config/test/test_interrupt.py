# SPDX-License-Identifier: Apache-2.0
import os
import signal
from collections.abc import Iterator

import pytest
from serl_config.interrupt import remember_interrupts, was_interrupted


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, signal.default_int_handler)
    remember_interrupts()  # forgets those of the test
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_is_raised_and_remembered() -> None:
    remember_interrupts()
    assert not was_interrupted()
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
    assert was_interrupted()
    remember_interrupts()
    assert not was_interrupted()


def test_who_handles_it_otherwise_goes_on_to() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    remember_interrupts()
    os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    assert not was_interrupted()
