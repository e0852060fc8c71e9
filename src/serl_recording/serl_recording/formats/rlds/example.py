# SPDX-License-Identifier: Apache-2.0
"""The message ``tf.train.Example``: named lists of bytes, floats or integers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from serl_rl.spec import DataError

Values = Sequence[bytes] | NDArray[np.float32] | NDArray[np.int64]

_Field = descriptor_pb2.FieldDescriptorProto


@cache
def _message() -> Any:
    """The class of the message, from its definition in example.proto and feature.proto of TensorFlow."""
    file = descriptor_pb2.FileDescriptorProto(name="serl_recording/example.proto", package="serl", syntax="proto3")
    lists = {"BytesList": _Field.TYPE_BYTES, "FloatList": _Field.TYPE_FLOAT, "Int64List": _Field.TYPE_INT64}
    for name, kind in lists.items():
        file.message_type.add(name=name).field.add(name="value", number=1, label=_Field.LABEL_REPEATED, type=kind)
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, name in enumerate(lists, 1):
        feature.field.add(
            name=("bytes_list", "float_list", "int64_list")[number - 1],
            number=number,
            label=_Field.LABEL_OPTIONAL,
            type=_Field.TYPE_MESSAGE,
            type_name=f".serl.{name}",
            oneof_index=0,
        )
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=_Field.LABEL_OPTIONAL, type=_Field.TYPE_STRING)
    message = {"label": _Field.LABEL_OPTIONAL, "type": _Field.TYPE_MESSAGE}
    entry.field.add(name="value", number=2, type_name=".serl.Feature", **message)
    message["label"] = _Field.LABEL_REPEATED
    features.field.add(name="feature", number=1, type_name=".serl.Features.FeatureEntry", **message)
    message["label"] = _Field.LABEL_OPTIONAL
    file.message_type.add(name="Example").field.add(name="features", number=1, type_name=".serl.Features", **message)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("serl.Example"))


def encode_example(features: Mapping[str, Values]) -> bytes:
    """An example as bytes: arrays of floats become float32, of integers and bools int64, other sequences are bytes."""
    example = _message()()
    for name, values in features.items():
        feature = example.features.feature[name]
        if not isinstance(values, np.ndarray):
            feature.bytes_list.value.extend(values)
        elif values.dtype.kind == "f":
            feature.float_list.value.extend(values.astype(np.float32).reshape(-1).tolist())
        else:
            feature.int64_list.value.extend(values.astype(np.int64).reshape(-1).tolist())
    return bytes(example.SerializeToString(deterministic=True))


def decode_example(data: bytes) -> dict[str, Values]:
    """Inverse of `encode_example`, of bytes that may come from anyone; arrays are flat.

    Raises:
        DataError: they are no such message.
    """
    try:
        example = _message().FromString(data)
    except DecodeError as error:
        raise DataError("record", "a tf.train.Example", f"{len(data)} bytes that are none ({error})") from error
    features: dict[str, Values] = {}
    for name, feature in example.features.feature.items():
        match feature.WhichOneof("kind"):
            case "float_list":
                features[name] = np.array(feature.float_list.value, np.float32)
            case "int64_list":
                features[name] = np.array(feature.int64_list.value, np.int64)
            case "bytes_list":
                features[name] = list(feature.bytes_list.value)
    return features
