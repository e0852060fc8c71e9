# SPDX-License-Identifier: Apache-2.0
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3] / "serl_agentlace" / "test"))  # its server of the tests
