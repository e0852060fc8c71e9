# SPDX-License-Identifier: Apache-2.0
"""Segments of transitions: the header holds their `TransitionSpec`, with which that of the reader has to agree."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serl_rl.spec import DataError, TransitionSpec
from serl_rl.storage import segment
from serl_rl.storage.segment import SegmentError

_SPEC = "spec"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SpecHeader:
    """What a segment of transitions says of itself.

    spec: of its transitions
    about: what else its header was told
    end: offset of the first record
    """

    spec: TransitionSpec
    about: Mapping[str, Any]
    end: int


def with_spec(spec: TransitionSpec, about: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What `segment.create` is told of transitions of `spec`, and what else the header shall say."""
    return {**(about or {}), _SPEC: json.loads(spec.to_json())}


def read_spec_header(path: Path, kind: str) -> SpecHeader:
    """What a segment of transitions says of itself.

    Raises:
        SegmentError: it cannot be read, is of another kind, or its header holds no specification.
        DamageError: its header is damaged.
    """
    header = segment.read_header(path, kind)
    about = dict(header.about)
    try:
        spec = TransitionSpec.from_json(json.dumps(about.pop(_SPEC)))
    except (KeyError, DataError) as error:
        raise SegmentError(
            f"{path}: expected a header with kind and {_SPEC}, found {header.about!r:.80} ({error})"
        ) from error
    return SpecHeader(spec, about, header.end)


def expect_spec(path: Path, found: TransitionSpec, spec: TransitionSpec) -> None:
    """Raise SegmentError unless the specification `found` in the segment at `path` agrees with `spec`."""
    if not spec.agrees(found):
        raise SegmentError(
            f"{path}: {spec.difference(found)}; it was made for another task or with other vision settings: make "
            "it again, or choose the task and the settings (--set vision...) that it was made with"
        )
    if spec.meaning and not found.meaning:
        _log.warning("%s: was made before files said what their numbers mean; that cannot be checked", path)
