# SPDX-License-Identifier: Apache-2.0
"""``python -m serl_cli``, which ``./serl`` runs."""

import sys

if __name__ == "__main__":
    try:
        from serl_cli.app import main

        status = main()
    except KeyboardInterrupt:  # while Python was still importing
        print("serl: interrupted", file=sys.stderr)
        status = 130
    sys.exit(status)
