# SPDX-License-Identifier: Apache-2.0
"""Makes what is computed by a backend: agents, policies that act on pictures, encoders of frames.

Agents are of JAX or of PyTorch, as the configuration says. A backend is imported by the functions here when they are
called, and not before: that takes seconds, and whoever acts on vectors or on cached features does without.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from serl_config.optional import is_installed, setup_line

from serl_rl.agent import Agent
from serl_rl.config import Backend, EncoderConfig, LearningConfig
from serl_rl.devices import find_jax_devices, number_of
from serl_rl.encoders.encoder import Encoder
from serl_rl.encoders.frames import FrameEncoder
from serl_rl.encoders.training.computation import EncoderComputation
from serl_rl.foreign.act.acting import ActPolicy
from serl_rl.foreign.act.directory import ActCheckpoint
from serl_rl.foreign.act.file import open_act
from serl_rl.policy.numpy_policy import NumpyPolicy
from serl_rl.policy.snapshot import PolicySnapshot
from serl_rl.reward.classifier import StageClassifier, read_parts
from serl_rl.reward.training import Computation
from serl_rl.spec import TransitionSpec


class BackendError(ValueError):
    """A backend that cannot be used on this machine: says what is missing and how to get it."""


def check_torch() -> None:
    """Raise BackendError unless PyTorch is installed."""
    if not is_installed("torch"):
        raise BackendError(f"backend: torch needs PyTorch, which is not installed: {setup_line('torch')} brings it")


def check_backend(backend: Backend) -> None:
    """Raise BackendError unless a backend is installed; imports none."""
    if backend == "torch":
        check_torch()


def check_devices(config: LearningConfig) -> None:
    """Raise DeviceError unless the learner can train on the devices that the settings ask for.

    JAX is asked what it finds in a process of its own, some seconds, and only where `devices` is another than 1.
    """
    if config.devices == 1:
        return
    if config.backend == "torch":
        config.check_processes(1)
        return
    config.check_split(number_of(config.devices, find_jax_devices()))


def create_agent(seed: int, spec: TransitionSpec, config: LearningConfig, encoder: Encoder | None = None) -> Agent:
    """A new agent of the configured algorithm.

    Args:
        seed: of its parameters and of all that it draws.
        spec: of the transitions.
        config: names the backend and the algorithm, and holds their settings.
        encoder: needed where observations hold pictures; the first weights of a trained one.

    Raises:
        BackendError: the backend is not installed.
        DataError: the observations do not fit the configuration, the encoder is missing or of another kind, or
            (DeviceError) the configuration asks for more devices than there are.
    """
    if config.backend == "torch":
        check_torch()
        from serl_rl.torch.agents import create_agent as create_torch_agent

        return create_torch_agent(seed, spec, config, encoder)
    from serl_rl.jax.agents import create_agent as create_jax_agent

    return create_jax_agent(seed, spec, config, encoder)


def make_policy(snapshot: PolicySnapshot, encoder: Encoder | None = None, backend: Backend = "jax") -> NumpyPolicy:
    """The policy of a snapshot. Imports the backend only if it acts on pictures.

    Args:
        snapshot: of the policy, trained with any backend.
        encoder: the frozen encoder of a policy that acts on pictures and has none of its own.
        backend: that encodes the pictures.

    Raises:
        BackendError: the backend is not installed.
        DataError: the parts do not belong together, or the encoder is missing or another one.
    """
    frames = snapshot.frames
    if frames is None or not frames.pictures:
        return NumpyPolicy(snapshot)
    own = snapshot.encoder(encoder)
    if backend == "torch":
        check_torch()
        from serl_rl.torch.pictures.picture_encoder import PictureEncoder as TorchPictureEncoder

        return NumpyPolicy(snapshot, TorchPictureEncoder(own))
    from serl_rl.jax.pictures.picture_encoder import PictureEncoder as JaxPictureEncoder

    return NumpyPolicy(snapshot, JaxPictureEncoder(own))


def make_frame_encoder(encoder: Encoder, config: EncoderConfig, seed: int, backend: Backend = "jax") -> FrameEncoder:
    """What encodes frames when they arrive; the first call for each size of pictures compiles.

    Args:
        encoder: frozen.
        config: says how many views of each picture are encoded, and how far they are shifted.
        seed: of the shifts.
        backend: that encodes them.

    Raises:
        BackendError: the backend is not installed.
    """
    if backend == "torch":
        check_torch()
        from serl_rl.torch.encoders.frames import FrameEncoder as TorchFrameEncoder

        return TorchFrameEncoder(encoder, config.views, config.shift, seed)
    from serl_rl.jax.encoders.frames import FrameEncoder as JaxFrameEncoder

    return JaxFrameEncoder(encoder, config.views, config.shift, seed)


def load_classifier(path: Path, find: Callable[[str], Path], backend: Backend = "jax") -> StageClassifier:
    """Read a reward classifier, which may have been trained with any backend.

    Args:
        path: of its file.
        find: finds the weights of a frozen encoder, as for `serl_rl.encoders.loading.load_encoder`.
        backend: that computes what it says.

    Raises:
        BackendError: the backend is not installed.
        ClassifierError: the file cannot be used, as for `serl_rl.reward.classifier.read_parts`.
    """
    if backend == "torch":
        check_torch()
        from serl_rl.torch.reward.classifier import RewardClassifier as TorchRewardClassifier

        return TorchRewardClassifier(*read_parts(path, find))
    from serl_rl.jax.reward.classifier import RewardClassifier as JaxRewardClassifier

    return JaxRewardClassifier(*read_parts(path, find))


def classifier_computation(backend: Backend = "jax") -> Computation:
    """What a backend does in `serl_rl.reward.training.train_classifier`; raises BackendError if it is not installed."""
    if backend == "torch":
        check_torch()
        from serl_rl.torch.reward.training import COMPUTATION as TORCH_COMPUTATION

        return TORCH_COMPUTATION
    from serl_rl.jax.reward.training import COMPUTATION as JAX_COMPUTATION

    return JAX_COMPUTATION


def encoder_computation(backend: Backend = "jax") -> EncoderComputation:
    """What a backend does in the training of encoders; raises BackendError if it is not installed."""
    if backend == "torch":
        check_torch()
        from serl_rl.torch.encoders import adapting as torch_adapting
        from serl_rl.torch.encoders import maps as torch_maps
        from serl_rl.torch.encoders import training as torch_training

        return EncoderComputation(torch_training.LabelFitting, torch_adapting.AdaptingFitting, torch_maps.feature_maps)
    from serl_rl.jax.encoders import adapting, maps, training

    return EncoderComputation(training.LabelFitting, adapting.AdaptingFitting, maps.feature_maps)


def make_act_policy(checkpoint: ActCheckpoint) -> ActPolicy:
    """An ACT policy that acts; its first action compiles, some seconds.

    Args:
        checkpoint: of the policy, as `serl_rl.foreign.act.directory.read_act` reads it.
    """
    from serl_rl.jax.act.predicting import ActNetwork

    return ActPolicy(checkpoint, ActNetwork(checkpoint))


def open_act_policy(path: Path) -> ActPolicy:
    """The ACT policy in a directory of LeRobot's, or in a file that was imported.

    Raises:
        ForeignError: it is neither, or damaged.
    """
    return make_act_policy(open_act(path))
