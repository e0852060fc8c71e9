# SPDX-License-Identifier: Apache-2.0
"""Policies as anybody may have written them: what they say, and one line about what is wrong."""

from pathlib import Path

import pytest
from serl_security.policy import TAG_LIMIT, Access, PolicyError, in_namespace, load_policy

NODE = """<profile ns="/" node="common">
  <topics publish="ALLOW"><topic>/rosout</topic></topics>
  <services reply="ALLOW"><service>~/get_parameters</service></services>
</profile>"""
INCLUDE = '<xi:include href="common/node.xml" xpointer="xpointer(/profile/*)"/>'
ARM = f"""
    <profile ns="/" node="arm">{INCLUDE}
      <topics publish="ALLOW" subscribe="ALLOW"><topic>arm/state</topic><topic>*/seen</topic></topics>
      <actions execute="ALLOW"><action>arm/move_to</action></actions>
    </profile>
    <profile ns="/left" node="arm_of_*">{INCLUDE}
      <actions call="ALLOW"><action>arm/move_to</action></actions>
    </profile>"""


def written(folder: Path, profiles: str = ARM, *, before: str = "", version: str = "0.2.0") -> Path:
    """A policy with one enclave, and the file that it includes."""
    (folder / "common").mkdir(exist_ok=True)
    (folder / "common" / "node.xml").write_text(NODE)
    file = folder / "policy.xml"
    file.write_text(
        f'<?xml version="1.0"?>{before}\n<policy version="{version}" xmlns:xi="http://www.w3.org/2001/XInclude">'
        f'<enclaves><enclave path="/arm"><profiles>{profiles}</profiles></enclave></enclaves></policy>'
    )
    return file


def test_names_are_relative_to_the_namespace_of_their_profile_and_nodes(tmp_path: Path) -> None:
    (enclave,) = load_policy(written(tmp_path))
    assert enclave.path == "/arm"
    assert enclave.nodes == ("arm", "left/arm_of_*")
    assert enclave.publish == ("/rosout", "arm/state", "*/seen")
    assert enclave.subscribe == ("arm/state", "*/seen")
    assert enclave.reply == ("arm/get_parameters", "left/arm_of_*/get_parameters")
    assert enclave.request == ()
    assert enclave.execute == ("arm/move_to",)
    assert enclave.call == ("left/arm/move_to",)
    assert enclave.names(Access.PUBLISH, "/cell") == ("/rosout", "/cell/arm/state", "/cell/*/seen")
    assert [in_namespace("clock", "/"), in_namespace("/tf", "/cell")] == ["/clock", "/tf"]


def test_what_is_allowed_and_what_is_not(tmp_path: Path) -> None:
    (enclave,) = load_policy(written(tmp_path))
    assert enclave.allows(Access.PUBLISH, "/arm/state")
    assert not enclave.allows(Access.PUBLISH, "/arm/state", "/cell")
    assert not enclave.allows(Access.PUBLISH, "/arm/state/more")
    assert not enclave.allows(Access.PUBLISH, "/cell/arm/state")
    assert enclave.allows(Access.SUBSCRIBE, "/any/where/seen")
    assert not enclave.allows(Access.SUBSCRIBE, "/rosout")
    assert enclave.allows(Access.REPLY, "/left/arm_of_task/get_parameters")
    # an action is its topics and services, from one side each
    for access, part in ((Access.PUBLISH, "feedback"), (Access.PUBLISH, "status"), (Access.REPLY, "send_goal")):
        assert enclave.allows(access, f"/arm/move_to/_action/{part}")
        assert not enclave.allows(access, f"/left/arm/move_to/_action/{part}")
    for access, part in ((Access.SUBSCRIBE, "status"), (Access.REQUEST, "cancel_goal")):
        assert enclave.allows(access, f"/left/arm/move_to/_action/{part}")
        assert not enclave.allows(access, f"/arm/move_to/_action/{part}")


RULE = '<profile ns="/" node="a"><topics publish="ALLOW"><topic>x</topic></topics></profile>'


@pytest.mark.parametrize(
    ("profiles", "expected"),
    [
        ("", "<enclave>: expected a profile, found none"),
        (RULE.replace("ALLOW", "DENY"), "expected publish='ALLOW', for what is not listed is denied, found 'DENY'"),
        (RULE.replace("publish", "write"), "expected no attribute 'write'"),
        (RULE.replace(' publish="ALLOW"', ""), "expected publish or subscribe, found neither"),
        (RULE.replace("<topic>x</topic>", ""), "<topics>: expected a <topic>, found none"),
        (RULE.replace(">x<", "><"), "found ''"),
        (RULE.replace(">x<", ">a b<"), "expected a name such as arm/state, ~/get_parameters or /tf, found 'a b'"),
        (RULE.replace(">x<", ">a//b<"), "found 'a//b'"),
        (RULE.replace(">x<", ">[a]<"), "found '[a]'"),
        (RULE.replace(">x<", "><b>x</b><"), "<b>: expected a name, found a tag"),
        (RULE.replace("<topics", "text<topics"), "<profile>: expected tags, found the text 'text'"),
        (RULE.replace('ns="/"', 'ns="left"'), "ns: expected a namespace such as / or /left, found 'left'"),
        (RULE.replace('ns="/" ', ""), "expected the attribute ns, found none"),
        (RULE.replace('node="a"', 'node="*"'), "node: expected the name of a node, which may end in *, found '*'"),
        (RULE.replace("topics", "parameters"), "<parameters>: expected <topics>, <services>, <actions> or an include"),
        (RULE.replace("<topics", f"{INCLUDE.replace('common/node', '../node')}<topics"), "found '../node.xml'"),
        (RULE.replace("<topics", f"{INCLUDE.replace('node.xml', 'none.xml')}<topics"), "none.xml: cannot be read"),
        (RULE.replace("<topics", f"{INCLUDE.replace('profile/*', 'x')}<topics"), "expected xpointer"),
        (RULE.replace("<topics", f"{INCLUDE.replace('common/node', 'policy')}<topics"), "expected <profile> as the"),
        (RULE.replace("<topics", f"{INCLUDE * 201}<topics"), "expected at most 200 includes, found more"),
        ("<a/>" * TAG_LIMIT, f"expected at most {TAG_LIMIT} tags, found more"),
        ("<a>" * 8, "expected tags at most 8 deep, found more"),
        ("<!-- " + "x" * 2**18 + " -->" + RULE, "expected at most 256 KiB"),
        (RULE[:-3], "expected XML, found an error: not well-formed"),
    ],
)
def test_what_is_not_understood_is_one_line_that_names_the_file(tmp_path: Path, profiles: str, expected: str) -> None:
    with pytest.raises(PolicyError) as told:
        load_policy(written(tmp_path, profiles))
    text = str(told.value)
    assert expected in text
    assert str(tmp_path) in text
    assert "\n" not in text


def test_what_is_included_counts_each_time(tmp_path: Path) -> None:
    file = written(tmp_path, RULE.replace("<topics", f"{INCLUDE * 150}<topics"))
    topics = "<topic>y</topic>" * 100
    (tmp_path / "common" / "node.xml").write_text(f'<profile><topics publish="ALLOW">{topics}</topics></profile>')
    with pytest.raises(PolicyError, match=f"expected at most {TAG_LIMIT} tags, found more"):
        load_policy(file)


def test_entities_other_versions_and_doubled_enclaves_are_refused(tmp_path: Path) -> None:
    bomb = '<!DOCTYPE policy [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>'
    with pytest.raises(PolicyError, match=r"policy\.xml:1: expected no DOCTYPE and no entities"):
        load_policy(written(tmp_path, before=bomb))
    with pytest.raises(PolicyError, match=r"expected version 0\.2\.0, found '0\.1\.0'"):
        load_policy(written(tmp_path, version="0.1.0"))
    file = written(tmp_path)
    text = file.read_text()
    file.write_text(
        text.replace("</enclaves>", text[text.index("<enclave ") : text.index("</enclaves>")] + "</enclaves>")
    )
    with pytest.raises(PolicyError, match="expected each enclave once, found /arm twice"):
        load_policy(file)
    file.write_text('<?xml version="1.0" encoding="klingon"?><policy/>')
    with pytest.raises(PolicyError, match="encoding"):
        load_policy(file)
    with pytest.raises(PolicyError, match="cannot be read"):
        load_policy(tmp_path / "none.xml")


def test_the_policy_of_the_workspace_is_found_where_it_is_installed() -> None:
    assert "/arm_controller" in {enclave.path for enclave in load_policy()}
