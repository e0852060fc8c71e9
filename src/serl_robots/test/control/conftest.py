# SPDX-License-Identifier: Apache-2.0
"""Controllers for the tests of this folder."""

import pytest
from controller_rig import Rig


@pytest.fixture
def lockstep() -> Rig:
    return Rig(lockstep=True)


@pytest.fixture
def paced() -> Rig:
    return Rig(lockstep=False)
