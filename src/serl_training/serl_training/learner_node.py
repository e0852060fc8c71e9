# SPDX-License-Identifier: Apache-2.0
"""Node `learner`: takes transitions, trains, publishes the policy, keeps the run on disk."""

from __future__ import annotations

import os
import threading
from array import array
from pathlib import Path
from typing import TYPE_CHECKING

from rclpy.node import Node
from serl_rl.checkpoint import CheckpointError
from serl_rl.replay.prior import PriorError, read_priors
from serl_rl.storage.journal import JournalError, JournalLost
from serl_ros.diagnostics import ERROR, OK, Diagnostics
from serl_ros.execution.executor import FastExecutor
from serl_ros.incoming import subscribe
from serl_ros.log import ERROR as LOG_ERROR
from serl_ros.log import FATAL, INFO, WARN, log
from serl_ros.node import CONFIGURATION_ERROR, run_node
from serl_ros.parameters import declare
from serl_ros.qos import LATCHED, RELIABLE_50
from serl_tasks.messages import MessageError, metric_values

from serl_interfaces.msg import Metrics, PolicyParameters
from serl_tasks import get_task, task_names
from serl_training.graph_jax import declare_compile_cache, prepare_backend
from serl_training.learner.run_log import RunLog
from serl_training.link.contract import LEARNING, SIMULATED, find_encoder, load_learning, transition_spec
from serl_training.link.graph_id import GRAPH_ID
from serl_training.link.graph_insertion_service import InsertionService

if TYPE_CHECKING:
    from serl_training.learner.trainer import PublishedPolicy, Trainer


_LAST_WORDS = 0.5  # [s]
_LARGE_POLICY = 1_000_000  # [bytes] up to which a policy crosses a bad network in less than a second


class LearnerNode(Node):
    """Serves `learner/insert`, publishes `learner/policy` and `metrics`, writes what it hears on `metrics`."""

    def __init__(self) -> None:
        """Declare parameters, open the run directory, connect."""
        super().__init__("learner")
        task = get_task(declare(self, "task", "pick_cube", "Task to learn.", choices=task_names()))
        config = load_learning(declare(self, "learning", "", LEARNING), task)
        simulated = declare(self, "simulated", False, SIMULATED)
        seed = declare(self, "seed", 0, "Seed of networks and sampling.", range=(0, 2**31))
        run_dir = declare(self, "run_dir", "", "Directory of the run: journal, checkpoints, metrics.")
        prior = declare(
            self, "prior", "", "Other runs of the task whose data are drawn beside demonstrations: RUN[:WEIGHT],..."
        )
        coupled = declare(
            self, "coupled", True, "Train exactly utd_ratio updates for each env step; false trains without end."
        )
        n_steps = declare(self, "n_steps", 8, "Env steps' worth of updates in one compiled call.", range=(1, 1000))
        checkpoint_period = declare(self, "checkpoint_period", 20.0, "Time between checkpoints [s].", range=(0.1, 1e6))
        self._graph_id = declare(self, "graph_id", "", GRAPH_ID)
        cache = declare_compile_cache(self)
        if not run_dir:
            raise ValueError("parameter 'run_dir' of node 'learner': expected a directory, found nothing")

        # Heard while the backend is being imported: a learner that is already at work on these topics.
        self._foreign = ""
        self._told_of_size = False
        self._policy_subscription = self.create_subscription(
            PolicyParameters, "learner/policy", self._on_policy, LATCHED
        )
        self._log = RunLog(Path(run_dir))
        self._metrics_subscription = subscribe(self, Metrics, "metrics", self._on_metrics, RELIABLE_50, MessageError)
        self._metrics = self.create_publisher(Metrics, "metrics", RELIABLE_50)
        self._diagnostics = Diagnostics(self)

        prepare_backend(self, cache, config.backend)
        from serl_training.learner.schedule import Pace
        from serl_training.learner.trainer import Trainer
        from serl_training.learner.training_errors import TrainingError

        self._hopeless = (JournalLost, TrainingError)  # what starting again would not mend
        encoder = find_encoder(task, config, simulated=simulated)
        self._spec = transition_spec(task, config, encoder)
        try:
            self._trainer: Trainer = Trainer(
                Path(run_dir),
                self._spec,
                config,
                encoder,
                seed=seed,
                pace=Pace(coupled=coupled, n_steps=n_steps, checkpoint_period=checkpoint_period),
                publish=self._publish_policy,
                report=self._report,
                save_failed=self._save_failed,
                priors=read_priors(prior.split(",") if prior else (), Path(run_dir)),
            )
        except (JournalError, PriorError, CheckpointError, TrainingError) as error:
            raise ValueError(str(error)) from error  # a run that cannot be used: one line, and no respawn
        self._serving = False

    def run(self, executor: FastExecutor, stop: threading.Event) -> None:
        """Serve until `stop`, or until training fails; leave at once where another learner is at work."""
        executor.spin_until(lambda: bool(self._foreign) or stop.is_set(), 0.3)
        if self._foreign:
            log(
                self,
                FATAL,
                f"another learner (session {self._foreign}) publishes on {self._policy_subscription.topic_name}; "
                "end it, or give this graph another namespace or ROS_DOMAIN_ID",
            )
            raise SystemExit(CONFIGURATION_ERROR)
        self._policy_publisher = self.create_publisher(PolicyParameters, "learner/policy", LATCHED)
        self._trainer.start()
        self._service = InsertionService(
            self,
            self._trainer.ingest.insert,
            lambda: self._trainer.totals,
            self._refused,
            self._graph_id,
            accepted=lambda: self._diagnostics.set("insert", OK, "stored"),
            spec=self._spec,
        )
        self._diagnostics.set("training", OK, "running")
        self._serving = True
        while not stop.is_set():
            executor.spin_once(0.1)
            failure = self._trainer.failure
            if isinstance(failure, self._hopeless):
                self._diagnostics.set("training", ERROR, str(failure))
                log(self, FATAL, str(failure))
                executor.spin_until(lambda: False, _LAST_WORDS)  # who waits for an answer still gets one
                raise SystemExit(CONFIGURATION_ERROR)
            if failure is not None:
                raise failure

    def close(self) -> None:
        """Save and put away; a process that could not save ends with an error."""
        try:
            self._trainer.close()
        except (JournalError, CheckpointError) as error:
            log(self, FATAL, str(error))
            raise SystemExit(1) from None
        finally:
            self._log.close()
        if self._trainer.is_training:
            log(self, INFO, "ended while an update was compiled; the journal has everything")
            os._exit(0)  # the thread is inside the backend still: under it nothing can be taken apart

    def _on_policy(self, message: PolicyParameters) -> None:
        if message.session == self._trainer.session:
            return
        if self._serving:
            log(
                self,
                LOG_ERROR,
                f"a second learner (session {message.session}) publishes on {self._policy_subscription.topic_name}",
                throttle=5.0,
            )
        self._foreign = message.session

    def _on_metrics(self, message: Metrics) -> None:
        values = metric_values(message)
        try:
            self._log.write(message.node, message.env_steps, values)
        except OSError as error:
            self._diagnostics.set("metrics", ERROR, str(error))
            log(self, LOG_ERROR, f"metrics are not written: {error}", throttle=10.0)

    def _save_failed(self, reason: str) -> None:
        if reason:
            log(self, LOG_ERROR, reason, throttle=10.0)
            self._diagnostics.set("checkpoints", ERROR, reason)
        else:
            self._diagnostics.set("checkpoints", OK, "saved")

    def _refused(self, reason: str) -> None:
        log(self, LOG_ERROR, reason, throttle=1.0)
        self._diagnostics.set("insert", ERROR, reason)

    def _publish_policy(self, policy: PublishedPolicy) -> None:
        message = PolicyParameters(
            session=self._trainer.session,
            graph_id=self._graph_id,
            version=policy.version,
            updates=policy.updates,
            env_steps=policy.env_steps,
            env_steps_trained=policy.env_steps_trained,
            next_update_at=policy.next_update_at,
            data=array("B", policy.data),
        )
        message.header.stamp = self.get_clock().now().to_msg()
        self._policy_publisher.publish(message)
        if len(policy.data) > _LARGE_POLICY and not self._told_of_size:
            self._told_of_size = True
            text = (
                f"the policy has {len(policy.data) / 1e6:.1f} MB; to an actor on another machine send at most 1 MB, by "
            )
            text += "smaller networks or a frozen encoder, or send it less often, by a larger n_steps of this node"
            log(self, WARN, text)

    def _report(self, env_steps: int, values: dict[str, float]) -> None:
        message = Metrics(node=self.get_name(), env_steps=env_steps, names=list(values), values=list(values.values()))
        message.header.stamp = self.get_clock().now().to_msg()
        self._metrics.publish(message)


def main() -> None:
    """Entry point."""
    run_node(LearnerNode)
