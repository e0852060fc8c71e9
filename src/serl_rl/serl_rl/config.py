# SPDX-License-Identifier: Apache-2.0
"""The settings of learning: what `config/learning/*.yaml` holds. Imports no JAX, so that actors can read it too."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

from serl_rl.capacity import Capacity, Memory
from serl_rl.devices import DeviceError, Devices, divisors

_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)

Activation = Literal["relu", "tanh", "silu"]
EncoderKind = Literal[
    "small",
    "resnet10",
    "resnet18",
    "resnet34",
    "mobilenet",
    "efficientnet_lite0_3",
    "efficientnet_lite0_4",
    "efficientnet_lite0_5",
    "efficientnet_lite0_6",
]
Backend = Literal["jax", "torch"]
Split = Literal["rows", "critics"]
Pooling = Literal["spatial_embeddings", "spatial_softmax", "average"]
Width = Annotated[int, Field(ge=1, le=4096)]
LearningRate = Annotated[float, Field(gt=0.0, lt=1.0)]
Count = Annotated[int, Field(ge=0, le=10**7)]

MAX_CHUNK = 64
"""Most actions that are chosen at once."""


@dataclass(frozen=True, config=_STRICT)
class SACConfig:
    """Soft actor-critic (Haarnoja et al., arXiv 1812.05905) with the critics of RLPD (arXiv 2302.02948)."""

    hidden_sizes: Annotated[tuple[Width, ...], Field(min_length=1, max_length=8)] = (64, 64)
    """Widths of the hidden layers of actor and critics."""
    activation: Activation = "relu"
    layer_norm: bool = True
    """Normalize every hidden layer before its activation."""
    bottleneck: int = Field(default=0, ge=0, le=4096)
    """Width of a layer (dense, normalized, tanh) through which actor and critics look, as LeRobot's do; 0: none."""
    critics: int = Field(default=2, ge=1, le=100)
    """Size of the ensemble."""
    critic_subset: int = Field(default=0, ge=0)
    """Critics drawn at random for each target, which is their minimum (REDQ, arXiv 2101.05982); 0 for all."""
    discount: float = Field(default=0.95, ge=0.0, lt=1.0)
    """Gamma of one environment step."""
    target_rate: float = Field(default=0.01, gt=0.0, le=1.0)
    """Tau, the share of the critic that moves into the target critic at each update."""
    acting_rate: float = Field(default=1.0, gt=0.0, le=1.0)
    """Share of the actor, and of the eyes that it looks through, that moves at each of its updates into the average
    whose actions are evaluated and deployed (Polyak and Juditsky, SIAM J. Control Optim. 30, 1992). What explores is
    the actor of the last update; with 1 it is evaluated as well."""
    actor_lr: LearningRate = 2e-3
    critic_lr: LearningRate = 2e-3
    temperature_lr: LearningRate = 2e-3
    """Step sizes of Adam."""
    initial_temperature: float = Field(default=0.1, gt=0.0, le=100.0)
    """Weight of the entropy bonus; then tuned so that the entropy of the policy nears `target_entropy`."""
    target_entropy: float | None = Field(default=None, ge=-1e4, le=1e4)
    """Entropy that the policy shall have for each action of a chunk [nat]; None stands for minus half the number of
    action components."""
    backup_entropy: bool = False
    """Whether targets contain the entropy bonus of the next state."""
    improve: Literal["none", "proposals", "residual"] = "none"
    """How an imported policy is improved, whose base action is a part of each observation. proposals: the critics
    choose between its action and the learner's, in acting and in the targets (Hu et al., IBRL, arXiv 2311.02198);
    residual: the learner corrects its action by at most `residual_scale` (Yuan et al., arXiv 2412.13630)."""
    residual_scale: float = Field(default=2.0, gt=0.0, le=2.0)
    """Largest correction of each component, with improve: residual. With 2 any action can be reached from any other, as
    a gripper needs that is commanded by absolute width."""

    @model_validator(mode="after")
    def _proposals_are_plain(self) -> Self:
        for name, wrong, why in (
            ("backup_entropy", self.backup_entropy, "an imported policy's proposal has no entropy; expected false"),
            ("bottleneck", self.bottleneck, "critics that choose while acting look without one; expected 0"),
        ):
            if self.improve == "proposals" and wrong:
                raise ValueError(f"{name}: {why} with improve: proposals, found {str(wrong).lower()}")
        return self

    @model_validator(mode="after")
    def _subset_fits(self) -> Self:
        if self.critic_subset > self.critics:
            raise ValueError(f"critic_subset: expected at most {self.critics}, the critics, found {self.critic_subset}")
        return self


@dataclass(frozen=True, config=_STRICT)
class DrQv2Config:
    """DrQ-v2 (Yarats et al., arXiv 2107.09645): a deterministic policy, explored with noise that fades by schedule."""

    hidden_sizes: Annotated[tuple[Width, ...], Field(min_length=1, max_length=8)] = (128, 128)
    """Widths of the hidden layers of actor and critics."""
    activation: Activation = "relu"
    layer_norm: bool = True
    """Normalize every hidden layer before its activation."""
    bottleneck: int = Field(default=0, ge=0, le=4096)
    """Width of a dense layer, layer normalization and tanh through which actor and each critic look, as RoboBase's do;
    0: they look without."""
    discount: float = Field(default=0.95, ge=0.0, lt=1.0)
    """Gamma of one environment step."""
    target_rate: float = Field(default=0.01, gt=0.0, le=1.0)
    """Tau, the share of the critic that moves into the target critic at each update."""
    actor_lr: LearningRate = 1e-3
    critic_lr: LearningRate = 1e-3
    """Step sizes of Adam."""
    noise_start: float = Field(default=1.0, ge=0.0, le=2.0)
    noise_end: float = Field(default=0.1, ge=0.0, le=2.0)
    """Standard deviation of the exploration noise at the first update and after `noise_steps`; linear in between."""
    noise_steps: int = Field(default=2000, ge=1, le=10**8)
    """Environment steps that were trained for until the noise has come down."""
    n_step: int = Field(default=3, ge=1, le=100)
    """Rewards that are summed before the value of the observation behind them; at least those of a chunk of actions."""
    noise_clip: float = Field(default=0.3, ge=0.0, le=2.0)
    """Largest noise on the actions in the losses; what explores is not clipped."""


@dataclass(frozen=True, config=_STRICT)
class Gripper:
    """A gripper that is commanded by absolute width: -1 closes it, 1 opens it."""

    action: int = Field(default=-1, ge=-1000, lt=1000)
    """Place of its component in the action; negative ones count from the end."""
    entry: str = "state"
    """Flat entry of the observation which has the command that holds, in the units of the action."""
    term: str = Field(default="gripper_target[0]", min_length=1, max_length=200)
    """Name of that command among the values of the entry, as the meaning of the specification gives them."""
    index: int | None = Field(default=None, ge=0)
    """Place of that command in the entry, instead of its name; needed where nothing names the values."""


@dataclass(frozen=True, config=_STRICT)
class HybridConfig:
    """SAC for the arm and double DQN over close, stay and open for the grippers (HIL-SERL, arXiv 2410.21845).

    The settings of SAC are under `sac`; its discount and target rate hold for the grasp critic too.
    """

    grippers: Annotated[tuple[Gripper, ...], Field(min_length=1, max_length=2)] = Field(
        default_factory=lambda: (Gripper(),)
    )
    grasp_hidden_sizes: Annotated[tuple[Width, ...], Field(min_length=1, max_length=8)] = (128,)
    """Widths of the hidden layers of the grasp critic; activation and normalization are those of SAC."""
    grasp_lr: LearningRate = 1e-3
    """Step size of Adam."""
    grasp_penalty: float = Field(default=0.02, ge=0.0, le=10.0)
    """What a command that changes what a gripper does costs, in the eyes of the grasp critic only."""
    epsilon: float = Field(default=0.05, ge=0.0, le=1.0)
    """Share of random grasps while training."""


@dataclass(frozen=True, config=_STRICT)
class VICEConfig:
    """SAC that gets its reward from a classifier (Fu et al., VICE, arXiv 1805.11686; as in SERL, arXiv 2401.16013).

    The classifier tells the last observations of successful demonstrations from those of the own experience, and is
    trained while the policy learns. The reward of the transitions is not looked at. The settings of SAC are under
    `sac`.
    """

    hidden_sizes: Annotated[tuple[Width, ...], Field(min_length=1, max_length=8)] = (64,)
    """Widths of the hidden layers of the classifier."""
    learning_rate: LearningRate = 1e-3
    """Step size of Adam."""
    interval: int = Field(default=1, ge=1, le=10**6)
    """Environment steps that are trained for per update of the classifier."""
    reward: Literal["binary", "log_odds"] = "binary"
    """binary: 1 where a success is at least as likely as not; log_odds: log p - log(1 - p), clipped to +-10."""
    label_smoothing: float = Field(default=0.2, ge=0.0, lt=1.0)
    """Labels are this far moved from 0 or 1 towards 1/2, as a share of the way."""
    mixup: bool = True
    """Train on random blends of two observations and of their labels (Zhang et al., arXiv 1710.09412)."""
    gradient_penalty: float = Field(default=10.0, ge=0.0, le=1e4)
    """Weight lambda of (|gradient| - 1)^2 between successes and experience (Gulrajani et al., arXiv 1704.00028)."""
    goal_capacity: int = Field(default=500, ge=1, le=10**6)
    """Observations of successes that are kept."""


@dataclass(frozen=True, config=_STRICT)
class BCConfig:
    """Behaviour cloning: the policy imitates the demonstrations, several actions at a time (arXiv 2304.13705)."""

    hidden_sizes: Annotated[tuple[Width, ...], Field(min_length=1, max_length=8)] = (256, 256)
    """Widths of the hidden layers."""
    activation: Activation = "relu"
    layer_norm: bool = True
    """Normalize every hidden layer before its activation."""
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)
    """Share of what the hidden layers say that is left out at random in training."""
    learning_rate: LearningRate = 1e-3
    """Step size of Adam."""
    chunk: int = Field(default=4, ge=1, le=MAX_CHUNK)
    """Consecutive actions that are predicted from one observation."""
    execute: int = Field(default=2, ge=1, le=MAX_CHUNK)
    """How many of them are executed before the policy looks again."""

    @model_validator(mode="after")
    def _execution_fits(self) -> Self:
        if self.execute > self.chunk:
            raise ValueError(f"execute: expected at most {self.chunk}, the actions of a chunk, found {self.execute}")
        return self


@dataclass(frozen=True, config=_STRICT)
class EncoderConfig:
    """The network that turns pictures into feature maps."""

    kind: EncoderKind = "small"
    weights: str = "auto"
    """auto: those that are shipped, which must have been trained for the world (or real cameras) and the cameras that
    are looked through, random ones where none of this kind are shipped; random; a name in config/encoders; or the path
    of a safetensors file."""
    seed: int = Field(default=0, ge=0)
    """Seed of random weights."""
    frozen: bool = True
    """Whether the weights stay as they are; otherwise they are trained with the critic."""
    cached: bool = True
    """With a frozen encoder: pictures are encoded once, when they arrive, and the learner sees no pixels."""
    views: int = Field(default=2, ge=1, le=16)
    """With cached features: the picture itself and views - 1 randomly shifted ones are encoded and stored."""
    shift: int = Field(default=4, ge=0, le=64)
    """Largest random shift along each axis [pixels] (DrQ, arXiv 2004.13649)."""

    @property
    def caches_features(self) -> bool:
        """Whether observations hold features instead of pictures."""
        return self.frozen and self.cached


@dataclass(frozen=True, config=_STRICT)
class EncoderTrainingConfig:
    """How an encoder is trained by supervision, before anything is learned with it."""

    epochs: int = Field(default=20, ge=1, le=10_000)
    batch_size: int = Field(default=128, ge=1, le=4096)
    """Pictures of each camera in a minibatch."""
    learning_rate: LearningRate = 2e-3
    """Step size of Adam at the start; it falls to zero along a cosine."""


@dataclass(frozen=True, config=_STRICT)
class EncoderAdaptingConfig:
    """How an encoder is adapted to a robot's own pictures, without labels."""

    steps: int = Field(default=800, ge=1, le=10**6)
    batch_size: int = Field(default=48, ge=2, le=4096)
    """Pictures of each camera in a minibatch."""
    learning_rate: LearningRate = 1e-3
    """Step size of Adam at the start; it falls to zero along a cosine."""
    contrast: float = Field(default=0.2, ge=0.0, le=100.0)
    """Weight of telling each picture from the others, beside what the robot knows of itself."""
    temperature: float = Field(default=0.1, gt=0.0, le=10.0)
    """Scale of the likeness of two pictures."""
    shift: int = Field(default=4, ge=0, le=64)
    """Largest random shift along each axis [pixels]."""
    brightness: float = Field(default=0.1, ge=0.0, le=1.0)
    colour: float = Field(default=0.15, ge=0.0, lt=1.0)
    """Largest random changes of all colours together and of each, as parts of the full range and of the colour."""
    noise: float = Field(default=0.02, ge=0.0, le=1.0)
    """Standard deviation of each pixel, as a part of the full range."""
    held_out: float = Field(default=0.25, gt=0.0, lt=1.0)
    """Share of the episodes that is left out, to judge with."""


@dataclass(frozen=True, config=_STRICT)
class VisionConfig:
    """How agents look at pictures. Each camera has parameters of its own after the encoder, which all share."""

    encoder: EncoderConfig = Field(default_factory=EncoderConfig)
    pooling: Pooling = "spatial_embeddings"
    """What makes a vector of a feature map."""
    embeddings: int = Field(default=8, ge=1, le=64)
    """Learned spatial weightings of each channel, with spatial_embeddings."""
    width: Width = 64
    """Width of the dense layer behind the pooling, which layer normalization and tanh follow."""
    frame_stack: int = Field(default=1, ge=1, le=16)
    """Pictures that make one observation: the newest and those before it."""
    storage: Literal["raw", "jpeg"] = "raw"
    """How the replay buffer keeps pictures, where it has any."""
    jpeg_quality: int = Field(default=95, ge=1, le=100)


@dataclass(frozen=True, config=_STRICT)
class ActingConfig:
    """How much a policy sees at once, and how much it decides at once. The chunk is not that of bc, which has its own.

    With a chunk of H actions the critics value H of them together, Q(s, a_1 ... a_H), against the rewards of these
    steps and the value of the observation behind them (Q-chunking, Li et al., arXiv 2507.07969).
    """

    history: int = Field(default=1, ge=1, le=16)
    """Moments that an observation holds of its vectors, the newest first; of pictures, see `vision.frame_stack`."""
    chunk: int = Field(default=1, ge=1, le=MAX_CHUNK)
    """Consecutive actions that are chosen from one observation."""
    execute: int = Field(default=1, ge=1, le=MAX_CHUNK)
    """How many of them are executed before the policy looks again."""

    @model_validator(mode="after")
    def _execution_fits(self) -> Self:
        if self.execute > self.chunk:
            raise ValueError(f"execute: expected at most {self.chunk}, the actions of a chunk, found {self.execute}")
        return self


@dataclass(frozen=True, config=_STRICT)
class TorchConfig:
    """How the PyTorch backend computes. None of it changes what is learned, but for rounding."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: a GPU where PyTorch finds one."""
    compile: bool = False
    """Compile each step of the update into one program, which takes minutes the first time on a machine. On a CPU that
    needs a C++ compiler; where there is none, steps are taken as they are written, and the log says so."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Numbers in matrix products and convolutions in training; parameters and losses are float32 with either."""
    channels_last: bool = True
    """How the maps of convolutions lie in memory: as pictures come, the channels of each pixel side by side, or channel
    by channel, which takes a copy."""
    cuda_graphs: bool = False
    """Record each step once, for a GPU to repeat it as a whole; refused without one."""
    prefetch: bool = False
    """Copy each minibatch to a GPU while the one before is learned from; changes nothing on a CPU."""


@dataclass(frozen=True, config=_STRICT)
class LearningConfig:
    """How a policy is learned from demonstrations and own experience."""

    backend: Backend = "jax"
    """What computes; checkpoints and policies are the same files with both. See docs/backends.md."""
    torch: TorchConfig = Field(default_factory=TorchConfig)
    """Settings of the backend torch."""
    devices: Devices = 1
    """Devices of the backend that train together: a number, or all that it finds. Changes what is learned by rounding
    alone; checkpoints and policies are the same files. See docs/devices.md."""
    split: Split = "rows"
    """What is divided among several devices: the rows of each minibatch, or the critics of sac."""
    agent: Literal["sac", "drqv2", "hybrid", "vice", "bc"] = "sac"
    """The algorithm; its settings are under its name. See docs/algorithms.md."""
    policies: Literal["one", "per_arm"] = "one"
    """Whether two arms have one policy that acts for both, or one each, learned from the same buffer."""
    sac: SACConfig = Field(default_factory=SACConfig)
    """Also of the soft actor-critic in hybrid and vice."""
    drqv2: DrQv2Config = Field(default_factory=DrQv2Config)
    hybrid: HybridConfig = Field(default_factory=HybridConfig)
    vice: VICEConfig = Field(default_factory=VICEConfig)
    bc: BCConfig = Field(default_factory=BCConfig)
    vision: VisionConfig = Field(default_factory=VisionConfig)
    """How pictures are looked at, for tasks with cameras."""
    acting: ActingConfig = Field(default_factory=ActingConfig)
    """What is seen and chosen at once."""
    batch_size: int = Field(default=128, ge=2, le=2**16)
    """Transitions in a minibatch, half of them demonstrations."""
    utd_ratio: int = Field(default=2, ge=1, le=1000)
    """Critic updates per environment step; actor and temperature are updated once."""
    random_steps: Count = 100
    """Environment steps with uniformly random actions before the policy acts."""
    training_starts: Count = 100
    """Online transitions before the first update."""
    updates_before_acting: Count = 0
    """Updates on the demonstrations alone, once they are complete; the policy acts after these."""
    replay_capacity: Capacity = 200_000
    """Transitions of own experience that are kept for learning, the newest ones; or the bytes that these may take, as
    they are stored, with a unit: 500MB, 20GB. See docs/replay.md."""
    replay_memory: Memory = "all"
    """Memory for own experience and mounted runs, with a unit: 500MB, 2GB. The newest transitions are in it, older ones
    are read from files in the run's folder. all: everything is in memory. See docs/replay.md."""
    demonstration_capacity: Annotated[int, Field(ge=1, le=10**8)] = 50_000
    """Transitions."""

    @model_validator(mode="after")
    def _vice_has_experience(self) -> Self:
        if self.agent == "vice" and (self.updates_before_acting or not self.training_starts):
            raise ValueError(
                "agent: vice compares demonstrations with own experience; expected updates_before_acting 0 and "
                f"training_starts of 1 or more, found {self.updates_before_acting} and {self.training_starts}"
            )
        return self

    @model_validator(mode="after")
    def _bytes_are_known(self) -> Self:
        if self.replay_memory != "all" and self.vision.storage == "jpeg":
            raise ValueError(
                "replay_memory: expected vision.storage: raw where a part is on the disk, found jpeg; leave one out"
            )
        if isinstance(self.replay_capacity, str) and self.vision.storage == "jpeg":
            raise ValueError(
                "replay_capacity: expected a number of transitions with vision.storage: jpeg, whose pictures differ in "
                f"size, found {self.replay_capacity}"
            )
        return self

    @model_validator(mode="after")
    def _minibatches_can_be_split(self) -> Self:
        if self.split == "critics" and (self.agent != "sac" or self.policies != "one"):
            raise ValueError(
                "split: the ensemble of one sac agent can be divided among devices; expected rows with "
                f"{self.agent if self.agent != 'sac' else f'policies: {self.policies}'}, found critics"
            )
        if self.devices != "all":
            self.check_split(self.devices)
        return self

    def check_split(self, devices: int) -> None:
        """Raise DeviceError unless what is split has the same size on each of so many devices."""
        name, size = ("sac.critics", self.sac.critics) if self.split == "critics" else ("batch_size", self.batch_size)
        if size % devices:
            raise DeviceError(f"a divisor of {name} ({divisors(size)})", f"{devices} with {name} {size}")

    def check_processes(self, count: int) -> None:
        """Raise DeviceError unless so many processes of PyTorch are the devices that are asked for, one each."""
        if self.devices not in ("all", count):
            raise DeviceError(
                f"{count} or all with backend: torch, which trains on a device for each process of torch.distributed,"
                f" {count} here (the learner is one; backend: jax takes several devices)",
                str(self.devices),
            )

    @model_validator(mode="after")
    def _an_arm_can_learn_alone(self) -> Self:
        if self.policies == "per_arm" and self.agent == "hybrid":
            raise ValueError("policies: hybrid chooses for all grippers at once; expected one, found per_arm")
        if self.policies == "per_arm" and not self.vision.encoder.frozen:
            raise ValueError(
                "policies: two policies do not train one encoder; expected vision.encoder.frozen with per_arm, found "
                "one that is trained"
            )
        return self

    @property
    def improves(self) -> bool:
        """Whether an imported policy is improved, so that observations hold its base action."""
        return self.agent == "sac" and self.sac.improve != "none"

    @model_validator(mode="after")
    def _one_policy_is_improved(self) -> Self:
        if self.sac.improve == "none":
            return self
        trained = not self.vision.encoder.frozen and self.sac.improve == "proposals"
        for place, wrong, expected, found in (
            ("agent", self.agent != "sac", "sac", self.agent),
            ("policies", self.policies != "one", "one", self.policies),
            ("acting.chunk", self.acting.chunk > 1, "1", str(self.acting.chunk)),
            ("vision.encoder.frozen", trained, "true", "false"),
        ):
            if wrong:
                raise ValueError(f"{place}: expected {expected} with sac.improve: {self.sac.improve}, found {found}")
        return self

    @model_validator(mode="after")
    def _chunk_is_of_the_agent(self) -> Self:
        if self.agent == "bc" and self.acting.chunk > 1:
            raise ValueError(f"acting.chunk: expected 1 for bc, which has bc.chunk, found {self.acting.chunk}")
        return self


@dataclass(frozen=True, config=_STRICT)
class RewardClassifierConfig:
    """How a reward classifier is trained."""

    encoder: EncoderKind = "small"
    weights: str = "auto"
    """Weights of the encoder, as in `EncoderConfig`."""
    frozen: bool = True
    """Whether the encoder's weights stay as they are."""
    embeddings: int = Field(default=8, ge=1, le=64)
    width: Width = 64
    """Width of the layer behind the spatial embeddings of each camera, and of the one behind them all."""
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)
    views: int = Field(default=4, ge=1, le=64)
    """With a frozen encoder: pictures that are encoded of each frame, the first as it is, the others changed."""
    shift: int = Field(default=4, ge=0, le=64)
    """Largest random shift along each axis [pixels]."""
    brightness: float = Field(default=0.1, ge=0.0, le=1.0)
    contrast: float = Field(default=0.2, ge=0.0, lt=1.0)
    """Largest random changes, as parts of the full range."""
    noise: float = Field(default=0.02, ge=0.0, le=1.0)
    """Standard deviation of each pixel, as a part of the full range."""
    steps: int = Field(default=2000, ge=1, le=10**6)
    batch_size: int = Field(default=128, ge=2, le=2**14)
    """Frames of a step, the same number of each stage."""
    learning_rate: LearningRate = 1e-3
    weight_decay: float = Field(default=1e-3, ge=0.0, lt=1.0)
    validation: float = Field(default=0.25, gt=0.0, lt=1.0)
    """Share of the episodes that is held out, to calibrate and to judge."""
    false_positive_rate: float = Field(default=0.002, ge=0.0, lt=0.5)
    """Share of held-out frames of failures that may look like success."""
    consecutive: int = Field(default=2, ge=1, le=100)
    """Frames in a row that must show success until it counts."""
