# SPDX-License-Identifier: Apache-2.0
"""A folder of keys appears whole or not at all."""

from pathlib import Path

import pytest
from serl_security.certificates import KeysError, new_folder, write_own


def test_a_folder_is_there_when_all_of_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "above/keys"
    with new_folder(folder) as made:
        write_own(made / "key", b"secret")
        assert not folder.exists()
    assert (folder / "key").read_bytes() == b"secret"
    assert (folder / "key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in folder.parent.iterdir()] == ["keys"]


def test_a_folder_that_was_not_finished_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="disk full"), new_folder(tmp_path / "keys") as made:
        (made / "inner").mkdir()
        write_own(made / "inner/key", b"half")
        raise OSError("disk full")
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys/old").touch()
    with pytest.raises(KeysError, match="nothing is written over"), new_folder(tmp_path / "keys"):
        pytest.fail("it must not begin")
    assert [path.name for path in (tmp_path / "keys").iterdir()] == ["old"]
