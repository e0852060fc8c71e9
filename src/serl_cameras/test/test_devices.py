# SPDX-License-Identifier: Apache-2.0
from serl_cameras.devices import Device, v4l2_devices


def test_webcams_are_listed_by_their_lasting_names_without_their_metadata(tmp_path):
    for number, (name, index) in enumerate([("HD Webcam", 0), ("HD Webcam", 1), ("Capture card", 0)]):
        entry = tmp_path / f"sys/class/video4linux/video{number}"
        entry.mkdir(parents=True)
        (entry / "name").write_text(f"{name}\n")
        (entry / "index").write_text(f"{index}\n")
        (tmp_path / "dev").mkdir(exist_ok=True)
        (tmp_path / f"dev/video{number}").touch()
    links = tmp_path / "dev/v4l/by-id"
    links.mkdir(parents=True)
    (links / "usb-HD_Webcam-index0").symlink_to("../../video0")
    assert v4l2_devices(tmp_path) == [
        Device("v4l2", "HD Webcam", "video_device", str(links / "usb-HD_Webcam-index0")),
        Device("v4l2", "Capture card", "video_device", str(tmp_path / "dev/video2")),
    ]


def test_a_machine_without_cameras_has_none(tmp_path):
    assert v4l2_devices(tmp_path) == []
