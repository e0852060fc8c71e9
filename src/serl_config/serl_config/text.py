# SPDX-License-Identifier: Apache-2.0
"""Text of others in our messages: on one line, without control characters, not too long."""

import unicodedata

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def printable(text: object, most: int = 2000) -> str:
    """Text that a terminal or a log shows as one line.

    Whatever is no visible character or blank (line ends, escape sequences, writing directions, bytes that are no text)
    becomes its escape. Of more than `most` characters the middle is left out.
    """
    shown = "".join(_escaped(character) if _hidden(character) else character for character in _shortened(text, most))
    return _shortened(shown, most)


def _shortened(text: object, most: int) -> str:
    whole = str(text)
    return whole if len(whole) <= most else f"{whole[: most // 2]} ... {whole[len(whole) - most // 2 :]}"


def _hidden(character: str) -> bool:
    return not " " <= character <= "~" and unicodedata.category(character) in _HIDDEN


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte of a file's name that is no UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape", "surrogatepass").decode()
