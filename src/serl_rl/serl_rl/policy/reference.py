# SPDX-License-Identifier: Apache-2.0
"""How people name a policy that was made before: KIND:PATH."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from serl_config.text import printable

from serl_rl.spec import DataError

KINDS = ("serl", "act", "drqv2", "lerobot_sac", "flax")
"""What may stand before the colon. serl: a run's folder, or a file of a policy, of this workspace; act: an ACT policy
of LeRobot, a directory or an imported file; drqv2: a snapshot of RoboBase, a folder of them, or a directory of the
LeRobot fork; lerobot_sac: a directory of LeRobot's HIL-SERL; flax: a checkpoint of SERL or HIL-SERL."""

_BLOCK = 2**20  # [bytes]
_MOST_FILES = 1000
_HASHED = (".safetensors", ".json", ".yaml", ".pt")


@dataclass(frozen=True)
class PolicyReference:
    """Where a policy is, and who has written it.

    kind: one of `KINDS`
    path: of its file or folder, absolute
    """

    kind: str
    path: Path

    def __str__(self) -> str:
        return f"{self.kind}:{self.path}"

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with the files of the policy.

        Of a folder those count that lie in it and hold weights or settings; of a run of ours the newest checkpoint's.

        Raises:
            DataError: a file cannot be read.
        """
        digest = hashlib.sha256()
        try:
            for file in self._files():
                digest.update(file.name.encode())
                with file.open("rb") as stream:
                    while block := stream.read(_BLOCK):
                        digest.update(block)
        except OSError as error:
            raise DataError("policy", "files that can be read", str(error)) from error
        return digest.hexdigest()[:16]

    def _files(self) -> list[Path]:
        if self.path.is_file():
            return [self.path]
        folder = self.path
        if checkpoints := sorted((folder / "checkpoints").glob("*/policy.safetensors")):
            return [checkpoints[-1]]
        found = [file for file in sorted(folder.iterdir()) if file.suffix in _HASHED and file.is_file()]
        return (found or [file for file in sorted(folder.rglob("*")) if file.is_file()])[:_MOST_FILES]


def read_reference(text: str) -> PolicyReference:
    """The reference that a person wrote, `KIND:PATH`.

    Raises:
        DataError: there is no such kind, or nothing at the path.
    """
    kind, separator, path = text.partition(":")
    if not separator or kind not in KINDS or not path:
        kinds = " or ".join(f"{known}:PATH" for known in KINDS)
        raise DataError("policy", kinds, repr(printable(text, 80)))
    found = Path(path).expanduser().absolute()
    expected = "a file or folder that exists"
    try:
        exists = found.exists()
    except OSError as error:  # too long a name, or a folder that may not be looked into
        raise DataError("policy", expected, f"{printable(str(found), 200)}: {error.strerror}") from error
    if not exists:
        raise DataError("policy", expected, f"{printable(str(found), 200)}, where nothing is")
    return PolicyReference(kind, found)
