# SPDX-License-Identifier: Apache-2.0
"""A program that turns one xacro file into a URDF, within limits of time and memory.

    python -m serl_robots.model.xacro_process FILE SECONDS

Prints the URDF, or on standard error why there is none.
"""

import resource
import sys

MEMORY_LIMIT = 2**30
"""[bytes]"""
URDF_LIMIT = 2**24
"""[characters]"""


def urdf(path: str) -> str:
    """The URDF of a xacro file; ends the program with a line where there is none."""
    try:
        import xacro

        text = str(xacro.process_file(path).toxml())
    except MemoryError:
        sys.exit(f"it takes more than {MEMORY_LIMIT >> 20} MiB of memory")
    except RecursionError:
        sys.exit("macros or files are nested too deep; do they call each other?")
    except Exception as error:  # noqa: BLE001 - expressions of the file may raise anything
        sys.exit(" ".join(f"{type(error).__name__}: {error}".split()))
    if len(text) > URDF_LIMIT:
        sys.exit(f"expected a description of at most {URDF_LIMIT >> 20} MiB, found {len(text) >> 20} MiB")
    return text


if __name__ == "__main__":
    seconds = int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    sys.stdout.buffer.write(urdf(sys.argv[1]).encode())
