# SPDX-License-Identifier: Apache-2.0
"""Trials of a sweep on the machines of a Ray cluster, or on a Ray of this machine alone."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any, TypeVar

from serl_config.optional import optional_module
from serl_config.software import software
from serl_launch.errors import CommandError

from serl_cli.sweep.run_trials import CORES_OF_A_TRIAL, LOST_TRIES, TrialLostError

T = TypeVar("T")

LOCAL = "local"
"""The address that starts a Ray on this machine."""
_LONGEST_END = 60.0  # [s] for trials to end


class RayPool(Executor):
    """Runs functions as tasks of Ray, each with two cores, in the folder and with the Python of each machine.

    A task whose machine or worker is lost is run again, elsewhere where there is an elsewhere.
    """

    def __init__(self, address: str, folder: Path, jobs: int = 0) -> None:
        """Join a cluster.

        Args:
            address: HOST:PORT of its head, `auto` for the one that this machine belongs to, or `local`: one is
                started here, and ends with this pool.
            folder: that tasks use; each machine must have it under the same path.
            jobs: with `local`, tasks at once; 0: as many as this machine has pairs of cores.

        Raises:
            CommandError: Ray is not installed, or there is none at the address.
        """
        self._ray = optional_module("ray", extra="ray", needed_by="--ray", error=CommandError)
        self._folder = folder.resolve()
        self._references: set[Any] = set()
        self._is_left = False
        cores = CORES_OF_A_TRIAL * jobs or max(CORES_OF_A_TRIAL, os.cpu_count() or 1)
        limits = {"num_cpus": cores} if address == LOCAL else {}
        kept = signal.getsignal(signal.SIGTERM)  # Ray takes it for itself
        try:
            context = self._ray.init(
                address=address,
                include_dashboard=False if address == LOCAL else None,
                log_to_driver=False,
                configure_logging=False,
                **limits,
            )
        except (ConnectionError, RuntimeError, ValueError, self._ray.exceptions.RayError) as error:
            reason = " ".join(str(error).split())[:300]
            raise CommandError(f"--ray {address}: there is no Ray that can be used: {reason}") from error
        finally:
            signal.signal(signal.SIGTERM, kept)
        self._task = self._ray.remote(num_cpus=CORES_OF_A_TRIAL, max_retries=LOST_TRIES - 1)(_run)

        self.address = str(context.address_info["address"])
        """HOST:PORT of the cluster's head."""

    @property
    def cores(self) -> int:
        """Number of cores of all machines of the cluster."""
        return int(self._ray.cluster_resources().get("CPU", 0))

    @property
    def jobs(self) -> int:
        """Tasks that can run at once; each is on one machine."""
        nodes = [node for node in self._ray.nodes() if node["Alive"]]
        return sum(int(node["Resources"].get("CPU", 0)) // CORES_OF_A_TRIAL for node in nodes)

    def submit(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """See `Executor`; what is lost with its machine ends with a `TrialLostError`."""
        reference = self._task.remote(self._folder, software(), function, args, kwargs)
        self._references.add(reference)
        future: Future[T] = Future()

        def ended(of_ray: Future[T]) -> None:
            self._references.discard(reference)
            error = of_ray.exception()
            if error is None:
                future.set_result(of_ray.result())
            else:
                cause = getattr(error, "cause", None)  # of a RayTaskError: what the function raised
                reason = str(cause if isinstance(cause, CommandError) else error)
                future.set_exception(TrialLostError(" ".join(reason.split())[:300]))

        reference.future().add_done_callback(ended)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """See `Executor`; with `cancel_futures` what runs is ended as by Ctrl-C."""
        if self._is_left:
            return
        self._is_left = True
        left = list(self._references)
        if cancel_futures:
            for reference in left:
                self._ray.cancel(reference)
        if left and wait:
            text = f"waiting for {len(left)} trials that run by Ray to end, at most {_LONGEST_END:.0f} s"
            print(text, file=sys.stderr, flush=True)
            _, others = self._ray.wait(left, num_returns=len(left), timeout=_LONGEST_END)
            if others:
                print(f"{len(others)} of them have not ended; Ray is left", file=sys.stderr, flush=True)
        self._ray.shutdown()


def _run(folder: Path, version: str, function: Callable[..., T], args: Any, kwargs: Any) -> T:
    """Call a function, on a machine of the cluster, in the folder of the sweep."""
    host = os.uname().nodename
    if not folder.is_dir():
        raise CommandError(f"{host} has no {folder}: each machine of the cluster needs the sweep's folder at that path")
    if software() != version:
        raise CommandError(f"{host} has version {software()}, the sweep was started by {version}")
    assert threading.current_thread() is threading.main_thread()  # so that a cancelled task gets a KeyboardInterrupt
    return function(*args, **kwargs)
