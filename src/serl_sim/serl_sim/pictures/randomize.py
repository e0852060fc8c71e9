# SPDX-License-Identifier: Apache-2.0
"""Domain randomization (Tobin et al., arXiv 1703.06907): pictures of one state of the world under many looks.

Light, colours, textures and cameras are drawn anew for every look, in a model of its own whose fields are changed in
place: nothing is compiled again, and the world that it looks at stays as it is.
"""

from dataclasses import dataclass
from typing import Final

import mujoco
import numpy as np
from mujoco import mjtTexture, mjtTextureRole
from numpy.typing import NDArray
from serl_config.schema import Field, config

from serl_sim.rendering import LEAN, ImageRenderer
from serl_sim.scene.actuators import HELPER_GROUP
from serl_sim.scene.scene import BACKDROP_GROUP, describe_model
from serl_sim.world import World

_TEXTURES: Final = 12
_TEXTURE_EDGE: Final = 64  # [pixels]

# Fields of the model that a look changes, and that the next one puts back.
_CHANGED: Final = (
    "light_diffuse",
    "light_dir",
    "geom_rgba",
    "geom_matid",
    "cam_pos",
    "cam_quat",
    "cam_fovy",
    "mat_texrepeat",
)


@config(kw_only=True)
class LookRange:
    """How much the looks differ. A share is the part of the looks that something is done to."""

    plain: float = Field(default=0.2, ge=0.0, le=1.0, description="share of looks that are the world's own")
    light: float = Field(default=0.5, ge=0.0, le=1.0, description="relative change of every brightness, up and down")
    light_tilt: float = Field(
        default=0.8, ge=0.0, le=3.0, description="deviation of the direction of light, of a unit vector"
    )
    tint: float = Field(default=0.08, ge=0.0, le=1.0, description="deviation of red, green and blue of every colour")
    recoloured: float = Field(default=0.4, ge=0.0, le=1.0, description="share with any colours at all")
    textured: float = Field(
        default=0.4, ge=0.0, le=1.0, description="share with textures on table, floor, robot or objects"
    )
    camera_shift: float = Field(default=0.01, ge=0.0, le=0.2, description="deviation of each camera's position [m]")
    camera_turn_deg: float = Field(default=1.0, ge=0.0, le=20.0, description="deviation of each camera's rotation")
    camera_fovy_deg: float = Field(default=1.0, ge=0.0, le=10.0, description="deviation of each camera's field of view")


@dataclass(frozen=True)
class PinholeView:
    """Where a camera of the current look is."""

    position: NDArray[np.float64]
    """(3,) base frame [m]."""
    rotation: NDArray[np.float64]
    """(3, 3) columns right, up and back of the picture, base frame."""
    fovy: float
    """Angle from the upper to the lower edge of the picture [rad]."""

    def project(self, point: NDArray[np.float64], width: int, height: int) -> tuple[float, float] | None:
        """Column and row [pixels] of a point (3,) in a picture of this size; None behind the camera."""
        right, up, back = (self.rotation.T @ (point - self.position)).tolist()
        if back >= -1e-3:
            return None
        focal = 0.5 * height / np.tan(0.5 * self.fovy)
        return float(0.5 * width - focal * right / back), float(0.5 * height + focal * up / back)


class RandomLooks:
    """Draws looks for a world and renders its present state with them. Belongs to the thread that makes it."""

    def __init__(self, world: World, looks: LookRange, textures_seed: int = 0) -> None:
        """Compile a model with textures, once.

        Raises:
            RenderError: there is no OpenGL on this machine.
        """
        self._world = world
        self._looks = looks
        spec = describe_model(world.task, world.robot, world.file)
        _add_textures(spec, np.random.default_rng(textures_seed))
        self._model = model = spec.compile()
        self._data = mujoco.MjData(model)
        self._renderer = ImageRenderer(model, LEAN)
        self._own = {name: getattr(model, name).copy() for name in _CHANGED}
        self._own_headlight = {name: getattr(model.vis.headlight, name).copy() for name in ("ambient", "diffuse")}
        seen = ~np.isin(model.geom_group, (BACKDROP_GROUP, HELPER_GROUP))
        self._geoms = np.flatnonzero(seen)

    def draw(self, rng: np.random.Generator) -> None:
        """Take another look."""
        model, looks = self._model, self._looks
        for name, values in self._own.items():
            getattr(model, name)[:] = values
        for name, values in self._own_headlight.items():
            getattr(model.vis.headlight, name)[:] = values
        if rng.random() < looks.plain:
            return
        self._draw_light(rng)
        self._draw_surfaces(rng)
        self._draw_cameras(rng)

    def show(self) -> None:
        """Let the following pictures show what the world is like now."""
        self._data.qpos[:] = self._world.data.qpos
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)

    def render(self, camera: str, width: int, height: int) -> NDArray[np.uint8]:
        """RGB picture uint8 (height, width, 3) of what was shown last."""
        return self._renderer.render(self._data, camera, width, height)

    def view(self, camera: str) -> PinholeView:
        """Where a camera is in this look."""
        index = self._model.camera(camera).id
        rotation = self._data.cam_xmat[index].reshape(3, 3).copy()
        return PinholeView(self._data.cam_xpos[index].copy(), rotation, float(np.radians(self._model.cam_fovy[index])))

    def close(self) -> None:
        """Give the OpenGL context back."""
        self._renderer.close()

    def _draw_light(self, rng: np.random.Generator) -> None:
        model, looks = self._model, self._looks
        light = 1.0 + looks.light * rng.uniform(-1.0, 1.0, 3)  # of the sun, the headlight and everywhere
        hue = 1.0 + 0.2 * looks.light * rng.uniform(-1.0, 1.0, 3)
        model.light_diffuse *= light[0] * hue
        model.vis.headlight.diffuse[:] *= light[1]
        model.vis.headlight.ambient[:] *= light[2]
        model.light_dir += looks.light_tilt * rng.standard_normal(model.light_dir.shape)
        model.light_dir /= np.linalg.norm(model.light_dir, axis=1, keepdims=True)

    def _draw_surfaces(self, rng: np.random.Generator) -> None:
        model, looks, geoms = self._model, self._looks, self._geoms
        colours = model.geom_rgba[geoms, :3]
        if rng.random() < looks.recoloured:
            # Parts that have one colour keep having one.
            _, parts = np.unique(colours, axis=0, return_inverse=True)
            colours = rng.uniform(0.0, 1.0, colours.shape)[parts.ravel()]
        colours = colours + looks.tint * rng.standard_normal(colours.shape)
        model.geom_rgba[geoms, :3] = np.clip(colours, 0.0, 1.0)
        if rng.random() < looks.textured:
            textured = geoms[rng.random(len(geoms)) < rng.random()]
            model.geom_matid[textured] = rng.integers(0, _TEXTURES, len(textured))
            model.mat_texrepeat[:] = rng.uniform(0.5, 4.0, (_TEXTURES, 1))

    def _draw_cameras(self, rng: np.random.Generator) -> None:
        model, looks = self._model, self._looks
        model.cam_pos += looks.camera_shift * rng.standard_normal(model.cam_pos.shape)
        model.cam_fovy += looks.camera_fovy_deg * rng.standard_normal(model.cam_fovy.shape)
        for quaternion in model.cam_quat:
            turn = np.radians(looks.camera_turn_deg) * rng.standard_normal(3)
            mujoco.mju_quatIntegrate(quaternion, turn, 1.0)


def _add_textures(spec: mujoco.MjSpec, rng: np.random.Generator) -> None:
    """Materials 0 to _TEXTURES - 1: stripes, checks and noise in shades of grey, which a geom's colour tints."""
    if spec.materials:
        raise ValueError(f"expected a model without materials, found {spec.materials[0].name!r}")
    rows, columns = np.mgrid[0:_TEXTURE_EDGE, 0:_TEXTURE_EDGE]
    for index in range(_TEXTURES):
        period = int(rng.choice((4, 8, 16, 32)))
        match index % 3:
            case 0:
                pattern = (columns // period) % 2
            case 1:
                pattern = (columns // period + rows // period) % 2
            case _:
                coarse = rng.random((_TEXTURE_EDGE // period,) * 2)
                pattern = np.kron(coarse, np.ones((period, period)))
        dark = rng.uniform(0.3, 0.8)
        grey = (255 * (dark + (1.0 - dark) * pattern)).astype(np.uint8)
        name = f"random_{index}"
        spec.add_texture(
            name=name,
            type=mjtTexture.mjTEXTURE_2D,
            width=_TEXTURE_EDGE,
            height=_TEXTURE_EDGE,
            nchannel=3,
            data=np.repeat(grey[..., None], 3, axis=2).ravel().tolist(),
        )
        material = spec.add_material(name=name)
        material.textures[mjtTextureRole.mjTEXROLE_RGB.value] = name
