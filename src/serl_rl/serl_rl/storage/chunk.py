# SPDX-License-Identifier: Apache-2.0
"""What travels between actor, journal and replay: pieces of an episode, and their bytes.

A `Chunk` is a contiguous piece of one episode. Its observations have one row more than its transitions, so that every
frame is sent and stored once: transition `i` goes from row `i` to row `i + 1`. With stacked frames, those before the
first observation come in front of it, as far as the episode has them.

The bytes of a chunk: magic, length of the header, header (msgpack map), then the arrays as raw little-endian buffers in
a fixed order, each starting at a multiple of 8. Sizes of buffers follow from the specification and the number of
transitions; nothing in the bytes makes the reader allocate or run anything.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

from serl_rl.spec import MAX_NAME_LENGTH, ArraySpec, DataError, ImplausibleError, TransitionSpec, kind_of

__all__ = ["ArraySpec", "Chunk", "DataError", "TransitionSpec", "decode_chunk", "encode_chunk", "stack_observations"]

MAX_TRANSITIONS = 2**16

_MAGIC = b"SERLCHK1"
_PREFIX = struct.Struct("<8sI")
_ALIGNMENT = 8
_ACTION_TOLERANCE = 1e-5  # what float32 arithmetic may add to a bound that was meant to be 1
_MAX_HEADER = 2**16


@dataclass(frozen=True)
class Chunk:
    """A contiguous piece of one episode with n transitions.

    observation: name -> (n + 1, *shape); row i + 1 is the next observation of transition i. Entries that are no vectors
        have `history` rows in front of these: the frames before the first observation
    action: (n, A) float32 in [-1, 1], as executed
    reward: (n,) float32
    mask: (n,) float32, 0 where the episode truly terminated, otherwise 1; the bootstrap is multiplied with it
    truncated: (n,) bool, the time limit or a stop ended the episode here; leaves the bootstrap alone
    intervention: (n,) bool, a person led
    policy_version: (n,) uint64, version of the parameters that acted
    episode: number of the episode; first_step: step of transition 0 in it
    last: the episode ends with the last transition; success: of the episode, False while `last` is False
    encoder, frame_stack: of the `TransitionSpec`
    meaning: its `meaning_hash`; empty where it is unknown
    """

    observation: Mapping[str, NDArray[Any]]
    action: NDArray[np.float32]
    reward: NDArray[np.float32]
    mask: NDArray[np.float32]
    truncated: NDArray[np.bool_]
    intervention: NDArray[np.bool_]
    policy_version: NDArray[np.uint64]
    actor_id: str
    episode: int
    first_step: int
    demonstration: bool
    last: bool
    success: bool
    encoder: str = ""
    frame_stack: int = 1
    meaning: str = ""

    def __len__(self) -> int:
        return len(self.reward)

    @property
    def spec(self) -> TransitionSpec:
        """The specification that this chunk claims to follow; raises DataError where it can follow none."""
        entries = {name: ArraySpec(rows.shape[1:], rows.dtype.name) for name, rows in self.observation.items()}
        if self.action.ndim != 2:
            raise DataError("action", "shape (n, A)", f"shape {self.action.shape}")
        return TransitionSpec(entries, self.action.shape[1], self.encoder, self.frame_stack)

    @property
    def history(self) -> int:
        """Frames in front of the first observation, which the stacks of the first transitions need."""
        return min(self.frame_stack - 1, self.first_step)

    def check(self, spec: TransitionSpec) -> None:
        """Raise DataError unless shapes, dtypes and values are those of `spec`: ImplausibleError for values alone."""
        n = len(self.reward)
        if not 1 <= n <= MAX_TRANSITIONS:
            raise DataError("count", f"1 to {MAX_TRANSITIONS} transitions", str(n))
        if set(self.observation) != set(spec.observation):
            raise DataError("observation", f"entries {sorted(spec.observation)}", str(sorted(self.observation)))
        _check_frames(spec, self.encoder, self.frame_stack)
        if self.meaning and spec.meaning and self.meaning != spec.meaning_hash:
            raise DataError(
                "meaning",
                f"numbers that mean what the specification {spec.meaning_hash} says",
                f"those of {self.meaning!r:.40}: the task was changed; start actor and learner with the same one",
            )
        for name in ("episode", "first_step"):
            _check_number(name, getattr(self, name))
        for name, entry in spec.observation.items():
            shape = _rows_shape(entry, n, self.history)
            _check_array(f"observation.{name}", self.observation[name], shape, entry.dtype)
        for name, dtype, shape in _columns(spec.action_dim):
            _check_array(name, getattr(self, name), (n, *shape), dtype)
        self._check_values()
        for name, entry in spec.observation.items():
            if entry.dtype == "float32":
                _check_range(f"observation.{name}", self.observation[name], spec.plausible.vector)
        _check_range("reward", self.reward, spec.plausible.reward)

    def _check_values(self) -> None:
        if np.abs(self.action).max() > 1.0 + _ACTION_TOLERANCE:
            raise DataError("action", "components in [-1, 1]", f"{float(np.abs(self.action).max()):g}")
        if not ((self.mask == 0.0) | (self.mask == 1.0)).all():
            raise DataError("mask", "0 or 1", str(self.mask[(self.mask != 0.0) & (self.mask != 1.0)][0]))
        ends = (self.mask == 0.0) | self.truncated
        if ends[:-1].any():
            raise DataError(
                "mask, truncated",
                "an end of the episode in the last transition only",
                f"one in transition {int(np.argmax(ends))} of {len(self)}",
            )
        if bool(ends[-1]) != self.last:
            raise DataError(
                "last",
                "true exactly when the last transition terminates or truncates the episode",
                f"last={self.last}, mask={self.mask[-1]:g}, truncated={bool(self.truncated[-1])}",
            )
        if self.success and not self.last:
            raise DataError("success", "false until the episode has ended", "true")
        if not self.actor_id or len(self.actor_id) > MAX_NAME_LENGTH:
            raise DataError("actor_id", f"1 to {MAX_NAME_LENGTH} characters", repr(self.actor_id[:40]))

    def skip(self, count: int) -> Chunk:
        """The chunk without its first `count` transitions; raises DataError unless these are fewer than it has."""
        if not 0 <= count < len(self):
            raise DataError("count", f"0 to {len(self) - 1} transitions to skip", str(count))
        return self._piece(count, len(self)) if count else self

    def before(self, step: int) -> Chunk | None:
        """What is before a step of the episode, which is truncated there; None: nothing.

        An episode that ended before that step by itself stays as it is.
        """
        count = min(step - self.first_step, len(self))
        if count <= 0:
            return None
        piece = self._piece(0, count)
        if piece.last or self.first_step + len(self) < step:
            return piece
        truncated = piece.truncated.copy()
        truncated[-1] = True
        return replace(piece, truncated=truncated, last=True)

    def select(self, keep: NDArray[np.bool_]) -> Iterator[Chunk]:
        """The runs of consecutive transitions where `keep` (n,) is true, as chunks of their own.

        Only a run that reaches the end of an ended chunk carries `last` and `success`.
        """
        edges = np.flatnonzero(np.diff(np.concatenate(([False], keep, [False])).astype(np.int8)))
        for start, stop in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            yield self._piece(start, stop)

    def _piece(self, start: int, stop: int) -> Chunk:
        """Transitions `start` to `stop` - 1, with the history that they need."""
        ends = stop == len(self) and self.last
        first_step = self.first_step + start
        first_frame = self.history + start - min(self.frame_stack - 1, first_step)
        return replace(
            self,
            observation={
                name: rows[start : stop + 1] if is_vector(rows) else rows[first_frame : self.history + stop + 1]
                for name, rows in self.observation.items()
            },
            first_step=first_step,
            last=ends,
            success=ends and self.success,
            **{name: getattr(self, name)[start:stop] for name in COLUMN_NAMES},
        )


def _columns(action_dim: int) -> tuple[tuple[str, str, tuple[int, ...]], ...]:
    """Name, dtype and shape of one value of every per-transition array, in the order of the wire."""
    return (
        ("action", "float32", (action_dim,)),
        ("reward", "float32", ()),
        ("mask", "float32", ()),
        ("truncated", "bool", ()),
        ("intervention", "bool", ()),
        ("policy_version", "uint64", ()),
    )


COLUMN_NAMES = tuple(name for name, _, _ in _columns(1))


def is_vector(rows: NDArray[Any]) -> bool:
    """Whether the rows of an observation entry are vectors (n, k), which are not stacked, as against frames."""
    return kind_of(rows.shape[1:], rows.dtype) == "vector"


def _rows_shape(entry: ArraySpec, n: int, history: int) -> tuple[int, ...]:
    """Shape of an observation entry in a chunk of n transitions."""
    return (n + 1 if entry.kind == "vector" else history + n + 1, *entry.shape)


def _check_frames(spec: TransitionSpec, encoder: str, frame_stack: int) -> None:
    """Raise DataError unless frames were made as the specification says."""
    if encoder != spec.encoder:
        raise DataError(
            "encoder",
            f"features of the encoder {spec.encoder!r}",
            f"those of {encoder!r:.80}; features of different encoders do not mix: use the same vision.encoder settings"
            " and weights everywhere, record demonstrations again, begin a new run",
        )
    if frame_stack != spec.frame_stack:
        raise DataError("frame_stack", f"{spec.frame_stack}, as vision.frame_stack says", str(frame_stack))


def _check_number(name: str, value: int) -> None:
    if not 0 <= value < 2**63:
        raise DataError(name, "0 to 2**63 - 1", str(value))


def _check_array(name: str, array: NDArray[Any], shape: tuple[int, ...], dtype: str) -> None:
    if not isinstance(array, np.ndarray) or array.dtype.name != dtype:
        raise DataError(name, dtype, str(getattr(array, "dtype", type(array).__name__)))
    if array.shape != shape:
        raise DataError(name, f"shape {shape}", f"shape {array.shape}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise DataError(name, "finite values", f"{array[index]} at {index}")


def _check_range(name: str, array: NDArray[Any], limit: float) -> None:
    if max(-array.min(), array.max()) > limit:
        index = tuple(map(int, np.unravel_index(np.argmax(np.abs(array)), array.shape)))
        raise ImplausibleError(
            f"{name}[{', '.join(map(str, index[1:]))}]" if index[1:] else name,
            f"values from {-limit:g} to {limit:g}",
            f"{array[index]:g} in row {index[0]}",
        )


def encode_chunk(chunk: Chunk, spec: TransitionSpec | None = None) -> bytes:
    """Check a chunk and turn it into bytes.

    Raises:
        DataError: it contradicts itself, or `spec` where there is one.
    """
    chunk.check(spec or chunk.spec)
    spec = chunk.spec
    header = msgpack.packb(
        {
            "count": len(chunk),
            "observation": _wire_layout(spec),
            "action_dim": spec.action_dim,
            "encoder": spec.encoder,
            "frame_stack": spec.frame_stack,
            "actor_id": chunk.actor_id,
            "episode": int(chunk.episode),
            "first_step": int(chunk.first_step),
            "demonstration": bool(chunk.demonstration),
            "last": bool(chunk.last),
            "success": bool(chunk.success),
            **({"meaning": chunk.meaning} if chunk.meaning else {}),
        }
    )
    parts = [_PREFIX.pack(_MAGIC, len(header)), header, _padding(_PREFIX.size + len(header))]
    for name, dtype, _ in _buffers(spec, len(chunk), chunk.history):
        array = chunk.observation[name[12:]] if name.startswith("observation.") else getattr(chunk, name)
        array = np.ascontiguousarray(array, dtype=dtype)
        parts.append(array.reshape(-1).view(np.uint8).data)
        parts.append(_padding(array.nbytes))
    return b"".join(parts)


def decode_chunk(data: bytes | bytearray | memoryview, spec: TransitionSpec) -> Chunk:
    """Read a chunk from bytes that may come from anyone.

    The arrays are read-only views of `data`. Raises DataError for anything but a complete, valid chunk of `spec`.
    """
    view = memoryview(data).cast("B")
    header, position = _read_header(view)
    n = _field(header, "count", int)
    if not 1 <= n <= MAX_TRANSITIONS:
        raise DataError("count", f"1 to {MAX_TRANSITIONS} transitions", str(n))
    _check_layout(header, spec)
    first_step = _field(header, "first_step", int)
    _check_number("first_step", first_step)
    buffers = _buffers(spec, n, min(spec.frame_stack - 1, first_step))
    size = position + sum(_padded(dtype.itemsize * _product(shape)) for _, dtype, shape in buffers)
    if len(view) != size:
        raise DataError("data", f"{size} bytes for {n} transitions", f"{len(view)} bytes")
    observation: dict[str, NDArray[Any]] = {}
    columns: dict[str, Any] = {}
    for name, dtype, shape in buffers:
        elements = _product(shape)
        array = np.frombuffer(view, dtype=np.uint8 if dtype == np.bool_ else dtype, count=elements, offset=position)
        if dtype == np.bool_:
            if array.max() > 1:
                raise DataError(name, "0 or 1", str(int(array.max())))
            array = array.view(np.bool_)
        position += _padded(array.nbytes)
        array = array.reshape(shape)
        array.flags.writeable = False
        if name.startswith("observation."):
            observation[name[12:]] = array
        else:
            columns[name] = array
    chunk = Chunk(
        observation=observation,
        actor_id=_field(header, "actor_id", str),
        episode=_field(header, "episode", int),
        first_step=first_step,
        demonstration=_field(header, "demonstration", bool),
        last=_field(header, "last", bool),
        success=_field(header, "success", bool),
        encoder=spec.encoder,
        frame_stack=spec.frame_stack,
        meaning=_field({"meaning": ""} | header, "meaning", str),
        **columns,
    )
    chunk.check(spec)
    return chunk


def _read_header(view: memoryview) -> tuple[dict[str, Any], int]:
    if len(view) < _PREFIX.size:
        raise DataError("data", f"at least {_PREFIX.size} bytes", f"{len(view)} bytes")
    magic, length = _PREFIX.unpack_from(view)
    if magic != _MAGIC:
        raise DataError("magic", repr(_MAGIC), repr(magic))
    end = _PREFIX.size + length
    if length > _MAX_HEADER or end > len(view):
        raise DataError("header", f"at most {min(_MAX_HEADER, len(view) - _PREFIX.size)} bytes", f"{length} bytes")
    try:
        header = msgpack.unpackb(view[_PREFIX.size : end], strict_map_key=True, max_ext_len=0)
    except (ValueError, TypeError, RecursionError, msgpack.exceptions.UnpackException) as error:
        raise DataError("header", "a msgpack map", f"{type(error).__name__}: {error}") from None
    if not isinstance(header, dict):
        raise DataError("header", "a msgpack map", type(header).__name__)
    return header, _padded(end)


def _field(header: dict[str, Any], name: str, kind: type) -> Any:
    value = header.get(name)
    if type(value) is not kind:
        raise DataError(name, kind.__name__, "nothing" if name not in header else f"{value!r:.80}")
    return value


def _wire_layout(spec: TransitionSpec) -> dict[str, list[Any]]:
    return {name: [entry.dtype, list(entry.shape)] for name, entry in spec.observation.items()}


def _check_layout(header: dict[str, Any], spec: TransitionSpec) -> None:
    expected, found = _wire_layout(spec), _field(header, "observation", dict)
    if set(found) != set(expected):
        raise DataError("observation", f"entries {sorted(expected)}", f"{sorted(map(str, found))!r:.200}")
    for name, layout in expected.items():
        if found[name] != layout:
            raise DataError(f"observation.{name}", f"{layout[0]} {layout[1]}", f"{found[name]!r:.80}")
    if _field(header, "action_dim", int) != spec.action_dim:
        raise DataError("action_dim", str(spec.action_dim), str(header["action_dim"]))
    # Absent where chunks were recorded before there were features and stacks.
    header = {"encoder": "", "frame_stack": 1} | header
    _check_frames(spec, _field(header, "encoder", str), _field(header, "frame_stack", int))


def _buffers(spec: TransitionSpec, n: int, history: int) -> list[tuple[str, np.dtype[Any], tuple[int, ...]]]:
    """Field, wire dtype and shape of every array of a chunk of n transitions, in the order of the wire."""
    observation = [
        (f"observation.{name}", entry.wire_dtype, _rows_shape(entry, n, history))
        for name, entry in spec.observation.items()
    ]
    columns = [
        (name, np.dtype(dtype).newbyteorder("<"), (n, *shape)) for name, dtype, shape in _columns(spec.action_dim)
    ]
    return observation + columns


def _product(shape: tuple[int, ...]) -> int:
    product = 1
    for size in shape:
        product *= size
    return product


def _padded(size: int) -> int:
    return size + -size % _ALIGNMENT


def _padding(size: int) -> bytes:
    return bytes(-size % _ALIGNMENT)


def stack_observations(rows: Sequence[Mapping[str, NDArray[Any]]], history: int = 0) -> dict[str, NDArray[Any]]:
    """Stack single observations into those of a chunk; the first `history` rows are in front of its transitions."""
    stacked = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    return {name: values[history:] if is_vector(values) else values for name, values in stacked.items()}
