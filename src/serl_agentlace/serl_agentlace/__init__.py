# SPDX-License-Identifier: Apache-2.0
"""agentlace's wire: what a script of SERL imports from here instead, it uses as before."""

from serl_agentlace.client import TrainerClient
from serl_agentlace.config import TrainerConfig
from serl_agentlace.data_store import DataStoreBase, QueuedDataStore
from serl_agentlace.frames import AgentlaceError, FrameError
from serl_agentlace.server import TrainerServer

__all__ = [
    "AgentlaceError",
    "DataStoreBase",
    "FrameError",
    "QueuedDataStore",
    "TrainerClient",
    "TrainerConfig",
    "TrainerServer",
]
