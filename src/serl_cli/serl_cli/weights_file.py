# SPDX-License-Identifier: Apache-2.0
"""Files of weights that commands write; imports nothing heavy, as every command line reads this."""

from pathlib import Path

from serl_launch.errors import CommandError


def check_free(path: Path, force: bool) -> None:
    """Raise CommandError unless a new file of weights can be written; `force` lets it take another one's place."""
    if path.suffix != ".safetensors":
        raise CommandError(f"{path}: expected a name that ends in .safetensors")
    if path.exists() and not force:
        raise CommandError(f"{path} exists: choose another --out, or --force to replace it")
    if not path.absolute().parent.is_dir():
        raise CommandError(f"{path}: there is no folder {path.absolute().parent}")
