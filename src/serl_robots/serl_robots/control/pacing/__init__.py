# SPDX-License-Identifier: Apache-2.0
"""What paces an arm controller: a world in lockstep, or time that runs on by itself."""
