# SPDX-License-Identifier: Apache-2.0
"""ACT written a second time, in numpy, token by token, from the description of the format alone."""

import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from serl_rl.foreign.act.directory import ActCheckpoint

Array = NDArray[np.float64]


class Reference:
    """One ACT network with a ResNet-18 and layers that normalise behind what they add."""

    def __init__(self, checkpoint: ActCheckpoint) -> None:
        self.config = checkpoint.config
        self.p = {name: values.astype(np.float64) for name, values in checkpoint.parameters.items()}

    def chunk(self, pictures: list[Array], state: Array, latent: Array | None = None) -> Array:
        """Normalised actions (C, A) of normalised pictures (H, W, 3) and a state (S,)."""
        latent = np.zeros(self.config.latent_dim) if latent is None else latent
        tokens = [self._linear("encoder_latent_input_proj", latent)]
        tokens.append(self._linear("encoder_robot_state_input_proj", state))
        places = list(self.p["encoder_1d_feature_pos_embed.weight"])
        projection = self.p["encoder_img_feat_input_proj.weight"][:, :, 0, 0]
        for picture in pictures:
            seen = self._backbone(picture)
            for y in range(seen.shape[0]):
                for x in range(seen.shape[1]):
                    tokens.append(projection @ seen[y, x] + self.p["encoder_img_feat_input_proj.bias"])
                    places.append(self._place(y, x, *seen.shape[:2]))
        memory = tokens
        for i in range(self.config.n_encoder_layers):
            memory = self._layer(f"encoder.layers.{i}", memory, places)
        queries = list(self.p["decoder_pos_embed.weight"])
        made = [np.zeros(self.config.dim_model) for _ in queries]
        keys = [token + place for token, place in zip(memory, places, strict=True)]
        for i in range(self.config.n_decoder_layers):
            name = f"decoder.layers.{i}"
            own = [token + place for token, place in zip(made, queries, strict=True)]
            made = self._normed(f"{name}.norm1", made, self._attention(f"{name}.self_attn", own, own, made))
            own = [token + place for token, place in zip(made, queries, strict=True)]
            made = self._normed(f"{name}.norm2", made, self._attention(f"{name}.multihead_attn", own, keys, memory))
            made = self._normed(f"{name}.norm3", made, [self._forward(name, token) for token in made])
        return np.stack([self._linear("action_head", self._norm("decoder.norm", token)) for token in made])

    def latent(self, state: Array, actions: Array, ended: NDArray[np.bool_]) -> tuple[Array, Array]:
        """Mean and logarithm of the variance (L,) that the VAE's encoder makes."""
        tokens = [self.p["vae_encoder_cls_embed.weight"][0]]
        tokens.append(self._linear("vae_encoder_robot_state_input_proj", state))
        tokens += [self._linear("vae_encoder_action_input_proj", action) for action in actions]
        width = self.config.dim_model
        places = [
            np.array([(math.cos if j % 2 else math.sin)(i / 10000 ** (2 * (j // 2) / width)) for j in range(width)])
            for i in range(len(tokens))
        ]
        kept = [True, True, *(not end for end in ended)]
        for i in range(self.config.n_vae_encoder_layers):
            tokens = self._layer(f"vae_encoder.layers.{i}", tokens, places, kept)
        mean, log_variance = np.split(self._linear("vae_encoder_latent_output_proj", tokens[0]), 2)
        return mean, log_variance

    def _layer(
        self, name: str, tokens: list[Array], places: list[Array], kept: list[bool] | None = None
    ) -> list[Array]:
        own = [token + place for token, place in zip(tokens, places, strict=True)]
        tokens = self._normed(f"{name}.norm1", tokens, self._attention(f"{name}.self_attn", own, own, tokens, kept))
        return self._normed(f"{name}.norm2", tokens, [self._forward(name, token) for token in tokens])

    def _attention(
        self, name: str, queries: list[Array], keys: list[Array], values: list[Array], kept: list[bool] | None = None
    ) -> list[Array]:
        size = self.config.dim_model
        width = size // self.config.n_heads
        weights, biases = self.p[f"{name}.in_proj_weight"], self.p[f"{name}.in_proj_bias"]
        chosen = [i for i in range(len(keys)) if kept is None or kept[i]]
        found = []
        for query in queries:
            heads = []
            for head in range(self.config.n_heads):
                rows = [slice(part * size + head * width, part * size + (head + 1) * width) for part in range(3)]
                q = weights[rows[0]] @ query + biases[rows[0]]
                scores = [q @ (weights[rows[1]] @ keys[i] + biases[rows[1]]) / math.sqrt(width) for i in chosen]
                shares = np.exp(np.array(scores) - max(scores))
                shares /= shares.sum()
                looked = [weights[rows[2]] @ values[i] + biases[rows[2]] for i in chosen]
                heads.append(sum(share * value for share, value in zip(shares, looked, strict=True)))
            found.append(self._linear(f"{name}.out_proj", np.concatenate(heads)))
        return found

    def _forward(self, name: str, token: Array) -> Array:
        return self._linear(f"{name}.linear2", np.maximum(self._linear(f"{name}.linear1", token), 0))

    def _normed(self, name: str, tokens: list[Array], added: list[Array]) -> list[Array]:
        return [self._norm(name, token + more) for token, more in zip(tokens, added, strict=True)]

    def _norm(self, name: str, token: Array) -> Array:
        token = (token - token.mean()) / math.sqrt(token.var() + 1e-5)
        return token * self.p[f"{name}.weight"] + self.p[f"{name}.bias"]

    def _linear(self, name: str, x: Array) -> Array:
        return self.p[f"{name}.weight"] @ x + self.p[f"{name}.bias"]

    def _place(self, row: int, column: int, height: int, width: int) -> Array:
        half = self.config.dim_model // 2
        found = []
        for index, count in ((row, height), (column, width)):
            angle = (index + 1) / (count + 1e-6) * 2 * math.pi
            for i in range(half):
                found.append((math.cos if i % 2 else math.sin)(angle / 10000 ** (2 * (i // 2) / half)))
        return np.array(found)

    def _backbone(self, picture: Array) -> Array:
        x = np.maximum(self._bn("backbone.bn1", self._conv("backbone.conv1", picture, 2)), 0)
        padded = np.pad(x, ((1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
        x = sliding_window_view(padded, (3, 3), (0, 1))[::2, ::2].max((-1, -2))
        for stage in range(1, 5):
            for block in range(2):
                name, stride = f"backbone.layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
                y = np.maximum(self._bn(f"{name}.bn1", self._conv(f"{name}.conv1", x, stride)), 0)
                y = self._bn(f"{name}.bn2", self._conv(f"{name}.conv2", y, 1))
                if f"{name}.downsample.0.weight" in self.p:
                    x = self._bn(f"{name}.downsample.1", self._conv(f"{name}.downsample.0", x, stride))
                x = np.maximum(x + y, 0)
        return x

    def _conv(self, name: str, x: Array, stride: int) -> Array:
        kernel = self.p[f"{name}.weight"]
        edge = kernel.shape[-1] // 2
        windows = sliding_window_view(np.pad(x, ((edge, edge), (edge, edge), (0, 0))), kernel.shape[2:], (0, 1))
        return np.tensordot(windows[::stride, ::stride], kernel, ((2, 3, 4), (1, 2, 3)))

    def _bn(self, name: str, x: Array) -> Array:
        p = {part: self.p[f"{name}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")}
        return (x - p["running_mean"]) / np.sqrt(p["running_var"] + 1e-5) * p["weight"] + p["bias"]
