# SPDX-License-Identifier: Apache-2.0
"""What is known at one place of a launch file: variables, environment, parameters and remappings for all nodes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from serl_launch.language.elements import Element
from serl_launch.language.functions import SubstitutionError, perform
from serl_launch.language.substitutions import Call, Template

NAMESPACE = "ros_namespace"
"""The variable in which the pushed namespace is kept, under upstream's name for it."""

TEXT_LIMIT = 2**16
"""[characters] of an attribute or a variable; no argument of a process could be much longer."""
TOTAL_LIMIT = 2**24
"""[characters] of all texts that the launch files make."""


@dataclass
class Scope:
    """Mutable state of the walk through the launch files."""

    variables: dict[str, str]
    environment: dict[str, str]
    file: Path
    parameters: list[tuple[str, str]] = field(default_factory=list)
    remappings: list[tuple[str, str]] = field(default_factory=list)
    made: int = 0
    initial_environment: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.initial_environment = dict(self.environment)

    def evaluate(self, template: Template, *, most: int = TEXT_LIMIT) -> str:
        """Text of a template, of at most `most` characters. Raises SubstitutionError."""
        texts: list[str] = []
        length = 0
        for part in template:
            if isinstance(part, Call):
                texts.append(perform(part.name, [self.evaluate(argument) for argument in part.arguments], self))
            else:
                texts.append(part.text)
            length += len(texts[-1])
            if length > most:
                raise SubstitutionError(f"gives more than {most} characters; does a variable double itself?")
        self.charge(length)
        return "".join(texts)

    def charge(self, length: int) -> None:
        """Count text that was made. Raises SubstitutionError where the launch files together make too much."""
        self.made += length
        if self.made > TOTAL_LIMIT:
            raise SubstitutionError(f"the launch files make more than {TOTAL_LIMIT >> 20} MiB of text")

    def text(self, element: Element, attribute: str) -> str:
        """Text of an attribute that is there. Raises LaunchError with its place."""
        try:
            return self.evaluate(element.templates[attribute])
        except SubstitutionError as error:
            raise element.error(f"attribute '{attribute}': {error}") from error

    def clear(self) -> None:
        """Forget what the launch files have set."""
        self.variables = {}
        self.environment = dict(self.initial_environment)
        self.parameters = []
        self.remappings = []

    @contextmanager
    def pushed(self) -> Iterator[None]:
        """Changes inside of the block end with it."""
        saved = dict(self.variables), dict(self.environment), list(self.parameters), list(self.remappings)
        try:
            yield
        finally:
            self.variables, self.environment, self.parameters, self.remappings = saved

    @contextmanager
    def within(self, file: Path) -> Iterator[None]:
        """$(dirname) is that of `file` inside of the block."""
        outer, self.file = self.file, file
        try:
            yield
        finally:
            self.file = outer
