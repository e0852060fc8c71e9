# SPDX-License-Identifier: Apache-2.0
"""The table of both backends on a GPU."""

from serl_launch.errors import CommandError

from serl_bench.benchmark import Bench, Measurement


def backends_gpu(bench: Bench) -> Measurement:
    """Updates per second of PyTorch with its fastest settings over those of JAX, of the worst case; says each row.

    Raises:
        CommandError: there is no GPU, or PyTorch is not installed.
    """
    from serl_rl.backends import BackendError
    from serl_rl.benchmarks import gpu

    try:
        card = gpu.card()
    except BackendError as error:
        raise CommandError(str(error)) from error
    if card is None:
        raise CommandError("expected a GPU that PyTorch can use, found none; there is nothing to measure without")
    if gpu.peak(card, "float32") is None:
        bench.say(f"  the peak of {card} is not in the table, so no share of it is told")
    rows = []
    for row in gpu.table(card):
        share = "" if row.share_of_peak is None else f", {100 * row.share_of_peak:.2g} % of the peak"
        bench.say(f"  {row.case}, {row.what}: {row.updates_per_s:.4g} updates/s on {row.device}{share}")
        rows.append(row)
    ratios = {}
    for case in gpu.CASES:
        rates = {row.what: row.updates_per_s for row in rows if row.case == case}
        own = rates.pop("jax")
        ratios[case] = max(rates.values()) / own
    spread = ", ".join(f"{case} {ratio:.2f}" for case, ratio in ratios.items())
    devices = f"PyTorch on {card}, JAX on {rows[0].device}"
    return Measurement(
        min(ratios.values()), f"{spread}; {devices}", {"card": card, "rows": [r.as_dict() for r in rows]}
    )
