"""Airflow operator for the jobs of recsys-spark: where spark-submit runs, what ends it, what its exit codes mean.

Owns: `RecsysSubmitOperator`.
"""

import ctypes
import signal
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.providers.apache.spark.hooks.spark_submit import SparkSubmitHook
from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException

if TYPE_CHECKING:
    from airflow.sdk import Context

# 2: a bad argument, setting or machine; 3: refused by a gate, or damaged; 4: another command holds the warehouse.
FINAL_CODES = {
    2: "an argument, a setting or the machine is wrong: correct it, then clear the task",
    3: "the day is refused, or data is damaged; the last good bundle stays current: look at `recsys-spark status`",
    4: "another command holds the warehouse, or published first: wait for it, then clear the task",
}

_PR_SET_PDEATHSIG = 1  # prctl(2)


class RecsysSubmitOperator(SparkSubmitOperator):
    """A job of recsys-spark, run in `folder`; only a crash (exit 1, or a signal) is worth a retry."""

    def __init__(self, *, folder: str, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.folder = folder

    def execute(self, context: "Context") -> None:
        """Submits the job; AirflowFailException, which is not retried, if it ended with one of FINAL_CODES."""
        try:
            super().execute(context)
        except AirflowException as err:
            code = self._hook._submit_sp.returncode if self._hook and self._hook._submit_sp else None
            if code in FINAL_CODES:
                raise AirflowFailException(f"{self.task_id}: exit {code}: {FINAL_CODES[code]}") from err
            raise

    def _get_hook(self) -> SparkSubmitHook:
        """Relative paths of settings mean `folder`; a worker that is killed takes spark-submit with it."""
        hook = super()._get_hook()
        hook.submit = partial(hook.submit, cwd=self.folder, preexec_fn=_end_with_parent)
        return hook


def _end_with_parent() -> None:
    """In the new process, before it is spark-submit: the kernel kills it when the task's process ends (Linux)."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
