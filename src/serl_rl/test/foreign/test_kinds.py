# SPDX-License-Identifier: Apache-2.0
"""Each kind of policy that a person may name is opened by something, which refuses what is none by its name."""

from importlib import import_module
from pathlib import Path

import pytest
from serl_rl.imported.opening import _FOREIGN
from serl_rl.policy.reference import KINDS, read_reference
from serl_rl.spec import DataError


def test_every_kind_but_our_own_is_foreign() -> None:
    assert set(KINDS) == {"serl", *_FOREIGN}


@pytest.mark.parametrize("kind", _FOREIGN)
def test_an_empty_folder_is_no_policy_of_any_kind(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "nothing"
    folder.mkdir()
    module, _, function = _FOREIGN[kind].partition(":")
    with pytest.raises(DataError, match="nothing"):
        getattr(import_module(module), function)(read_reference(f"{kind}:{folder}").path)
