# SPDX-License-Identifier: Apache-2.0
"""Fixtures for every package's tests: a ROS domain of its own per test, nodes in it, and processes that always end.

def test_the_arm_answers(ros, processes):
    processes.start("ros_executable", "--ros-args", ...)
    messages = []
    ros.node().create_subscription(ArmState, "arm/state", messages.append, 1)
    ros.spin_until(lambda: messages)
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from documented_pages import Checkout
    from rclpy.node import Node
    from serl_feetech.emulated.pseudo_terminal import PseudoTerminal

# A machine that is busy with other tests is slow now and then.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

ROOT = Path(__file__).resolve().parent
# Above what a person uses by hand, below the ids whose ports leave the range that is free everywhere.
DOMAIN_IDS = range(60, 100)
STOP_TIMEOUT = 5.0  # [s] that a process has to end after SIGINT
LEAVE_TIMEOUT = 30.0  # [s] after which a test that has ended must be out of its ROS domain

MOST_MAPPINGS = 25_000  # of memory in this process, before compiled functions are forgotten


@pytest.fixture(scope="module", autouse=True)
def _forget_what_was_compiled() -> Iterator[None]:
    """Keep this process below the kernel's limit of memory mappings (vm.max_map_count, 65,530 by default).

    Each function that JAX compiles takes some tens to hundreds of them, and beyond the limit the compiler crashes.
    """
    yield
    mappings = Path("/proc/self/maps")
    if "jax" not in sys.modules or not mappings.exists():
        return
    if mappings.read_bytes().count(b"\n") > MOST_MAPPINGS:
        sys.modules["jax"].clear_caches()
        gc.collect()


@pytest.fixture
def terminal() -> Iterator[PseudoTerminal]:
    """An emulated SO-101 of six servos at a pseudo-terminal."""
    from serl_feetech.emulated.bus import EmulatedBus
    from serl_feetech.emulated.pseudo_terminal import PseudoTerminal
    from serl_feetech.emulated.servo import EmulatedServo

    with PseudoTerminal(EmulatedBus([EmulatedServo(number) for number in range(1, 7)])) as served:
        yield served


@pytest.fixture
def calibration(tmp_path: Path) -> Path:
    """The calibration file of an SO-101."""
    from serl_feetech.arm import SO_ARM
    from serl_feetech.calibration import ServoCalibration, write_calibration

    path = tmp_path / "arm.json"
    servos = {name: ServoCalibration(number, 0, 0, 847, 3247) for number, name in enumerate(SO_ARM, start=1)}
    write_calibration(path, servos)
    return path


@pytest.fixture
def a_thousand_files() -> Iterator[None]:
    """Open so many files in this process that the next one has a descriptor above 1023, which select.select lacks."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2000:
        pytest.skip(f"needs 2000 open files, and {hard} are allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2000), hard))
    files = []
    try:
        while not files or files[-1] < 1100:
            files.append(os.open(os.devnull, os.O_RDONLY))
        yield
    finally:
        for file in files:
            os.close(file)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class _HasClose(Protocol):
    def close(self) -> object: ...


_Closes = TypeVar("_Closes", bound=_HasClose)


class Ros:
    """Nodes of one test, in a context and a domain of their own, spun by the test itself."""

    def __init__(self, domain_id: int) -> None:
        import rclpy
        from rclpy.executors import SingleThreadedExecutor

        self.domain_id = domain_id
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain_id)
        self.executor = SingleThreadedExecutor(context=self.context)
        self._nodes: list[Node] = []

    def node(self, name: str = "test", **options: Any) -> Node:
        """Return a new node that `spin_until` serves; `options` are those of `rclpy.node.Node`."""
        import rclpy

        return self.add(rclpy.create_node(name, context=self.context, **options))

    def add(self, node: Node) -> Node:
        """Serve a node that was made elsewhere (with `context=ros.context`), and destroy it with the others."""
        self._nodes.append(node)
        self.executor.add_node(node)
        return node

    def spin_until(
        self, condition: Callable[[], object], timeout: float = 30.0, what: str | Callable[[], str] = ""
    ) -> None:
        """Serve callbacks until `condition()` is true; fail the test after `timeout` [s].

        Args:
            condition: looked at after each callback.
            timeout: [s].
            what: is waited for; a function is asked when it has not come, so that it tells what was said meanwhile.
        """
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                text = what() if callable(what) else what
                pytest.fail(f"nothing after {timeout:g} s: waited for {text or 'a condition'}")
            self.executor.spin_once(timeout_sec=0.05)

    def close(self) -> None:
        """Destroy the nodes, their action clients and servers as well, and leave the domain."""
        import rclpy
        from rclpy.action import ActionClient, ActionServer

        self.executor.shutdown()
        for node in self._nodes:
            node.destroy_node()
            for waitable in [*node.waitables]:
                if isinstance(waitable, ActionClient | ActionServer):  # which are left where the node does not do it
                    waitable.destroy()
        rclpy.shutdown(context=self.context)


class Process:
    """A process group that a test started; `output()` is what it wrote so far, errors included."""

    def __init__(self, command: list[str], log: Path, environment: Mapping[str, str]) -> None:
        self.command = command
        self._log = log
        # The kernel ends the child with us, even when pytest itself is killed.
        with log.open("wb") as output:
            self._popen = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs; negative is the signal that ended it."""
        return self._popen.poll()

    def wait(self, timeout: float = 30.0) -> int:
        """Wait for the end and return the exit code."""
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            pytest.fail(f"{' '.join(self.command)} still runs after {timeout:g} s:\n{self.output()[-4000:]}")

    def send(self, signal_number: int) -> None:
        """Send a signal to the process alone, as `kill PID` does."""
        self._popen.send_signal(signal_number)

    def stop(self) -> int:
        """End the whole group: SIGINT, and SIGKILL for what is left of it. Return the exit code."""
        self._signal_group(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(STOP_TIMEOUT)
        self._signal_group(signal.SIGKILL)
        return self._popen.wait()

    def _signal_group(self, signal_number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal_number)


class Processes:
    """Starts processes for one test and ends them with it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: list[Process] = []

    def start(self, *command: str | os.PathLike[str], env: Mapping[str, str] | None = None) -> Process:
        """Start a command, with `env` on top of the test's environment."""
        words = [os.fspath(word) for word in command]
        log = self._folder / f"process_{len(self._processes)}.log"
        process = Process(words, log, {**os.environ, **(env or {})})
        self._processes.append(process)
        return process

    def stop(self) -> None:
        """End all of them, the youngest first."""
        for process in reversed(self._processes):
            process.stop()


@pytest.fixture
def ros_domain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[int]:
    """A ROS domain id that nobody else on this machine has, in the environment of this test and of its children."""
    from serl_launch.domain import used_domains

    for domain_id in DOMAIN_IDS:
        lock = open(Path(tempfile.gettempdir()) / f"ros_domain_{domain_id}.lock", "w")  # noqa: SIM115, PTH123
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        if domain_id in used_domains(own=False):  # by what is left of other tests, or by a person
            lock.close()
            continue
        monkeypatch.setenv("ROS_DOMAIN_ID", str(domain_id))
        monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET")  # the profile keeps to the loopback interface
        monkeypatch.setenv("ROS_LOG_DIR", str(tmp_path / "ros_log"))
        for name in ("FASTDDS", "FASTRTPS"):  # Fast DDS 3 (Kilted) and 2 (Jazzy)
            monkeypatch.setenv(f"{name}_DEFAULT_PROFILES_FILE", str(ROOT / "config" / "fastdds.xml"))
        with lock:
            yield domain_id
            _leave(domain_id)
        return
    pytest.fail(f"all ROS domain ids {DOMAIN_IDS.start}..{DOMAIN_IDS.stop - 1} are in use by other tests")


def _leave(domain_id: int) -> None:
    """Wait until nobody is in the domain of a test that has ended: the next test takes it, and would meet them there.

    A node that a test did not destroy stays for as long as Python keeps it, and processes take a moment to die.
    """
    from serl_launch.domain import used_domains

    deadline = time.monotonic() + LEAVE_TIMEOUT
    collected = False
    while domain_id in used_domains(own=False):
        if not collected:
            gc.collect()
            collected = True
        if time.monotonic() > deadline:
            pytest.fail(f"a node or process of this test is in ROS domain {domain_id} still: destroy it, or end it")
        time.sleep(0.02)


@pytest.fixture
def opened(ros_domain: int) -> Iterator[Callable[[_Closes], _Closes]]:
    """Keeps what a test opens, and closes it however the test ends: `env = opened(GraphEnv("pick_cube"))`."""
    with contextlib.ExitStack() as stack:

        def keep(thing: _Closes) -> _Closes:
            stack.callback(thing.close)
            return thing

        yield keep


@pytest.fixture
def ros(ros_domain: int) -> Iterator[Ros]:
    """Nodes in this process, in the test's own domain."""
    harness = Ros(ros_domain)
    yield harness
    harness.close()


@pytest.fixture
def processes(ros_domain: int, tmp_path: Path) -> Iterator[Processes]:
    """Processes in the test's own domain, which end with the test."""
    group = Processes(tmp_path)
    yield group
    group.stop()


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """A copy of the sources in which a page can be followed: `checkout.follow(ROOT / "docs/concepts.md")`."""
    from documented_pages import Checkout

    return Checkout(tmp_path / "checkout")


@pytest.fixture
def is_alive() -> Callable[[int], bool]:
    """Whether a process runs; one that has ended but was not collected does not."""

    def look(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
        except (FileNotFoundError, ProcessLookupError):
            return False

    return look


@pytest.fixture
def wait_until() -> Callable[..., None]:
    """`wait_until(condition, timeout)` looks until the condition holds, and fails if it never does."""

    def wait(condition: Callable[[], bool], timeout: float = 30.0) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    return wait


@pytest.fixture(autouse=True)
def environment_stays_as_it_was() -> Iterator[None]:
    """Take back what a test, or a command that it ran in this process, has set for later ones."""
    before = dict(os.environ)
    yield
    if dict(os.environ) != before:
        os.environ.clear()
        os.environ.update(before)


def pytest_configure() -> None:
    """Let SIGINT end the processes of the tests also where the tests run in a shell's background, which ignores it."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what starts processes as a graph test."""
    for item in items:
        if "processes" in getattr(item, "fixturenames", ()):
            item.add_marker("graph")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say of which optional packages the tests were left out: those that a reason to skip offers."""
    reasons = [str(report.longrepr) for report in terminalreporter.stats.get("skipped", ())]
    offered = [re.search(r"\./serl setup ((?:gym )?[\w-]+)", reason) for reason in reasons]
    left_out = Counter(found[1] for found in offered if found)
    if left_out:
        parts = ", ".join(f"{name} ({count})" for name, count in sorted(left_out.items()))
        terminalreporter.write_line(f"left out, as ./serl setup NAME has not brought it: {parts}")
