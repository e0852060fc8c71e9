# SPDX-License-Identifier: Apache-2.0
"""What a launch file starts, and with what: the semantics of upstream, as it was seen to behave."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from serl_launch.language.commands import ProcessSpec
from serl_launch.language.errors import LaunchError
from serl_launch.language.launch_plan import LaunchPlan, Log, Shutdown

MakePlan = Callable[..., LaunchPlan]


def node(plan: LaunchPlan) -> ProcessSpec:
    (process,) = plan.processes
    return process


def ros_arguments(process: ProcessSpec) -> list[str]:
    return list(process.command[1:])


def parameters(process: ProcessSpec) -> list[object]:
    return [yaml.safe_load(file.text) for file in process.files]


def logged(plan: LaunchPlan) -> list[str]:
    return [step.action.message for step in plan.steps if isinstance(step.action, Log)]


# --- nodes ---------------------------------------------------------------------------------------


def test_a_node_is_found_below_the_prefix_and_named_after_its_program(plan: MakePlan, prefix: Path) -> None:
    process = node(plan('<node pkg="robot" exec="driver"/>'))
    assert process.command == (str(prefix / "lib/robot/driver"), "--ros-args")
    assert process.name == "driver-1"
    assert process.node is None


def test_order_of_the_command_line(plan: MakePlan, tmp_path: Path) -> None:
    existing = tmp_path / "existing.yaml"
    existing.write_text("{}")
    process = node(
        plan(
            f"""
            <set_parameter name="use_sim_time" value="true"/>
            <node pkg="robot" exec="driver" name="left" namespace="arm"
                  args="--fast 'two words'" ros_args="--log-level info">
              <remap from="joint_states" to="$(var topic joints)"/>
              <param name="rate" value="50"/>
              <param from="{existing}"/>
              <param name="gains"><param name="p" value="1.0"/><param name="i" value="0.1"/></param>
              <remap from="a" to="b"/>
            </node>"""
        )
    )
    folder = tmp_path / "params"
    assert ros_arguments(process) == [
        *("--fast", "two words"),
        *("--ros-args", "--log-level", "info"),
        *("--ros-args", "-r", "__node:=left", "-r", "__ns:=/arm"),
        *("-p", "use_sim_time:=True"),
        *("--params-file", str(folder / "driver-1-0.yaml")),
        *("--params-file", str(existing)),
        *("--params-file", str(folder / "driver-1-1.yaml")),
        *("-r", "joint_states:=joints", "-r", "a:=b"),
    ]
    assert parameters(process) == [
        {"/arm/left": {"ros__parameters": {"rate": 50}}},
        {"/arm/left": {"ros__parameters": {"gains.p": 1.0, "gains.i": 0.1}}},
    ]
    assert process.node == "/arm/left"


@pytest.mark.parametrize(
    ("pushed", "own", "namespace"),
    [
        ([], None, None),
        ([], "", "/"),
        ([], "arm", "/arm"),
        ([], "/arm/", "/arm"),
        (["cell"], None, "/cell"),
        (["cell"], "arm", "/cell/arm"),
        (["cell", "table"], "arm", "/cell/table/arm"),
        (["cell", "/table"], "arm", "/table/arm"),
        (["cell"], "/arm", "/arm"),
        ([""], "arm", "/arm"),
        ([""], None, "/"),
        (["/"], None, "/"),
        (["cell", ""], None, "/cell"),
    ],
)
def test_namespaces_are_joined_or_replaced(
    plan: MakePlan, pushed: list[str], own: str | None, namespace: str | None
) -> None:
    pushes = "".join(f'<push_ros_namespace namespace="{name}"/>' for name in pushed)
    attribute = "" if own is None else f'namespace="{own}"'
    process = node(plan(f'{pushes}<node pkg="robot" exec="driver" name="n" {attribute}/>'))
    remaps = [] if namespace is None else ["-r", f"__ns:={namespace}"]
    assert ros_arguments(process) == ["--ros-args", "-r", "__node:=n", *remaps]


def test_without_a_full_name_parameters_go_to_every_node_of_the_process(plan: MakePlan) -> None:
    assert parameters(node(plan('<node pkg="robot" exec="driver" name="n"><param name="a" value="1"/></node>'))) == [
        {"/**": {"ros__parameters": {"a": 1}}}
    ]
    assert parameters(
        node(plan('<node pkg="robot" exec="driver" namespace="x"><param name="a" value="1"/></node>'))
    ) == [{"/**": {"ros__parameters": {"a": 1}}}]


def test_a_parameter_file_may_hold_substitutions_if_asked_to(plan: MakePlan, tmp_path: Path) -> None:
    existing = tmp_path / "existing.yaml"
    existing.write_text("/**: {ros__parameters: {text: $(var word)}}")
    tag = f'<node pkg="robot" exec="driver"><param from="{existing}" allow_substs="true"/></node>'
    assert parameters(node(plan(f'<let name="word" value="pick"/>{tag}'))) == [
        {"/**": {"ros__parameters": {"text": "pick"}}}
    ]


def test_parameters_for_all_nodes_end_with_their_group(plan: MakePlan) -> None:
    first, second = plan(
        """
        <set_parameter name="a" value="1.50"/>
        <group><set_parameter name="b" value="text"/><node pkg="robot" exec="driver"/></group>
        <node pkg="robot" exec="driver"/>"""
    ).processes
    assert ros_arguments(first) == ["--ros-args", "-p", "a:=1.5", "-p", "b:=text"]
    assert ros_arguments(second) == ["--ros-args", "-p", "a:=1.5"]


def test_remappings_for_all_nodes_come_first_and_end_with_their_group(plan: MakePlan) -> None:
    made = plan(
        """
        <set_remap from="/clock" to="$(var clock clock)"/>
        <group>
          <set_remap from="a" to="b"/>
          <set_remap from="c" to="d" if="false"/>
          <node pkg="robot" exec="driver"><remap from="a" to="own"/></node>
          <group forwarding="false"><node pkg="robot" exec="driver"/></group>
        </group>
        <group scoped="false"><set_remap from="e" to="f"/></group>
        <executable cmd="sh"/>
        <node pkg="robot" exec="driver"/>"""
    )
    assert [ros_arguments(process)[1:] for process in made.processes] == [
        ["-r", "/clock:=clock", "-r", "a:=b", "-r", "a:=own"],
        [],
        [],
        ["-r", "/clock:=clock", "-r", "e:=f"],
    ]


def test_process_attributes(plan: MakePlan) -> None:
    process = node(
        plan(
            """<node pkg="robot" exec="driver" exec_name="label" output="both" cwd="/tmp" on_exit="shutdown"
                     respawn="$(var again true)" respawn_delay="2" respawn_max_retries="3" launch-prefix="nice -n 5"
                     sigterm_timeout="1.5" sigkill_timeout="0"><env name="A" value="$(env HOME)"/></node>"""
        )
    )
    assert process.command[:3] == ("nice", "-n", "5")
    assert (process.name, process.output, process.cwd, process.required) == ("label-1", "both", "/tmp", True)
    assert (process.respawn, process.respawn_delay, process.respawn_max_retries) == (True, 2.0, 3)
    assert (process.sigterm_timeout, process.sigkill_timeout) == (1.5, 0.0)
    assert process.environment["A"] == "/home/somebody"


def test_defaults_of_process_attributes(plan: MakePlan) -> None:
    process = node(plan('<executable cmd="sh -c true"/>'))
    assert (process.name, process.output, process.cwd, process.required) == ("sh-1", "log", None, False)
    assert (process.respawn, process.respawn_delay, process.respawn_max_retries) == (False, 0.0, -1)
    assert (process.sigterm_timeout, process.sigkill_timeout) == (5.0, 5.0)


def test_stop_times_can_come_from_variables(plan: MakePlan) -> None:
    process = node(plan('<let name="sigterm_timeout" value="1"/><executable cmd="sh" sigkill_timeout="2"/>'))
    assert (process.sigterm_timeout, process.sigkill_timeout) == (1.0, 2.0)


def test_processes_are_numbered_in_the_order_of_their_start(plan: MakePlan) -> None:
    made = plan(
        """
        <timer period="1"><executable cmd="sh" name="last"/></timer>
        <executable cmd="sh" name="first"/><executable cmd="sh" name="left_out" if="false"/>
        <node pkg="robot" exec="driver"/>"""
    )
    assert [process.name for process in made.processes] == ["first-1", "driver-2", "last-3"]


def test_output_can_be_overridden_from_outside(
    plan: MakePlan, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    environment["OVERRIDE_LAUNCH_PROCESS_OUTPUT"] = "screen"
    assert node(plan('<executable cmd="sh" output="log"/>')).output == "screen"


def test_two_nodes_of_one_name_are_warned_about(plan: MakePlan) -> None:
    tag = '<node pkg="robot" exec="driver" name="n" namespace="x"/>'
    assert logged(plan(tag + tag)) == ["there are now two nodes with the name /x/n in this launch"]


# --- arguments, variables, environment -----------------------------------------------------------


def test_arguments_and_their_defaults(plan: MakePlan) -> None:
    content = '<arg name="a" default="1"/><arg name="b" default="$(var a)2"/><log message="$(var a) $(var b)"/>'
    assert logged(plan(content)) == ["1 12"]
    assert logged(plan(content, a="3")) == ["3 32"]
    assert plan(content, b="x").arguments == {"a": "1", "b": "x"}


def test_arguments_are_those_of_the_file_whatever_it_gives_to_one_that_it_includes(
    plan: MakePlan, write_launch: Callable[..., Path]
) -> None:
    write_launch('<arg name="a" default="inner"/><arg name="c" default="3"/>', "inner.launch.xml")
    content = """
        <arg name="a" default="1"/>
        <include file="$(dirname)/inner.launch.xml"><arg name="a" value="given"/></include>
    """
    assert plan(content, a="2").arguments == {"a": "2", "c": "3"}


def test_let_outlives_an_include_but_not_a_group(plan: MakePlan, write_launch: Callable[..., Path]) -> None:
    write_launch('<arg name="a"/><let name="b" value="$(var a)!"/><log message="$(dirname)"/>', "inner.launch.xml")
    made = plan(
        """
        <let name="x" value="outer"/>
        <include file="$(dirname)/inner.launch.xml"><arg name="a" value="given"/></include>
        <group><let name="x" value="inner"/><log message="$(var x)"/></group>
        <group scoped="false"><let name="y" value="kept"/></group>
        <log message="$(var a) $(var b) $(var x) $(var y)"/>"""
    )
    assert logged(made)[1:] == ["inner", "given given! outer kept"]


def test_dirname_is_that_of_the_included_file_only_within_it(
    plan: MakePlan, write_launch: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "sub").mkdir()
    write_launch('<log message="$(dirname)"/>', "sub/inner.launch.xml")
    made = plan('<include file="$(dirname)/sub/inner.launch.xml"/><log message="$(dirname)"/>')
    assert logged(made) == [str(tmp_path / "sub"), str(tmp_path)]


def test_a_group_without_forwarding_knows_only_what_it_keeps(plan: MakePlan) -> None:
    made = plan(
        """
        <let name="a" value="1"/><let name="b" value="2"/><set_env name="E" value="set"/>
        <set_parameter name="p" value="1"/><push_ros_namespace namespace="cell"/>
        <group forwarding="false"><keep name="c" value="$(var b)"/>
          <log message="$(var a gone) $(var b gone) $(var c) $(env E gone)"/>
          <node pkg="robot" exec="driver" name="n"/>
        </group>
        <log message="$(var a) $(var c gone) $(env E)"/>"""
    )
    assert logged(made) == ["gone gone 2 gone", "1 gone set"]
    assert ros_arguments(node(made)) == ["--ros-args", "-r", "__node:=n"]


def test_environment_is_scoped_by_groups_and_seen_by_processes(plan: MakePlan) -> None:
    made = plan(
        """
        <set_env name="A" value="1"/>
        <group><set_env name="A" value="2"/><unset_env name="HOME"/><executable cmd="sh"/></group>
        <executable cmd="sh"/>"""
    )
    first, second = (process.environment for process in made.processes)
    assert first["A"] == "2" and "HOME" not in first
    assert second["A"] == "1" and second["HOME"] == "/home/somebody"


def test_conditions_are_on_every_action(plan: MakePlan) -> None:
    made = plan(
        """
        <arg name="a" default="x" if="false"/><let name="b" value="x" unless="1"/>
        <include file="missing.xml" if="$(equals a b)"/>
        <group if="0"><log message="no"/></group>
        <log message="yes" unless="FALSE"/><executable cmd="not-looked-up" unless="true"/>
        """
    )
    assert logged(made) == ["yes"]
    assert not made.processes


# --- time and shutdown ---------------------------------------------------------------------------


def test_timers_fire_in_the_order_of_their_time(plan: MakePlan) -> None:
    made = plan(
        """
        <timer period="$(var later 2)"><log message="c"/></timer>
        <timer period="1"><log message="a"/><timer period="0.5"><log message="b"/></timer></timer>
        <timer period="2" cancel_on_shutdown="false"><log message="d"/></timer>
        <log message="now"/>"""
    )
    assert [(step.at, step.action.message) for step in made.steps if isinstance(step.action, Log)] == [
        (0.0, "now"),
        (1.0, "a"),
        (1.5, "b"),
        (2.0, "c"),
        (2.0, "d"),
    ]
    assert [step.cancel_on_shutdown for step in made.steps] == [True, True, True, True, False]


def test_a_timer_sees_the_variables_outside_of_its_group_as_upstream(plan: MakePlan) -> None:
    made = plan(
        """
        <group><let name="x" value="inner"/><timer period="1"><log message="$(var x)"/></timer></group>
        <let name="x" value="outer"/>"""
    )
    assert logged(made) == ["outer"]


def test_shutdown_with_and_without_reason(plan: MakePlan) -> None:
    made = plan('<shutdown reason="no $(var x more)"/><shutdown/>')
    assert [step.action for step in made.steps] == [Shutdown("no more"), Shutdown("asked for by the launch file")]


def test_nothing_is_written_by_planning(plan: MakePlan, tmp_path: Path) -> None:
    plan('<node pkg="robot" exec="driver"><param name="a" value="1"/></node>')
    assert not (tmp_path / "params").exists()


# --- errors --------------------------------------------------------------------------------------

NODE = '<node pkg="robot" exec="driver"'


@pytest.mark.parametrize(
    ("content", "tag", "message"),
    [
        ("<nod/>", "nod", "tag <nod> is not supported in <launch>, did you mean 'node'"),
        ("<node_container/>", "node_container", "not supported in <launch>"),
        ('<set_use_sim_time value="true"/>', "set_use_sim_time", "not supported in <launch>"),
        ('<node pkg="a" exec="b" nmae="c"/>', "node", "attribute 'nmae' is not supported here, did you mean 'name'"),
        ('<node pkg="a" exec="b" emulate_tty="true"/>', "node", "attribute 'emulate_tty' is not supported"),
        ('<executable cmd="a" shell="true"/>', "executable", "attribute 'shell' is not supported"),
        ('<node exec="b"/>', "node", "attribute 'pkg' is missing"),
        ('<log message="a" if="1" unless="1"/>', "log", "expected one of 'if' and 'unless', found both"),
        (f'{NODE}><param name="a" value="1" if="true"/></node>', "param", "attribute 'if' is not supported here"),
        (f"{NODE}><let name='a' value='b'/></node>", "let", "tag <let> is not supported in <node>"),
        ("<log message='a'>text</log>", "log", "text outside of attributes"),
        ('<log message="$(var x"/>', "log", "attribute 'message': expected .* at column"),
        ('<group if="false"><log message="$(nope)"/></group>', "log", r"\$\(nope ...\) is not supported"),
        ('<log message="$(var x)"/>', "log", "attribute 'message': .*no such argument"),
        ('<log message="a" if="maybe"/>', "log", "attribute 'if': expected true, 1, false or 0, found 'maybe'"),
        ('<arg name="a"/>', "arg", "argument 'a' has no default, give a:=VALUE"),
        (
            '<arg name="a" default="x"><choice value="y"/><choice value="z"/></arg>',
            "arg",
            "expected one of y, z, found 'x'",
        ),
        ('<let name="emulate_tty" value="true"/>', "let", "has a meaning for ros2 launch"),
        ('<node pkg="nothing" exec="driver"/>', "node", "package 'nothing' not found; looked in .*prefix"),
        ('<node pkg="robt" exec="driver"/>', "node", r"'robt' not found \(did you mean 'robot'\?\)"),
        (
            '<node pkg="robot" exec="drive"/>',
            "node",
            r"'drive' \(did you mean 'driver'\?\); looked in .*robot",
        ),
        ('<executable cmd="no-such-program-here"/>', "executable", "'no-such-program-here' not found on PATH"),
        ('<executable cmd=""/>', "executable", "expected a command"),
        ("<executable cmd=\"a '$(var x)'\"/>", "executable", "quotes cannot span a substitution"),
        (f'{NODE} name="a b"/>', "node", "'a b' is not a valid node name"),
        (f'{NODE} namespace="a//b"/>', "node", "'/a//b' is not a valid namespace"),
        ('<push_ros_namespace namespace="1a"/>', "push_ros_namespace", "not a valid namespace"),
        (f'{NODE} on_exit="restart"/>', "node", "attribute 'on_exit': expected 'shutdown', found 'restart'"),
        (f'{NODE} respawn_delay="-1"/>', "node", "'respawn_delay': expected a time of 0 s or more"),
        (f'{NODE} respawn_delay="$(var d)"/>', "node", "'respawn_delay': expected float"),
        (f'{NODE} respawn="perhaps"/>', "node", "attribute 'respawn': expected true or false"),
        (f'{NODE} output="file"/>', "node", "attribute 'output': expected one of log, screen"),
        (f'{NODE}><param name="a"/></node>', "param", "expected attribute 'value' or nested"),
        (f'{NODE}><param value="a"/></node>', "param", "expected attribute 'name' or 'from'"),
        (f'{NODE}><param from="a" name="b"/></node>', "param", "'from' stands alone"),
        (f'{NODE}><param name="a" value="1" type="double"/></node>', "param", "attribute 'type': expected one of str"),
        (f'{NODE}><param name="a" value="1.5" type="int"/></node>', "param", "attribute 'value': expected int"),
        (f'{NODE}><param name="a" value="1"><param name="b" value="1"/></param></node>', "param", "found both"),
        (f'{NODE}><param from="/no/such/file.yaml"/></node>', "param", "/no/such/file.yaml does not exist"),
        ('<set_remap from="" to="b"/>', "set_remap", "attribute 'from': expected the name of a topic"),
        ('<set_remap from="a" to="b c"/>', "set_remap", "attribute 'to': expected the name of a topic"),
        ('<set_remap from="a"/>', "set_remap", "attribute 'to' is missing"),
        ('<set_parameter name="a" value="[1, 2]"/>', "set_parameter", "a list does not pass through"),
        ('<include file="/no/such/file.xml"/>', "include", "cannot read launch file /no/such/file.xml"),
        ('<include file="x.launch.py"/>', "include", "only XML launch files"),
        ('<include file="$(dirname)/test.launch.xml"/>', "include", "files include each other"),
        ('<timer period="soon"/>', "timer", "expected float, found 'soon'"),
        ('<timer period="-1"/>', "timer", "expected a time of 0 s or more"),
        ('<group scoped="maybe"/>', "group", "attribute 'scoped': expected true or false"),
        ('<set_env name="a=b" value="c"/>', "set_env", "cannot be the name"),
    ],
)
def test_every_error_names_file_line_and_tag(
    plan: MakePlan, tmp_path: Path, content: str, tag: str, message: str
) -> None:
    with pytest.raises(LaunchError, match=message) as raised:
        plan(f"\n\n{content}")
    assert str(raised.value).startswith(f"{tmp_path}/test.launch.xml:3: <{tag}>: ")


def test_an_error_in_an_included_file_names_that_file(plan: MakePlan, write_launch: Callable[..., Path]) -> None:
    inner = write_launch('\n<log message="$(var x)"/>', "inner.launch.xml")
    with pytest.raises(LaunchError, match=f"^{inner}:2: <log>: "):
        plan('<include file="$(dirname)/inner.launch.xml"/>')


def test_an_included_file_must_be_given_its_arguments(plan: MakePlan, write_launch: Callable[..., Path]) -> None:
    write_launch('<arg name="a"/>', "inner.launch.xml")
    with pytest.raises(LaunchError, match=r"<include>: .*inner.launch.xml needs argument 'a'"):
        plan('<let name="a" value="1"/><include file="$(dirname)/inner.launch.xml"/>')


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<launch>", "not well-formed XML: no element found"),
        ("<launch></lunch>", "1: not well-formed XML: mismatched tag"),
        ("", "no element found"),
        ("<robot/>", "1: <robot>: expected <launch> as the outermost tag"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><launch/>', "1: a DOCTYPE is not supported"),
    ],
)
def test_files_that_are_no_launch_files(write_launch: Callable[..., Path], content: str, message: str) -> None:
    from serl_launch.language.elements import read_launch_file

    path = write_launch("")
    path.write_text(content)
    with pytest.raises(LaunchError, match=message):
        read_launch_file(path)


def test_an_argument_that_no_file_has_is_refused(plan: MakePlan, write_launch: Callable[..., Path]) -> None:
    write_launch('<arg name="inner" default="1"/>', "inner.launch.xml")
    content = '<arg name="task" default="x"/><include file="$(dirname)/inner.launch.xml"/>'
    plan(content, task="y", inner="2")
    with pytest.raises(LaunchError, match=r"test.launch.xml has no argument 'taks', did you mean 'task'\?"):
        plan(content, taks="y")
    with pytest.raises(LaunchError, match="has no argument 'zzz', it has inner, task"):
        plan(content, zzz="y")
