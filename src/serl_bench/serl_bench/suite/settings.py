# SPDX-License-Identifier: Apache-2.0
"""What a training of the suite is started with, by a name: ``rlpd+interventions``, ``bc-100``, ``drqv2-5+tired``."""

import re
from dataclasses import dataclass
from typing import Any

from serl_config.resources import listing
from serl_config.schema import read_yaml
from serl_launch.errors import UsageError

from serl_tasks import get_task

RLPD = "rlpd"
"""The learning configuration that the task itself names."""
TEACHER = "teacher"
"""Nobody learns: the task's scripted expert, without noise, on what is known of the world."""
CLONING = "bc"
_NEED_DEMONSTRATIONS = (CLONING, "vice")
DEMONSTRATIONS = 20
_ALIASES = {"hg-dagger": "bc+interventions"}  # Kelly et al. 2019: cloning of what a person corrects
HELPED = "interventions"
FRESH = "fresh"
"""The scripted person without traits, who helps in ``+interventions``; others help under their own names."""
_NAME = re.compile(r"(?P<learning>[a-z][a-z0-9_]*?)(?:-(?P<demos>0|[1-9][0-9]{0,4}))?(?:\+(?P<helper>[a-z0-9_]+))?")
_FOLDER = "config/learning"
_PEOPLE = "config/people"


@dataclass(frozen=True)
class Setting:
    """A row of the comparison."""

    name: str
    learning: str  # a file of config/learning, or RLPD, or TEACHER
    demonstrations: int
    interventions: bool
    person: str = FRESH  # who demonstrates and intervenes: a file of config/people

    def learning_of(self, task: str) -> str:
        """Name of the file in ``config/learning`` that `task` is trained with."""
        return get_task(task).learning if self.learning == RLPD else self.learning

    @property
    def learns_online(self) -> bool:
        """Whether env steps of its own teach it anything; cloning learns from demonstrations and corrections alone."""
        if self.learning in (RLPD, TEACHER):
            return self.learning == RLPD
        values, _ = read_yaml(listing(_FOLDER, ".yaml")[self.learning])
        return self.interventions or values.get("agent") != CLONING


def find_setting(name: str) -> Setting:
    """The setting of a name ``LEARNING[-DEMONSTRATIONS][+interventions|+PERSON]``, or one of the aliases.

    Raises:
        UsageError: it is no such name, or there is no such learning configuration or person, or what learns needs
            demonstrations.
    """
    match = _NAME.fullmatch(_ALIASES.get(name, name))
    known = [RLPD, TEACHER, *_ALIASES, *listing(_FOLDER, ".yaml")]
    helpers = [HELPED, *(person for person in listing(_PEOPLE, ".yaml") if person != FRESH)]
    if match is None or match["learning"] not in known or match["helper"] not in (None, *helpers):
        raise UsageError(
            f"no setting {name!r}: expected LEARNING, LEARNING-DEMONSTRATIONS or either with +HELPER, where LEARNING "
            f"is one of {', '.join(known)}, and HELPER one of {', '.join(helpers)}"
        )
    if match["learning"] == TEACHER and name != TEACHER:
        raise UsageError(f"setting {name!r}: the {TEACHER} has neither demonstrations nor interventions")
    demonstrations = int(match["demos"]) if match["demos"] else DEMONSTRATIONS
    if not demonstrations and match["learning"] != RLPD:
        values, _ = read_yaml(listing(_FOLDER, ".yaml")[match["learning"]])
        if values.get("agent") in _NEED_DEMONSTRATIONS or values.get("updates_before_acting"):
            raise UsageError(f"setting {name!r}: {match['learning']} needs demonstrations before it acts; expected one")
    helper = match["helper"]
    person = FRESH if helper in (None, HELPED) else helper
    return Setting(name, match["learning"], demonstrations, helper is not None, person)


def person_values(name: str) -> dict[str, Any]:
    """What the file of a person says."""
    values, _ = read_yaml(listing(_PEOPLE, ".yaml")[name])
    return values
