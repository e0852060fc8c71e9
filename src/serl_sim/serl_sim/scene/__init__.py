# SPDX-License-Identifier: Apache-2.0
"""The MuJoCo model of a world: file, bodies, actuators."""
