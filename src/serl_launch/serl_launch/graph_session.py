# SPDX-License-Identifier: Apache-2.0
"""A graph that a command starts for itself: its domain, its processes, and a node to talk to it."""

import math
import re
import shutil
import signal
import tempfile
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from serl_config.resources import find

from serl_launch import domain
from serl_launch.errors import CommandError, DomainTakenError
from serl_launch.needs import refuse_missing
from serl_launch.occupants import refuse_doubles
from serl_launch.ports import refuse_taken
from serl_launch.processes.events import Event, Message, OutputLine, ProcessExited, describe_code
from serl_launch.processes.runner import LaunchRunner

if TYPE_CHECKING:
    from serl_launch.clients.client_node import Client

LAUNCH_FILE = "sim.launch.xml"
ARM_LAUNCH_FILE = "real.launch.xml"
FLEET_LAUNCH_FILE = "fleet.launch.xml"
START_TIMEOUT = 60.0  # [s] until a node offers what it is there for
LOG_LINES = 12  # of a process, shown when it fails
CRASHES = 4  # of one process within CRASH_WINDOW, after which respawning it is no use
CRASH_WINDOW = 60.0  # [s]
_LAST_WORDS = re.compile(r"(?:fatal:|\[FATAL\](?: \[[^\]]*\]){0,2}:) *(\S.*)")
_WAITS = re.compile(r"^\[WARN\].*\]: (?:waiting for|paused by) ")
NOTICE_PERIOD = 30.0  # [s] between lines of nodes that say what they wait for
_SHUTDOWN = "shutting down: "  # how the launch runner begins to say why it ends


MetricsCallback = Callable[[str, int, dict[str, float]], None]


class _ServerDied(Exception):
    """The node that worked on a goal is gone, and the goal with it."""


class GraphSession:
    """Starts a launch file in a domain of its own and ends it, whatever happens in between.

    Used as a context manager. The processes start at once; ROS is imported here while they do the same. ``check`` must
    be called every 0.1 s or so while the graph runs, as ``tick`` of whatever waits.
    """

    def __init__(
        self,
        launch_file: str,
        arguments: Mapping[str, str],
        *,
        name: str,
        graph_id: str = "",
        log_dir: Path,
        run_dir: Path | str = "",
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Says what to start; nothing runs yet.

        Args:
            launch_file: name of a file in launch/.
            arguments: of the launch file.
            name: under which other commands find the graph.
            graph_id: that its nodes were given, which goals carry; empty: none.
            log_dir: gets the logs of the processes.
            run_dir: of the run it belongs to, empty when it has none.
            report: takes each line that a node logs as an error.
        """
        self._file = find(f"launch/{launch_file}")
        self._arguments = dict(arguments)
        self._name, self._run_dir, self._log_dir = name, run_dir, log_dir
        self._report = report
        self.graph_id = graph_id
        self._tails: dict[str, deque[str]] = {}  # process -> its last lines
        self._end = "nothing is left of it"
        self.unfinished: list[str] = []  # why nodes could not end as they should
        self._next_notice = time.monotonic() + NOTICE_PERIOD  # nodes wait for each other while they start
        self._deaths: list[tuple[float, ProcessExited]] = []
        self._client: Client | None = None
        self._metrics_callbacks: list[MetricsCallback] = []

    @property
    def domain_id(self) -> int:
        """ROS domain of the graph."""
        return self._domain.id

    @property
    def client(self) -> "Client":
        """A node in the graph, made when it is first asked for."""
        if self._client is None:
            from serl_launch.clients.client_node import Client

            self._client = Client()
            for callback in self._metrics_callbacks:
                self._client.on_metrics(callback)
        return self._client

    def on_metrics(self, callback: MetricsCallback) -> None:
        """Calls ``callback(node, env_steps, values)`` for each message on `metrics`."""
        self._metrics_callbacks.append(callback)
        if self._client is not None:
            self._client.on_metrics(callback)

    def __enter__(self) -> Self:
        refuse_missing(self._arguments)
        refuse_taken(self._arguments)
        shared = domain.environment_domain() is not None
        self._domain = domain.claim(self._name, self._run_dir)
        try:
            # After the domain is claimed: the environment of the processes is read here.
            self._runner = LaunchRunner(self._file, self._arguments, log_dir=self._log_dir, sink=self._on_event)
            if shared:
                refuse_doubles(self._runner.plan)
            self._runner.start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def check(self) -> None:
        """Lets the launch runner work.

        Raises:
            CommandError: the graph ended, or a process of it died for good.
        """
        alive = self._runner.poll()
        for died_at, death in self._deaths:
            count = sum(other.process == death.process and at > died_at - CRASH_WINDOW for at, other in self._deaths)
            if death.respawns and count < CRASHES:
                continue
            times = f" {count} times" if count > 1 else ""
            tail = self._tails.get(death.process, ())
            how = f"{death.process} ended by itself{times} ({describe_code(death.code)})"
            if reason := next(filter(None, map(_last_words, reversed(tail))), ""):
                raise CommandError(f"{reason} - {how}; log: {self._log_file}")
            raise CommandError(f"the graph broke: {how}; log: {self._log_file}", details=tail)
        if not alive:
            raise CommandError(f"the graph ended: {self._end}; log: {self._log_file}")

    def switch_on(self) -> None:
        """Lets the driver of the arm hold it, with torque, where it is: an arm that was found without stays so else.

        Raises:
            CommandError: there is no driver, or the arm does not do it; says why.
        """
        from serl_launch.clients.driver_node import bring

        bring(self.client, "hold", START_TIMEOUT, self.check, needed=False)

    def deaths(self, executable: str) -> int:
        """How often processes of this executable have died by themselves; those that respawn are alive again."""
        return sum(death.process.startswith(f"{executable}-") for _, death in self._deaths)

    def run_action(
        self,
        action_type: Any,
        name: str,
        goal: Any,
        *,
        executable: str,
        on_feedback: Callable[[Any], None],
        tick: Callable[[], None] = lambda: None,
    ) -> Any:
        """Sends a goal and waits for its result. If its node dies and comes back, the goal is sent again.

        It is sent under one identifier, so that a node that has it already goes on with it, and with the identifier of
        this graph, so that nobody else's node takes it.

        Args:
            action_type: of the action.
            name: relative name of the action.
            goal: message of the Goal type, with a `graph_id`.
            executable: of the node that serves it.
            on_feedback: called with each feedback message.
            tick: called at least ten times a second.

        Raises:
            CommandError: the action never came up (says which node is missing and what it last logged), the goal was
                refused, or the graph broke.
        """
        from serl_launch.clients.action_call import ACCEPT_TIMEOUT, ActionCall, ContactLost, GoalLost, new_goal_id

        def watch() -> None:
            self.check()
            tick()

        def watch_server() -> None:
            watch()
            if self.deaths(executable) > deaths:
                raise _ServerDied

        goal.graph_id = self.graph_id
        goal_id, accept_timeout = new_goal_id(), ACCEPT_TIMEOUT
        while True:
            deaths = self.deaths(executable)
            call = ActionCall(self.client, action_type, name, goal_id=goal_id, report=self._report)
            try:
                if not self.client.spin_until(call.server_is_ready, START_TIMEOUT, watch):
                    raise self.missing(f"the action {call.name}", START_TIMEOUT)
                return call.run(goal, on_feedback=on_feedback, tick=watch_server, accept_timeout=accept_timeout)
            except ContactLost:
                self._report(f"no contact with {executable}; joining the graph anew to ask for the result")
                accept_timeout = math.inf
                self._leave()
            except (_ServerDied, GoalLost):
                accept_timeout = ACCEPT_TIMEOUT
                self._report(f"{executable} died and is started again; sending the goal again")
                # A new participant knows only the living; this one would talk to the dead until their lease ends.
                self._leave()

    def missing(self, what: str, waited: float) -> CommandError:
        """The error for something that did not come up: names the nodes that are not there and shows their last lines.

        Args:
            what: was waited for.
            waited: for how long [s].
        """
        nodes = self.client.node.get_node_names_and_namespaces()
        found = {f"{namespace.rstrip('/')}/{name}" for name, namespace in nodes}
        absent = [spec for spec in self._runner.plan.processes if spec.node and spec.node not in found]
        details = []
        for spec in absent or self._runner.plan.processes:
            lines = self._tails.get(spec.name, ())
            details += [f"--- {spec.name}{'' if lines else ': no output'}", *lines]
        names = f"; not up: {', '.join(str(spec.node) for spec in absent)}" if absent else "; all nodes are up"
        return CommandError(f"waited {waited:.0f} s for {what}{names}; log: {self._log_file}", details=details)

    @property
    def _log_file(self) -> Path:
        return self._log_dir / "launch.log"

    def _on_event(self, event: Event) -> None:
        if isinstance(event, OutputLine):
            self._tails.setdefault(event.process, deque(maxlen=LOG_LINES)).append(event.text)
            if event.text.startswith(("[ERROR]", "[FATAL]")):  # "fatal:" becomes the error of the command
                self._report(str(event))
            elif _WAITS.search(event.text) and time.monotonic() >= self._next_notice:
                self._next_notice = time.monotonic() + NOTICE_PERIOD
                self._report(str(event))
        elif isinstance(event, Message) and event.text.startswith(_SHUTDOWN):
            self._end = event.text.removeprefix(_SHUTDOWN)
        elif isinstance(event, ProcessExited) and not event.expected:
            self._deaths.append((time.monotonic(), event))
        elif isinstance(event, ProcessExited) and event.code == 1:  # it was told to end, and could not do all it must
            tail = self._tails.get(event.process, ())
            self.unfinished.append(next(filter(None, map(_last_words, reversed(tail))), f"{event.process} failed"))

    def _leave(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def _stop(self) -> None:
        """Ends client, processes and domain. A signal during that makes it harder instead of leaving things behind."""
        runner = getattr(self, "_runner", None)
        with _on_signals(lambda: runner.hasten() if runner is not None else None):
            if runner is not None and runner.running:
                runner.shutdown()
                runner.poll()  # the processes end while we leave the graph
            try:
                self._leave()
            finally:
                if runner is not None:
                    runner.close()
                self._domain.release()


def _last_words(line: str) -> str:
    """What a node says before it gives up, without how it was logged; empty for any other line."""
    match = _LAST_WORDS.match(line)
    return match[1] if match else ""


@contextmanager
def _on_signals(action: Callable[[], None]) -> Iterator[None]:
    """Calls `action` for SIGINT and SIGTERM; a terminal that is closed sends SIGHUP more than once, and no haste."""
    previous = {number: signal.signal(number, lambda *_: action()) for number in (signal.SIGINT, signal.SIGTERM)}
    previous[signal.SIGHUP] = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def scratch_folder(prefix: str) -> Iterator[Path]:
    """A folder that is deleted at the end, unless an error came that its logs explain."""
    folder, explains = Path(tempfile.mkdtemp(prefix=prefix)), False
    try:
        yield folder
    except CommandError as error:
        explains = not isinstance(error, DomainTakenError)  # then nothing was started
        raise
    finally:
        if not explains:
            shutil.rmtree(folder)


def simulated(
    console: Console,
    *,
    name: str,
    task: str,
    seed: int,
    rtf: float,
    viewer: bool,
    run_dir: Path,
    log_dir: Path,
    actors: int = 1,
    **arguments: str,
) -> GraphSession:
    """The graph on a simulated world, or that of several arms, each in a world of its own.

    Args:
        console: gets what nodes log as errors.
        name: under which other commands find the graph.
        task: to do.
        seed: of everything random.
        rtf: real-time factor; 0: lockstep.
        viewer: whether MuJoCo's window opens.
        run_dir: of the learner.
        log_dir: gets the logs of the processes.
        actors: how many arms there are. Several serve `train` together, by the node `fleet`.
        arguments: of the launch file, beyond these.

    Raises:
        CommandError: the task's world is one of others, and not set up, or has no window.
    """
    from serl_launch.worlds import world_arguments

    own = {**world_arguments(task, viewer=viewer), "real_time_factor": f"{rtf:g}", **arguments}
    launch_file = LAUNCH_FILE if actors == 1 else FLEET_LAUNCH_FILE
    if actors > 1:
        own["actors"] = str(actors)
    return _learning_graph(
        launch_file, console, name=name, task=task, seed=seed, run_dir=run_dir, log_dir=log_dir, arguments=own
    )


def around_arm(
    console: Console,
    *,
    name: str,
    task: str,
    seed: int,
    hardware: str,
    run_dir: Path,
    log_dir: Path,
    **arguments: str,
) -> GraphSession:
    """The graph around the driver of the task's robot, without a console of its own.

    Args:
        console: gets what nodes log as errors.
        name: under which other commands find the graph.
        task: to do.
        seed: of everything random.
        hardware: `real`, or `emulated`.
        run_dir: of the learner.
        log_dir: gets the logs of the processes.
        arguments: of the launch file, beyond these.
    """
    from serl_tasks import get_task

    own = {"driver": get_task(task).robot, "hardware": hardware, "console": "false", **arguments}
    return _learning_graph(
        ARM_LAUNCH_FILE, console, name=name, task=task, seed=seed, run_dir=run_dir, log_dir=log_dir, arguments=own
    )


def _learning_graph(
    launch_file: str,
    console: Console,
    *,
    name: str,
    task: str,
    seed: int,
    run_dir: Path,
    log_dir: Path,
    arguments: Mapping[str, str],
) -> GraphSession:
    graph_id = uuid.uuid4().hex
    common = {"graph_id": graph_id, "task": task, "seed": str(seed), "run_dir": str(run_dir.absolute())}

    def report(line: str) -> None:
        console.print(line, style="yellow", markup=False, highlight=False, soft_wrap=True)

    return GraphSession(
        launch_file,
        common | dict(arguments),
        name=name,
        graph_id=graph_id,
        run_dir=run_dir.absolute(),
        log_dir=log_dir,
        report=report,
    )
