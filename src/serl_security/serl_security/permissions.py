# SPDX-License-Identifier: Apache-2.0
"""What DDS Security is told: permissions of an enclave, and how a domain is protected, as XML.

DDS knows topics alone. A topic of ROS is one of them, a service two, an action eight.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from serl_security.certificates import KeysError
from serl_security.policy import Enclave, in_namespace

MAX_DOMAIN_ID = 232
"""Highest id of a ROS domain."""

_DISCOVERY = "ros_discovery_info"  # by which ROS nodes find each other; every participant writes and reads it
_ACTION_SERVICES = ("cancel_goal", "get_result", "send_goal")
_ACTION_TOPICS = ("feedback", "status")
_NAMESPACE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*")
_PATH = re.compile(r"(/[A-Za-z_][A-Za-z0-9_]*)+")
_EXPRESSION = re.compile(r"/?[A-Za-z0-9_*]+(/[A-Za-z0-9_*]+)*")  # a name, where * stands for any text
_ANY_TIME_ZONE = timedelta(days=1)
_SCHEMA = "{http://www.w3.org/2001/XMLSchema-instance}noNamespaceSchemaLocation"
_SCHEMAS = "http://www.omg.org/spec/DDS-SECURITY/20170901/omg_shared_ca_{}.xsd"


@dataclass(frozen=True)
class Reach:
    """Where permissions hold."""

    domains: tuple[int, ...]
    """ROS domains, at least one."""
    namespaces: tuple[str, ...] = ("",)
    """Namespaces of the graph that relative names are in; empty: none."""

    def __post_init__(self) -> None:
        """Raise KeysError for what is no domain or no namespace."""
        if not self.domains:
            raise KeysError("domain: expected a ROS domain at least, found none")
        for domain in self.domains:
            if not 0 <= domain <= MAX_DOMAIN_ID:
                raise KeysError(f"domain: expected a number from 0 to {MAX_DOMAIN_ID}, found {domain}")
        if not self.namespaces:
            raise KeysError("namespace: expected one at least, found none; an empty one is that of a graph alone")
        for namespace in self.namespaces:
            if namespace and not _NAMESPACE.fullmatch(namespace):
                raise KeysError(f"namespace: expected names of letters, digits and _ between /, found {namespace!r}")


def permissions_xml(enclave: Enclave, reach: Reach, begins: datetime, ends: datetime) -> bytes:
    """Permissions of an enclave; what is not allowed is refused.

    They hold for a day more at both ends, and no node longer than its certificate: Fast DDS 2 takes their times for
    those of the time zone that it runs in, and would refuse new ones for hours, west of Greenwich.

    Args:
        enclave: with what it may do.
        reach: where it may.
        begins: from when on its certificate holds, with a time zone.
        ends: until when, with a time zone.

    Raises:
        KeysError: a name cannot be one of ROS.
    """
    check_path(enclave.path)
    root = ET.Element("dds", {_SCHEMA: _SCHEMAS.format("permissions")})
    grant = ET.SubElement(ET.SubElement(root, "permissions"), "grant", name=enclave.path)
    ET.SubElement(grant, "subject_name").text = f"CN={enclave.path}"
    validity = ET.SubElement(grant, "validity")
    ET.SubElement(validity, "not_before").text = _time(begins - _ANY_TIME_ZONE)
    ET.SubElement(validity, "not_after").text = _time(ends + _ANY_TIME_ZONE)
    rule = ET.SubElement(grant, "allow_rule")
    _add_domains(rule, reach.domains)
    written, read = allowed_topics(enclave, reach.namespaces)
    for tag, topics in (("publish", written), ("subscribe", read)):
        listed = ET.SubElement(ET.SubElement(rule, tag), "topics")
        for topic in topics:
            ET.SubElement(listed, "topic").text = topic
    ET.SubElement(grant, "default").text = "DENY"
    return _text(root)


def governance_xml(domains: Sequence[int]) -> bytes:
    """How domains are protected: nobody without a certificate, all topics by permission, everything encrypted.

    Args:
        domains: ids of ROS domains.
    """
    root = ET.Element("dds", {_SCHEMA: _SCHEMAS.format("governance")})
    rule = ET.SubElement(ET.SubElement(root, "domain_access_rules"), "domain_rule")
    _add_domains(rule, domains)
    for tag, value in (
        ("allow_unauthenticated_participants", "false"),
        ("enable_join_access_control", "true"),
        ("discovery_protection_kind", "ENCRYPT"),
        ("liveliness_protection_kind", "ENCRYPT"),
        ("rtps_protection_kind", "SIGN"),  # of messages that hold what is encrypted already
    ):
        ET.SubElement(rule, tag).text = value
    topics = ET.SubElement(ET.SubElement(rule, "topic_access_rules"), "topic_rule")
    for tag, value in (
        ("topic_expression", "*"),
        ("enable_discovery_protection", "true"),
        ("enable_liveliness_protection", "true"),
        ("enable_read_access_control", "true"),
        ("enable_write_access_control", "true"),
        ("metadata_protection_kind", "ENCRYPT"),
        ("data_protection_kind", "ENCRYPT"),
    ):
        ET.SubElement(topics, tag).text = value
    return _text(root)


def allowed_topics(enclave: Enclave, namespaces: Iterable[str]) -> tuple[list[str], list[str]]:
    """Topics of DDS that an enclave may write, and those that it may read, in order.

    Args:
        enclave: with names of ROS.
        namespaces: that relative names are in.

    Raises:
        KeysError: a name cannot be one of ROS.
    """
    written, read = {_DISCOVERY}, {_DISCOVERY}
    for namespace in namespaces:
        for names, client in ((enclave.request, True), (enclave.reply, False)):
            for full in _full_names(enclave, names, namespace):
                asked, answered = f"rq{full}Request", f"rr{full}Reply"
                (written if client else read).add(asked)
                (read if client else written).add(answered)
        for names, client in ((enclave.call, True), (enclave.execute, False)):
            for full in _full_names(enclave, names, namespace):
                asked_by, answered_by = (written, read) if client else (read, written)
                asked_by.update(f"rq{full}/_action/{service}Request" for service in _ACTION_SERVICES)
                answered_by.update(f"rr{full}/_action/{service}Reply" for service in _ACTION_SERVICES)
                answered_by.update(f"rt{full}/_action/{topic}" for topic in _ACTION_TOPICS)
        written.update(f"rt{full}" for full in _full_names(enclave, enclave.publish, namespace))
        read.update(f"rt{full}" for full in _full_names(enclave, enclave.subscribe, namespace))
    return sorted(written), sorted(read)


def check_path(path: str) -> None:
    """Raise KeysError for what is no path of an enclave: it becomes a folder of the keystore."""
    if not _PATH.fullmatch(path):
        raise KeysError(f"enclave: expected a path as /arm_controller, of letters, digits and _, found {path!r}")


def _full_names(enclave: Enclave, names: Iterable[str], namespace: str) -> Iterable[str]:
    for name in names:
        if not _EXPRESSION.fullmatch(name):
            raise KeysError(f"enclave {enclave.path}: expected the name of a topic, service or action, found {name!r}")
        yield in_namespace(name, f"/{namespace}")


def _add_domains(rule: ET.Element, domains: Iterable[int]) -> None:
    listed = ET.SubElement(rule, "domains")
    for domain in domains:
        ET.SubElement(listed, "id").text = str(domain)


def _time(moment: datetime) -> str:
    """A time in UTC and without a time zone, as readers of different makers take it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _text(root: ET.Element) -> bytes:
    ET.indent(root)
    return ET.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n"
