# SPDX-License-Identifier: Apache-2.0
"""One module for each kind of task, named as the kind: it is found by its name, see `serl_tasks.kind_registry`."""
