"""What looks on while the Hugging Face Trainer trains: it tells the caller, and it loses its patience."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

if TYPE_CHECKING:
    from collections.abc import Callable

METRIC = "eval_ndcg"
"""What the trainer calls validation's macro nDCG@10."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a training is: steps done of all, the mean loss of the last ones, the last look at validation."""

    step: int
    steps: int
    loss: float | None = None
    ndcg: float | None = None


class Watch(TrainerCallback):  # type: ignore[misc]
    """Tells the caller about every step; of several processes, the first one does."""

    def __init__(self, tell: Callable[[Progress], None], *, steps: int) -> None:
        self._tell, self._steps = tell, steps
        self._loss: float | None = None
        self._ndcg: float | None = None

    def on_log(self, _args: Any, state: Any, _control: Any, logs: Any = None, **_rest: Any) -> None:
        self._loss = (logs or {}).get("loss", self._loss)
        self._ndcg = (logs or {}).get(METRIC, self._ndcg)
        self._say(state)

    def on_step_end(self, _args: Any, state: Any, _control: Any, **_rest: Any) -> None:
        self._say(state)

    def _say(self, state: Any) -> None:
        if state.is_world_process_zero:
            self._tell(Progress(state.global_step, self._steps, self._loss, self._ndcg))


class Patience(TrainerCallback):  # type: ignore[misc]
    """Ends a training after so many looks at validation without a gain.

    They are counted from the log, which a checkpoint holds: a training that goes on counts on.
    """

    def __init__(self, looks: int) -> None:
        self._looks = looks

    def on_train_begin(self, _args: Any, state: Any, control: Any, **_rest: Any) -> None:
        self._decide(state, control)

    def on_evaluate(self, _args: Any, state: Any, control: Any, **_rest: Any) -> None:
        self._decide(state, control)

    def _decide(self, state: Any, control: Any) -> None:
        seen = [one[METRIC] for one in state.log_history if METRIC in one]
        if seen and len(seen) - 1 - seen.index(max(seen)) >= self._looks:
            control.should_training_stop = True
