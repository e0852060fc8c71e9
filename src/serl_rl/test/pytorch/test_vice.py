# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import numpy as np
import pytest
from serl_rl.config import VICEConfig

torch = pytest.importorskip("torch", reason="./serl setup torch")


def test_rewards():
    from serl_rl.torch.vice import reward_of

    odds, config = torch.tensor([-20.0, -0.1, 0.0, 3.0]), VICEConfig()
    np.testing.assert_allclose(reward_of(odds, config), [0.0, 0.0, 1.0, 1.0])
    np.testing.assert_allclose(reward_of(odds, replace(config, reward="log_odds")), [-10.0, -0.1, 0.0, 3.0], rtol=1e-6)
