# SPDX-License-Identifier: Apache-2.0
import importlib
import sys
from pathlib import Path

import pytest

STAND_INS = Path(__file__).parent / "stand_ins"


@pytest.fixture
def stand_ins(monkeypatch):
    """Packages of the names of those that others wrote; a package that is installed has no say."""
    gone = [name for name in sys.modules if name.split(".")[0] in ("metaworld", "gym_hil")]
    for name in gone:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(STAND_INS))
    importlib.invalidate_caches()
    yield
    for name in [name for name in sys.modules if name.split(".")[0] in ("metaworld", "gym_hil")]:
        del sys.modules[name]
