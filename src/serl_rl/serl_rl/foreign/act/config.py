# SPDX-License-Identifier: Apache-2.0
"""What the `config.json` of an ACT policy says: its inputs and outputs, its architecture, and how it acts.

Names, meanings and defaults are LeRobot's. An option that is not known here is refused: it may change what the network
computes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final, Literal, Self

from pydantic import TypeAdapter
from serl_config.schema import Field, build, config, model_validator

STATE: Final = "observation.state"
ENV_STATE: Final = "observation.environment_state"
ACTION: Final = "action"

FeatureType = Literal["VISUAL", "STATE", "ENV", "ACTION"]
NormalizationMode = Literal["MEAN_STD", "MIN_MAX", "QUANTILES", "QUANTILE10", "IDENTITY"]
MAX_PARAMETERS: Final = 2**28

_BY_DEFAULT: Final[Mapping[FeatureType, NormalizationMode]] = {
    "VISUAL": "MEAN_STD",
    "STATE": "MEAN_STD",
    "ACTION": "MEAN_STD",
}
_BASIC = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}
_BOTTLENECK = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3), "resnet152": (3, 8, 36, 3)}


@config
class ActFeature:
    """One input or output."""

    type: FeatureType
    shape: tuple[int, ...] = Field(min_length=1, max_length=3)
    """(3, H, W) of pictures, (n,) of vectors."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not all(1 <= size <= 2**13 for size in self.shape):
            raise ValueError(f"expected sizes of 1 to {2**13}, found {list(self.shape)}")
        if self.type == "VISUAL" and (len(self.shape) != 3 or self.shape[0] != 3):
            raise ValueError(f"expected the shape of pictures, [3, height, width], found {list(self.shape)}")
        if self.type != "VISUAL" and len(self.shape) != 1:
            raise ValueError(f"expected the shape of a vector, [n], found {list(self.shape)}")
        return self


@config(kw_only=True)
class ActConfig:
    """An ACT policy's architecture and settings; only what LeRobot's own class can run."""

    input_features: dict[str, ActFeature]
    output_features: dict[str, ActFeature]
    n_obs_steps: Literal[1] = 1
    chunk_size: int = Field(100, ge=1, le=4096)
    n_action_steps: int = Field(100, ge=1, le=4096)
    normalization_mapping: dict[FeatureType, NormalizationMode] = Field(default_factory=lambda: dict(_BY_DEFAULT))
    vision_backbone: Literal["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"] = "resnet18"
    pretrained_backbone_weights: str | None = None
    replace_final_stride_with_dilation: bool | int = False
    pre_norm: bool = False
    dim_model: int = Field(512, ge=4, le=8192)
    n_heads: int = Field(8, ge=1, le=256)
    dim_feedforward: int = Field(3200, ge=1, le=32768)
    feedforward_activation: Literal["relu", "gelu"] = "relu"
    n_encoder_layers: int = Field(4, ge=0, le=64)
    n_decoder_layers: int = Field(1, ge=0, le=64)
    use_vae: bool = True
    latent_dim: int = Field(32, ge=1, le=4096)
    n_vae_encoder_layers: int = Field(4, ge=0, le=64)
    temporal_ensemble_coeff: float | None = Field(None, ge=-100, le=100)
    dropout: float = Field(0.1, ge=0, le=1)
    kl_weight: float = Field(10.0, ge=0, le=1e9)
    optimizer_lr: float = Field(1e-5, ge=0, le=10)
    optimizer_weight_decay: float = Field(1e-4, ge=0, le=10)
    optimizer_lr_backbone: float = Field(1e-5, ge=0, le=10)
    # What is of LeRobot's machine and hub, and not of the policy.
    device: str | None = None
    use_amp: bool = False
    use_peft: Literal[False] = False
    push_to_hub: bool = False
    repo_id: str | None = None
    private: bool | None = None
    tags: list[str] | None = None
    license: str | None = None
    pretrained_path: str | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if STATE not in self.input_features or self.input_features[STATE].type != "STATE":
            raise ValueError(f"input_features: expected {STATE!r} of type STATE, found {sorted(self.input_features)}")
        outputs = {name: feature.type for name, feature in self.output_features.items()}
        if outputs != {ACTION: "ACTION"}:
            raise ValueError(f"output_features: expected {ACTION!r} of type ACTION alone, found {outputs}")
        if not self.cameras and self.env_state_size is None:
            raise ValueError("input_features: expected a camera or the state of the environment, found neither")
        if any(f.type == "ENV" and name != ENV_STATE for name, f in self.input_features.items()):
            raise ValueError(f"input_features: expected a feature of type ENV to be named {ENV_STATE!r}")
        if self.n_action_steps > self.chunk_size:
            raise ValueError(
                f"n_action_steps: expected at most chunk_size, {self.chunk_size}, found {self.n_action_steps}"
            )
        if self.temporal_ensemble_coeff is not None and self.n_action_steps != 1:
            raise ValueError(
                f"n_action_steps: expected 1 where temporal_ensemble_coeff is set, found {self.n_action_steps}"
            )
        if self.dim_model % self.n_heads:
            raise ValueError(f"dim_model: expected a multiple of the {self.n_heads} heads, found {self.dim_model}")
        if self.dim_model % 4 and self.cameras:
            raise ValueError(f"dim_model: expected a multiple of 4, for positions in pictures, found {self.dim_model}")
        if self.replace_final_stride_with_dilation and not self.bottleneck:
            raise ValueError(f"replace_final_stride_with_dilation: {self.vision_backbone} has no dilated form")
        return self

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the features that are pictures, in the order in which the network takes them."""
        return tuple(name for name, feature in self.input_features.items() if feature.type == "VISUAL")

    @property
    def state_size(self) -> int:
        """Numbers S of the robot's state."""
        return self.input_features[STATE].shape[0]

    @property
    def env_state_size(self) -> int | None:
        """Numbers of the environment's state, None where it is not observed."""
        feature = self.input_features.get(ENV_STATE)
        return feature.shape[0] if feature is not None and feature.type == "ENV" else None

    @property
    def action_size(self) -> int:
        """Numbers A of an action."""
        return self.output_features[ACTION].shape[0]

    @property
    def features(self) -> dict[str, ActFeature]:
        """All inputs and outputs that the network takes or makes."""
        taken = {*self.cameras, STATE, ENV_STATE}
        return {name: each for name, each in self.input_features.items() if name in taken} | dict(self.output_features)

    @property
    def frozen(self) -> bool:
        """Whether training leaves the backbone as it is."""
        return self.optimizer_lr_backbone == 0

    @property
    def bottleneck(self) -> bool:
        """Whether the backbone's blocks are of three convolutions, as from ResNet-50 on."""
        return self.vision_backbone in _BOTTLENECK

    @property
    def backbone_blocks(self) -> tuple[int, int, int, int]:
        """Blocks in each of the backbone's stages."""
        return (_BASIC | _BOTTLENECK)[self.vision_backbone]

    def normalization(self, feature: str) -> NormalizationMode:
        """How a feature is normalised."""
        return self.normalization_mapping.get(self.features[feature].type, "IDENTITY")


def parse_config(tree: Mapping[str, Any], source: str) -> ActConfig:
    """The configuration in the object that a `config.json` holds.

    Args:
        tree: the object.
        source: where it came from, for errors.

    Raises:
        ConfigError: it is not of an ACT policy, or has options or values that are not known.
    """
    values = {name: value for name, value in tree.items() if name != "type"}
    return build(ActConfig, values, source)


def config_tree(config: ActConfig) -> dict[str, Any]:
    """The object for a `config.json`, as `parse_config` reads it and LeRobot does."""
    values: dict[str, Any] = TypeAdapter(ActConfig).dump_python(config, mode="json")
    assert values.keys() == {field.name for field in dataclasses.fields(config)}
    return {"type": "act", **values}
