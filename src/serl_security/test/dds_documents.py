# SPDX-License-Identifier: Apache-2.0
"""Documents of DDS Security as the standard describes them: which elements there are, and in which order."""

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from datetime import UTC, datetime

from serl_security.policy import Access, Enclave

_PROTECTIONS = {"NONE", "SIGN", "ENCRYPT", "SIGN_WITH_ORIGIN_AUTHENTICATION", "ENCRYPT_WITH_ORIGIN_AUTHENTICATION"}
_PARTICIPANT = (
    *("allow_unauthenticated_participants", "enable_join_access_control", "discovery_protection_kind"),
    *("liveliness_protection_kind", "rtps_protection_kind"),
)
_TOPIC = (
    *("topic_expression", "enable_discovery_protection", "enable_liveliness_protection", "enable_read_access_control"),
    *("enable_write_access_control", "metadata_protection_kind", "data_protection_kind"),
)


@dataclass
class Grant:
    """What a document of permissions grants."""

    name: str
    subject: str
    begins: datetime
    ends: datetime
    domains: set[int]
    publish: set[str]
    subscribe: set[str]
    default: str


def enclave(path: str, **names: tuple[str, ...]) -> Enclave:
    """One that may do what is listed."""
    return Enclave(path, (path[1:],), **({access.value: () for access in Access} | names))


def grant_of(document: bytes) -> Grant:
    """The one grant, with one rule, of a document of permissions."""
    (permissions,) = _root(document)
    assert permissions.tag == "permissions"
    (grant,) = permissions
    assert grant.tag == "grant"
    subject, validity, rule, default = _children(grant, "subject_name", "validity", "allow_rule", "default")
    begins, ends = (
        datetime.strptime(_text(time), "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)
        for time in _children(validity, "not_before", "not_after")
    )
    domains, publish, subscribe = _children(rule, "domains", "publish", "subscribe")
    return Grant(
        grant.attrib["name"],
        _text(subject),
        begins,
        ends,
        _ids(domains),
        _topics(publish),
        _topics(subscribe),
        _text(default),
    )


def governance_of(document: bytes) -> tuple[set[int], dict[str, str], dict[str, str]]:
    """Domains, what holds for participants, and what for topics, of a governance document with one rule of each."""
    (rules,) = _root(document)
    assert rules.tag == "domain_access_rules"
    (rule,) = _children(rules, "domain_rule")
    domains, *settings, access = _children(rule, "domains", *_PARTICIPANT, "topic_access_rules")
    (topic,) = _children(access, "topic_rule")
    return _ids(domains), _checked(settings), _checked(_children(topic, *_TOPIC))


def _root(document: bytes) -> ET.Element:
    root = ET.fromstring(document)
    assert root.tag == "dds"
    return root


def _children(element: ET.Element, *tags: str) -> list[ET.Element]:
    assert [child.tag for child in element] == list(tags)
    return list(element)


def _text(element: ET.Element) -> str:
    assert element.text
    assert len(element) == 0
    return element.text


def _ids(domains: ET.Element) -> set[int]:
    assert {child.tag for child in domains} == {"id"}
    return {int(_text(child)) for child in domains}


def _topics(criteria: ET.Element) -> set[str]:
    (topics,) = _children(criteria, "topics")
    assert {child.tag for child in topics} == {"topic"}
    return {_text(child) for child in topics}


def _checked(settings: list[ET.Element]) -> dict[str, str]:
    for setting in settings:
        if setting.tag.endswith("_kind"):
            assert _text(setting) in _PROTECTIONS
        elif setting.tag != "topic_expression":
            assert _text(setting) in {"true", "false"}
    return {setting.tag: _text(setting) for setting in settings}
