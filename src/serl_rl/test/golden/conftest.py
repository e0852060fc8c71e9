# SPDX-License-Identifier: Apache-2.0
"""Every backend has to agree with the references."""

import pytest


@pytest.fixture(params=["jax", "torch"])
def backend(request: pytest.FixtureRequest) -> str:
    """The name of a backend; those that are not installed are left out."""
    if request.param == "torch":
        pytest.importorskip("torch", reason="./serl setup torch").set_num_threads(1)  # more only wait for each other
    return request.param
