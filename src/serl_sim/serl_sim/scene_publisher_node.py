# SPDX-License-Identifier: Apache-2.0
"""What the bridge publishes of the world for who looks at it: frames, pictures, markers."""

import numpy as np
from builtin_interfaces.msg import Time
from numpy.typing import NDArray
from rclpy.node import Node
from serl_robots.model.camera_info import ideal_camera_info, optical_frame
from serl_ros.camera_publisher import CameraPublisher
from serl_ros.qos import LATCHED, RELIABLE_1, RELIABLE_10
from serl_tasks.arm_sample import arm_topic
from std_msgs.msg import String
from visualization_msgs.msg import MarkerArray

from serl_sim.markers import SceneMarkers
from serl_sim.transforms import RobotFrames, camera_transforms
from serl_sim.world import World


class ScenePublisher:
    """Publishes frames, `robot_description`, camera images and `markers`."""

    def __init__(
        self,
        node: Node,
        world: World,
        stamp: Time,
        *,
        robot_state: bool,
        image_size: tuple[int, int] | None,
        frame_prefix: str,
    ) -> None:
        """Connect.

        Args:
            node: that owns the publishers.
            world: that is shown.
            stamp: of all messages; the caller changes it in place.
            robot_state: whether to publish the robot's frames and description, as robot_state_publisher does.
            image_size: width and height of camera images [pixels]; None: those that the task needs.
            frame_prefix: before the names of frames.

        Raises:
            ValueError: the message package for frames is missing.
        """
        try:
            from tf2_msgs.msg import TFMessage
        except ImportError as error:
            raise ValueError(
                "the package tf2_msgs is missing: install it, or build the workspace's own with ./serl shell"
            ) from error
        self._world, self._stamp = world, stamp
        arms = world.task.arm_names
        self._frames = [RobotFrames(world.model, world.robot, frame_prefix, arm) for arm in arms if robot_state]
        self._transforms = TFMessage()
        fixed = camera_transforms(world.cameras, stamp, frame_prefix)
        fixed += [transform for frames in self._frames for transform in frames.fixed(stamp)]
        self._transforms_publisher = node.create_publisher(TFMessage, "/tf", RELIABLE_10) if robot_state else None
        self._description_publishers = []
        for arm in arms if robot_state else ():
            publisher = node.create_publisher(String, arm_topic(arm, "robot_description"), LATCHED)
            publisher.publish(String(data=world.robot.urdf_xml()))
            self._description_publishers.append(publisher)
        self._fixed_publisher = node.create_publisher(TFMessage, "/tf_static", LATCHED)
        self._fixed_publisher.publish(TFMessage(transforms=fixed))
        self._cameras = {name: CameraPublisher(node, name) for name in world.cameras}
        self._sizes = {name: image_size or world.picture_size(name) for name in world.cameras}
        self._infos = {
            name: ideal_camera_info(mount.fovy_deg, *self._sizes[name], frame_prefix + optical_frame(name))
            for name, mount in world.cameras.items()
        }
        self._markers = SceneMarkers(world.task, frame_prefix + world.task.reference_frame(world.robot.base_frame))
        self._marker_publisher = node.create_publisher(MarkerArray, "markers", RELIABLE_1)

    def publish_images(self) -> None:
        """Publish the images that somebody subscribes to."""
        for name, camera in self._cameras.items():
            if camera.is_wanted():
                camera.publish(self._render(name), self._infos[name], self._stamp)

    def publish_images_to_newcomers(self) -> None:
        """Publish the images that somebody has subscribed to since the last ones: the world may be waiting for them."""
        for name, camera in self._cameras.items():
            if camera.has_newcomers():
                camera.publish(self._render(name), self._infos[name], self._stamp)

    def publish_frames(self) -> None:
        """Publish the robot's moving frames."""
        if self._transforms_publisher is not None:
            data, stamp = self._world.data, self._stamp
            self._transforms.transforms = [each for frames in self._frames for each in frames.moving(data, stamp)]
            self._transforms_publisher.publish(self._transforms)

    def publish_markers(self) -> None:
        """Publish the markers, if somebody looks."""
        if self._marker_publisher.get_subscription_count() > 0:
            self._marker_publisher.publish(self._markers.build(self._world.objects(), self._stamp))

    def _render(self, camera: str) -> NDArray[np.uint8]:
        return self._world.render(camera, *self._sizes[camera])
