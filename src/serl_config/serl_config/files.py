# SPDX-License-Identifier: Apache-2.0
"""Reads whole files, and never waits or fills the memory: only regular files, only up to a size."""

import os
import stat
from pathlib import Path
from typing import BinaryIO

from serl_config.text import printable

TEXT_LIMIT = 2**20
"""[bytes] of a file that a person writes."""

_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class FileError(ValueError):
    """A file that cannot be read. The message is one line and names the file.

    Attributes:
        reason: the line without the file's name: what was expected and what was found.
    """

    def __init__(self, path: Path | str, reason: str) -> None:
        super().__init__(f"{printable(path)}: {reason}")
        self.reason = reason


def open_file(path: Path | str) -> BinaryIO:
    """A regular file, opened for reading.

    Raises:
        FileError: there is none, it may not be read, or it is a directory, FIFO, device or socket.
    """
    try:
        # A FIFO would wait for somebody who writes.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        raise FileError(path, f"cannot be read: {error.strerror}{_link(path)}") from error
    except ValueError as error:  # NUL, or a character that no file's name can have
        raise FileError(path, f"cannot be the name of a file: {error}") from error
    kind = stat.S_IFMT(os.fstat(descriptor).st_mode)
    if kind != stat.S_IFREG:
        os.close(descriptor)
        raise FileError(path, f"expected a file, found {_KINDS.get(kind, 'something else')}")
    return os.fdopen(descriptor, "rb")


def read_bytes(path: Path | str, limit: int) -> bytes:
    """Content of a regular file of at most `limit` bytes.

    Raises:
        FileError: as `open_file`, or it is larger.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise FileError(path, f"expected at most {_size(limit)}, found {_size(size)}")
        try:
            content = file.read(limit + 1)  # it may have grown meanwhile
        except OSError as error:
            raise FileError(path, f"cannot be read: {error.strerror}") from error
    if len(content) > limit:
        raise FileError(path, f"expected at most {_size(limit)}, found more")
    return content


def read_text(path: Path | str, limit: int = TEXT_LIMIT) -> str:
    """Text of a regular file in UTF-8, with or without byte order mark; all line ends become line feeds.

    Raises:
        FileError: as `read_bytes`, or it is no UTF-8.
    """
    content = read_bytes(path, limit)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        found = "UTF-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else f"byte {content[error.start]:#04x}"
        line = content.count(b"\n", 0, error.start) + 1
        raise FileError(path, f"expected text in UTF-8, found {found} in line {line}") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _link(path: Path | str) -> str:
    try:
        return " (a link to what is not there)" if Path(path).is_symlink() and not Path(path).exists() else ""
    except OSError:
        return ""


def _size(count: int) -> str:
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= size:
            return f"{count / size:.4g} {unit}"
    return f"{count} bytes"
