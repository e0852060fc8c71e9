# SPDX-License-Identifier: Apache-2.0
"""What an arm keeps away from: `config/scenes/<name>.yaml`."""

from serl_config.named_files import load_named
from serl_config.schema import Field, config, model_validator

from serl_robots.model.robot import Box

FOLDER = "config/scenes"


@config(kw_only=True)
class Post:
    """An upright cylinder."""

    at: tuple[float, float] = Field(description="x and y of its axis [m]")
    radius: float = Field(gt=0.0, le=10.0, description="[m]")
    lower: float = Field(description="z of its lower end [m]")
    upper: float = Field(description="z of its upper end [m]")

    @model_validator(mode="after")
    def _has_a_volume(self) -> "Post":
        if not self.lower < self.upper:
            raise ValueError(f"expected lower below upper, found {self.lower} and {self.upper}")
        return self

    @property
    def box(self) -> Box:
        """The smallest box round it."""
        (x, y), r = self.at, self.radius
        return Box(lower=(x - r, y - r, self.lower), upper=(x + r, y + r, self.upper))


@config(kw_only=True)
class Scene:
    """Boxes and posts round an arm, in the frame of its base."""

    name: str
    boxes: dict[str, Box] = Field(max_length=64, description="keep-out boxes, a table among them, by their names")
    posts: dict[str, Post] = Field(max_length=64, description="upright cylinders, by their names")

    @model_validator(mode="after")
    def _named_once(self) -> "Scene":
        twice = self.boxes.keys() & self.posts.keys()
        if twice:
            raise ValueError(f"expected each name once, found {', '.join(sorted(twice))} among boxes and among posts")
        return self

    @property
    def keep_out(self) -> tuple[Box, ...]:
        """Every box, and round every post the smallest one."""
        return (*self.boxes.values(), *(post.box for post in self.posts.values()))

    @property
    def names(self) -> tuple[str, ...]:
        """All names in it."""
        return (*self.boxes, *self.posts)


def load_scene(name: str) -> Scene:
    """Load ``config/scenes/<name>.yaml``.

    Raises:
        ConfigError: there is no such scene, or its file is wrong.
    """
    return load_named(FOLDER, name, Scene, "scene")[0]
