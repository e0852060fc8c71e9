# SPDX-License-Identifier: Apache-2.0
"""Images of a MuJoCo world without a window.

MuJoCo's own ``Renderer`` picks its OpenGL backend when ``mujoco`` is first imported and needs one context for each
image size. This one picks it at the first image and serves every size and camera with one context.
"""

import importlib
import os
import threading
import weakref
from dataclasses import dataclass
from typing import Any, Final

import mujoco
import numpy as np
from numpy.typing import NDArray

from serl_sim.scene import BACKDROP_GROUP

_BACKENDS = ("egl", "osmesa", "glfw")


class RenderError(RuntimeError):
    """An image cannot be made here; the message says what is missing."""


@dataclass(frozen=True)
class Appearance:
    """How much is spent on looks."""

    shadow_map: int
    """Edge of the shadow map [pixels]; 0: no shadows. MuJoCo's default of 4096 costs 16 ms a frame in software."""
    samples: int
    """Samples a pixel, against jagged edges."""
    slices: int
    """Faces around a cylinder."""
    stacks: int
    """Rings of faces along a cylinder, which cost time and add nothing, and from pole to pole of a sphere."""
    backdrop: bool
    """Whether there are a sky and table legs."""


LEAN: Final = Appearance(shadow_map=0, samples=0, slices=12, stacks=3, backdrop=False)
"""For cameras that a policy looks through: about 0.4 ms for 128 x 128 in software."""
PRETTY: Final = Appearance(shadow_map=2048, samples=4, slices=32, stacks=8, backdrop=True)
"""For films that a person looks at: about 0.1 s for 640 x 480 in software."""
STUDIO: Final = Appearance(shadow_map=8192, samples=16, slices=96, stacks=48, backdrop=True)
"""For single pictures: seconds."""


class ImageRenderer:
    """Renders one model. Belongs to the thread that makes it, as every OpenGL context does."""

    def __init__(self, model: mujoco.MjModel, appearance: Appearance = LEAN) -> None:
        """Open an OpenGL context.

        The environment variable ``MUJOCO_GL`` chooses egl (default), osmesa or glfw.

        Raises:
            RenderError: there is no such OpenGL backend on this machine.
        """
        self._thread = threading.get_ident()
        self._context = _open_context()
        self._context.make_current()
        self._model = model
        self._scene = mujoco.MjvScene(model, maxgeom=1000)
        flags = self._scene.flags
        flags[mujoco.mjtRndFlag.mjRND_SHADOW] = appearance.shadow_map > 0
        flags[mujoco.mjtRndFlag.mjRND_SKYBOX] = appearance.backdrop
        flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
        flags[mujoco.mjtRndFlag.mjRND_HAZE] = 0
        self._option = mujoco.MjvOption()
        self._option.geomgroup[BACKDROP_GROUP] = appearance.backdrop
        self._perturbation = mujoco.MjvPerturb()
        self._camera = mujoco.MjvCamera()
        quality = model.vis.quality
        quality.shadowsize = appearance.shadow_map
        quality.offsamples = appearance.samples
        quality.numslices = appearance.slices
        quality.numstacks = appearance.stacks
        quality.numquads = 4 if appearance.backdrop else 1
        # Every frame clears the whole buffer, so it grows to what is asked for and no further.
        buffer = model.vis.global_
        self._largest = (buffer.offwidth, buffer.offheight)
        self._size = buffer.offwidth, buffer.offheight = (64, 64)
        self._drawing = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._drawing)
        buffer.offwidth, buffer.offheight = self._largest
        # A context that is still open when the interpreter tears itself down raises there.
        self.close = weakref.finalize(self, _close, self._drawing, self._context)

    def render(self, data: mujoco.MjData, camera: str | mujoco.MjvCamera, width: int, height: int) -> NDArray[np.uint8]:
        """RGB image, uint8 (height, width, 3), top row first.

        Args:
            data: state to draw.
            camera: name of a camera of the model, or a free camera.
            width: of the image [pixels].
            height: of the image [pixels].

        Raises:
            RenderError: called from another thread, after ``close``, or for a camera or a size that there is not.
        """
        if threading.get_ident() != self._thread:
            raise RenderError("a renderer works only in the thread that made it; make another one in this thread")
        if not self.close.alive:
            raise RenderError("the renderer is closed")
        if not (0 < width <= self._largest[0] and 0 < height <= self._largest[1]):
            raise RenderError(
                f"image size: expected up to {self._largest[0]} x {self._largest[1]} pixels, found {width} x {height}"
            )
        view = self._view(camera)
        self._context.make_current()
        if width > self._size[0] or height > self._size[1]:
            self._size = (max(width, self._size[0]), max(height, self._size[1]))
            mujoco.mjr_resizeOffscreen(*self._size, self._drawing)
        mujoco.mjv_updateScene(
            self._model, data, self._option, self._perturbation, view, mujoco.mjtCatBit.mjCAT_ALL.value, self._scene
        )
        frame = mujoco.MjrRect(0, 0, width, height)
        mujoco.mjr_render(frame, self._scene, self._drawing)
        image = np.empty((height, width, 3), np.uint8)
        mujoco.mjr_readPixels(image, None, frame, self._drawing)
        return image[::-1].copy()

    def _view(self, camera: str | mujoco.MjvCamera) -> mujoco.MjvCamera:
        if not isinstance(camera, str):
            return camera
        index = mujoco.mj_name2id(self._model, mujoco.mjtObj.mjOBJ_CAMERA.value, camera)
        if index < 0:
            names = ", ".join(self._model.camera(i).name for i in range(self._model.ncam))
            raise RenderError(f"no camera {camera!r}; there are: {names}")
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED.value
        self._camera.fixedcamid = index
        return self._camera


def _open_context() -> Any:
    backend = os.environ.get("MUJOCO_GL", "").strip().lower() or "egl"
    if backend not in _BACKENDS:
        raise RenderError(f"MUJOCO_GL: expected one of {', '.join(_BACKENDS)}, found {backend!r}")
    if backend != "glfw":
        os.environ.setdefault("PYOPENGL_PLATFORM", backend)
    try:
        return importlib.import_module(f"mujoco.{backend}").GLContext(64, 64)
    except Exception as error:  # PyOpenGL and ctypes raise a dozen types when a library is missing
        raise RenderError(
            f"OpenGL backend {backend!r} does not work here ({type(error).__name__}: {error}). For images without a "
            "display install libegl1 and libgl1-mesa-dri, or libosmesa6 and set MUJOCO_GL=osmesa"
        ) from error


def _close(drawing: mujoco.MjrContext, context: Any) -> None:
    context.make_current()
    drawing.free()
    context.free()
