# SPDX-License-Identifier: Apache-2.0
"""Text and values of others in our messages: on one line, without control characters, not too long."""


def printable(text: object, most: int = 2000) -> str:
    """Text that a terminal or a log shows as one line.

    Whatever is not printable becomes its escape, see `escaped`. Of more than `most` characters the middle is left out.
    """
    return _shortened(escaped(_shortened(str(text), most)), most)


def escaped(text: str, keep: str = "") -> str:
    """Text in which nothing commands a terminal: what is not printable and not in `keep` becomes its escape.

    That is what `str.isprintable` says: line ends, escape sequences, writing directions, odd blanks, bytes that are no
    text.
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() or character in keep else _escape(character) for character in text
    )


def shown(value: object) -> str:
    """A value that was found where another was expected: its type and its beginning."""
    text = "nothing" if value is None else f"{type(value).__name__} {value!r}"
    return text if len(text) <= 80 else text[:77] + "..."


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most // 2]} ... {text[len(text) - most // 2 :]}"


def _escape(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte of a file's name that is no UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape", "surrogatepass").decode()
