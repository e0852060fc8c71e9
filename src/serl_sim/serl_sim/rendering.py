# SPDX-License-Identifier: Apache-2.0
"""Images of a MuJoCo world without a window.

MuJoCo's own ``Renderer`` picks its OpenGL backend when ``mujoco`` is first imported and needs one context for each
image size. This one picks it at the first image and serves every size and camera with one context.

OpenGL does not survive a fork, as Gymnasium's ``AsyncVectorEnv`` does one for each environment: the driver's threads
are gone in the child, and who waits for them waits for ever. Mesa's software driver without threads of its own is the
exception; it is what is asked for here, unless the environment variable ``LP_NUM_THREADS`` says otherwise.
"""

import atexit
import ctypes
import importlib
import os
import sys
import threading
import weakref
from dataclasses import dataclass
from typing import Any, Final

import mujoco
import numpy as np
from numpy.typing import NDArray

from serl_sim.scene.scene import BACKDROP_GROUP

_BACKENDS = ("egl", "osmesa", "glfw")
_SOFTWARE = "llvmpipe"
_GL_RENDERER = 0x1F01


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
"""Settings for cameras that a policy looks through: about 0.4 ms for 128 x 128 in software."""
PRETTY: Final = Appearance(shadow_map=2048, samples=4, slices=32, stacks=8, backdrop=True)
"""Settings for films that a person looks at: about 0.1 s for 640 x 480 in software."""
STUDIO: Final = Appearance(shadow_map=8192, samples=16, slices=96, stacks=48, backdrop=True)
"""Settings for single pictures: seconds."""


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
        _open_renderers.add(self)
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

    @property
    def is_open(self) -> bool:
        """Whether it can render: not after ``close``, nor in a process that was forked from the one that made it."""
        return self.close.alive

    def abandon(self) -> None:
        """Forget the context without touching it, in a process that has no right to it."""
        if self.close.detach() is not None:
            _abandoned.append((self._drawing, self._context))

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
        if not self.is_open:
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


_open_renderers: "weakref.WeakSet[ImageRenderer]" = weakref.WeakSet()
_abandoned: list[Any] = []  # never freed: that would be OpenGL, too
_driver = ""
"""What draws in this process, or drew in the one that it was forked from; empty before the first context."""
_is_forked = False
"""Whether the driver came to this process by a fork."""


def _after_fork() -> None:
    global _is_forked
    _is_forked = bool(_driver)
    for renderer in list(_open_renderers):
        renderer.abandon()
    if "OpenGL.EGL" in sys.modules:  # MuJoCo ends the display at exit
        atexit.unregister(sys.modules["OpenGL.EGL"].eglTerminate)


os.register_at_fork(after_in_child=_after_fork)


def _open_context() -> Any:
    """A new context, which is current."""
    global _driver
    backend = os.environ.get("MUJOCO_GL", "").strip().lower() or "egl"
    if backend not in _BACKENDS:
        raise RenderError(f"MUJOCO_GL: expected one of {', '.join(_BACKENDS)}, found {backend!r}")
    if _is_forked and _driver != _SOFTWARE:
        raise RenderError(
            f"OpenGL ({_driver}) does not survive a fork, and the process that this one was forked from has rendered. "
            "Start processes with multiprocessing's context forkserver or spawn, as by gymnasium.make_vec(..., "
            "vector_kwargs={'context': 'forkserver'}), or render only after they are started"
        )
    if backend != "glfw":
        os.environ.setdefault("PYOPENGL_PLATFORM", backend)
    # Read when the first context is opened. A picture of a policy's size is not drawn sooner by several threads.
    os.environ.setdefault("LP_NUM_THREADS", "0")
    try:
        context = importlib.import_module(f"mujoco.{backend}").GLContext(64, 64)
    except Exception as error:  # PyOpenGL and ctypes raise a dozen types when a library is missing
        raise RenderError(
            f"OpenGL backend {backend!r} does not work here ({type(error).__name__}: {error}). For images without a "
            "display install libegl1 and libgl1-mesa-dri, or libosmesa6 and set MUJOCO_GL=osmesa"
        ) from error
    context.make_current()
    if not _driver:
        _driver = _find_driver(backend)
    return context


def _find_driver(backend: str) -> str:
    """What draws in the current context: ``llvmpipe`` only where it has no threads."""
    if backend == "osmesa":
        name = _SOFTWARE
    elif backend == "egl":
        address = importlib.import_module("OpenGL.EGL").eglGetProcAddress(b"glGetString")
        answer = ctypes.CFUNCTYPE(ctypes.c_char_p, ctypes.c_uint)(address)(_GL_RENDERER) if address else None
        name = answer.decode(errors="replace") if answer else "unknown"
    else:
        name = backend
    if not name.startswith(_SOFTWARE):
        return name
    return _SOFTWARE if os.environ["LP_NUM_THREADS"] == "0" else f"{_SOFTWARE} with threads"


def _close(drawing: mujoco.MjrContext, context: Any) -> None:
    context.make_current()
    drawing.free()
    context.free()
