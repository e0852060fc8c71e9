# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
from serl_rl.replay.batch_memory import BatchMemory


def test_memory_is_used_again_once_the_last_view_is_gone():
    memory = BatchMemory()
    array = memory.empty((4, 100), "float32")
    place, view = array.ctypes.data, array[1:, 5:].T
    assert place % 64 == 0
    del array
    assert memory.empty((4, 100), "float32").ctypes.data != place
    del view
    places = {array.ctypes.data for array in [memory.empty((400,), "float32") for _ in range(2)]}
    assert place in places
    assert len(places) == 2


def test_memory_that_jax_reads_in_place_is_left_alone():
    import jax

    memory = BatchMemory()
    array = memory.empty((1000,), "float32")
    array[...] = 1.0
    place = array.ctypes.data
    held = jax.device_put(array)
    assert held.unsafe_buffer_pointer() == place, "this test is about arrays that are not copied"
    del array
    other = memory.empty((1000,), "float32")
    other[...] = 2.0
    np.testing.assert_array_equal(held, 1.0)


def test_while_jax_computes_its_input_stays_as_it_is():
    import jax
    import jax.numpy as jnp

    @jax.jit
    def late(x: jax.Array) -> jax.Array:
        work = jax.lax.fori_loop(0, 30, lambda _, a: jnp.tanh(a @ a), jnp.ones((300, 300)))
        return x.sum() + 0 * work.sum()

    memory = BatchMemory()
    results = []
    for _ in range(3):
        array = memory.empty((100_000,), "float32")
        array[...] = 1.0
        results.append(late(array))
        del array
        memory.empty((100_000,), "float32")[...] = 7.0
    assert [float(result) for result in results] == [100_000.0] * 3
