# SPDX-License-Identifier: Apache-2.0
"""A camera of LeRobot that is one of a running graph, for robots that are none of ours."""

from typing import Any

from lerobot.cameras import Camera
from numpy.typing import NDArray
from serl_training.env.graph_connection import GraphError

from serl_lerobot.graph_pictures import GraphPictures
from serl_lerobot.plugins.config_camera import SerlCameraConfig

_WARM_UP = 10.0  # [s]


class SerlCamera(Camera):
    """See `lerobot.cameras.Camera`. Pictures are uint8 RGB (H, W, 3)."""

    def __init__(self, config: SerlCameraConfig) -> None:
        """Name the camera."""
        super().__init__(config)
        self.config = config
        self._pictures: GraphPictures | None = None

    @property
    def is_connected(self) -> bool:
        """Whether its topic is listened to."""
        return self._pictures is not None

    @staticmethod
    def find_cameras() -> list[dict[str, Any]]:
        """None: a graph names its cameras itself, `./serl shell ros2 topic list` shows them."""
        return []

    def connect(self, warmup: bool = True) -> None:
        """Listen to the camera, and with `warmup` wait for its first picture; raises ConnectionError without one."""
        config = self.config
        self._pictures = GraphPictures(config.camera, config.namespace, (config.width or 128, config.height or 128))
        if not warmup:
            return
        try:
            self._pictures.next(_WARM_UP)
        except GraphError as error:
            self.disconnect()
            raise ConnectionError(f"{error}; is its graph running, in this ROS domain?") from error

    def read(self, color_mode: Any = None) -> NDArray[Any]:
        """The next picture, uint8 (H, W, 3); raises TimeoutError where none comes within a second."""
        return self.async_read(1000.0)

    def async_read(self, timeout_ms: float = 200.0) -> NDArray[Any]:
        """A picture (H, W, 3) that was not read yet; raises TimeoutError where none comes within `timeout_ms`."""
        try:
            return self._connected().next(timeout_ms / 1e3)
        except GraphError as error:
            raise TimeoutError(str(error)) from error

    def read_latest(self, max_age_ms: int = 500) -> NDArray[Any]:
        """The newest picture, uint8 (H, W, 3); raises TimeoutError where it is older than `max_age_ms`."""
        try:
            return self._connected().newest(max_age_ms / 1e3)
        except GraphError as error:
            raise TimeoutError(str(error)) from error

    def disconnect(self) -> None:
        """Listen no longer."""
        if self._pictures is not None:
            self._pictures.close()
            self._pictures = None

    def _connected(self) -> GraphPictures:
        if self._pictures is None:
            raise ConnectionError(f"{self.config.camera}: not connected; call connect() first")
        return self._pictures
