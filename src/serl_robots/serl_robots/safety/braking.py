# SPDX-License-Identifier: Apache-2.0
"""Braking in discrete time.

A commanded speed is applied for one period and may fall by at most `drop` [m/s or rad/s] from one period to the next:
v, v - drop, v - 2 drop, ... 0. These functions are exact for that sequence, not for its continuous limit v^2 / 2a.
"""

import math


def braking_distance(speed: float, drop: float, period: float) -> float:
    """Distance still travelled *after* the period in which `speed` >= 0 was commanded, when braking fully."""
    n = int(speed / drop)
    return period * (n * speed - 0.5 * n * (n + 1) * drop)


def braked(speed: float, drop: float) -> float:
    """Next speed when braking fully; `speed` may be of either sign."""
    if speed > drop:
        return speed - drop
    return speed + drop if speed < -drop else 0.0


def braked_vector(velocity: tuple[float, float, float], drop: float) -> tuple[float, float, float]:
    """Next velocity when braking fully, along itself."""
    x, y, z = velocity
    speed = math.hypot(x, y, z)
    share = 1.0 - drop / speed if speed > drop else 0.0
    return share * x, share * y, share * z


def stoppable_speed(distance: float, drop: float, period: float) -> float:
    """Largest speed to command now so that this period's motion and the braking after it stay within `distance` >= 0.

    Solves `speed * period + braking_distance(speed) = distance`. The left side is piecewise linear in the speed: with n
    further periods of motion it is `period * ((n + 1) * speed - drop * n (n + 1) / 2)`.
    """
    reach = distance / period
    n = int(0.5 * (math.sqrt(1.0 + 8.0 * reach / drop) - 1.0))
    return reach / (n + 1) + 0.5 * drop * n


def stoppable_share(distance: float, deceleration: float, period: float) -> float:
    """Share of a `distance` [m or rad] that may be gone in one period, so that braking ends at its end; 1: all of it.

    `deceleration` [m/s^2 or rad/s^2] is the one that is there for braking.
    """
    way = stoppable_speed(distance, deceleration * period, period) * period
    return way / distance if way < distance * (1.0 - 1e-9) else 1.0
