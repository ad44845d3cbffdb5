"""The Hugging Face Trainer over batches of pairs, steered by validation alone."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import SequentialSampler
from transformers import (
    EarlyStoppingCallback,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.trainer_utils import get_last_checkpoint, set_seed

from moe_retrieval.engines.batches import Budget, plan_batches
from moe_retrieval.errors import StoreFullError, UsageError
from moe_retrieval.training.feeding import Batches, only
from moe_retrieval.training.pair_model import Texts
from moe_retrieval.training.validation import macro

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from moe_retrieval.corpus.pairs import Pair
    from moe_retrieval.training.feeding import Feeder
    from moe_retrieval.training.options import FitOptions
    from moe_retrieval.training.pair_model import PairModel
    from moe_retrieval.training.validation import Embed, Scores, Validation

_BUDGET = Budget(tokens=8_192, texts=128)
_METRIC = "eval_ndcg"


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a training is: steps done of all, the mean loss of the last ones, the last look at validation."""

    step: int
    steps: int
    loss: float | None = None
    ndcg: float | None = None


@dataclass(slots=True)
class Fitted:
    """What a fit did: steps taken, the loss by step, validation's macro nDCG@10 by step."""

    steps: int
    losses: dict[int, float] = field(default_factory=dict)
    ndcg: dict[int, float] = field(default_factory=dict)


def fit(
    model: PairModel,
    pairs: Sequence[Pair],
    plan: Sequence[Sequence[int]],
    *,
    feeder: Feeder,
    validation: Validation,
    options: FitOptions,
    folder: Path,
    progress: Callable[[Progress], None] = lambda _progress: None,
) -> Fitted:
    """Train what requires a gradient, keep the state that validation likes best, say how it went.

    `plan`: the pairs of each step. Checkpoints go to `folder`; a training that was killed goes on from the
    last one there.

    Raises:
        UsageError: the loss became NaN; the model then has its last good state.
        StoreFullError: there is no room for checkpoints.
    """
    set_seed(options.seed)
    every = max(1, math.ceil(options.steps / options.evaluations))
    trainer = PairTrainer(
        model=model,
        args=_arguments(options, folder, every=every),
        train_dataset=Batches(pairs, plan, feeder),
        eval_dataset=Batches(pairs, plan[:1], feeder),
        data_collator=only,
        callbacks=[_Watch(progress, steps=options.steps)],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.look = lambda: validation.scores(embedding(model, feeder))
    if options.patience:
        trainer.add_callback(EarlyStoppingCallback(early_stopping_patience=options.patience))
    last = get_last_checkpoint(str(folder)) if folder.is_dir() else None
    try:
        trainer.train(resume_from_checkpoint=last)
    except _LossIsNaNError as error:
        _restore(model, trainer)
        raise UsageError(
            f"the loss became {error.args[0]} after step {trainer.state.global_step};"
            " the last good state is kept",
            hint="a lower learning rate, or --precision fp32",
        ) from error
    except OSError as error:
        raise StoreFullError(
            f"a checkpoint could not be written to {folder}: {error.strerror or error}",
            hint="free some space and run it again: it goes on from the last checkpoint",
        ) from error
    return _fitted(trainer)


def processes() -> int:
    """How many processes train together, as torchrun and accelerate say."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first_process() -> bool:
    """Whether this process is the one of several that writes what comes out."""
    return os.environ.get("RANK", "0") == "0"


def _fitted(trainer: Trainer) -> Fitted:
    history = trainer.state.log_history
    return Fitted(
        steps=trainer.state.global_step,
        losses={one["step"]: one["loss"] for one in history if "loss" in one},
        ndcg={one["step"]: one[_METRIC] for one in history if _METRIC in one},
    )


def _arguments(options: FitOptions, folder: Path, *, every: int) -> TrainingArguments:
    on_cpu = options.device.startswith("cpu") or not torch.cuda.is_available()
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=options.steps,
        per_device_train_batch_size=1,  # an item is a batch
        learning_rate=options.rate,
        warmup_steps=math.ceil(options.warmup * options.steps),
        lr_scheduler_type="cosine",
        weight_decay=options.decay,
        bf16=multiplies_bf16(on_cpu=on_cpu) if options.bf16 is None else options.bf16,
        use_cpu=on_cpu,
        seed=options.seed,
        eval_strategy="steps",
        eval_steps=every,
        save_steps=every,
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model=_METRIC,
        greater_is_better=True,
        logging_steps=max(1, min(10, every)),
        logging_nan_inf_filter=False,
        report_to=list(options.report_to) or "none",
        remove_unused_columns=False,
        disable_tqdm=True,
        dataloader_pin_memory=not on_cpu,
        ddp_find_unused_parameters=True,  # a batch of one domain gives other domains' experts no gradient
    )


def multiplies_bf16(*, on_cpu: bool) -> bool:
    """Whether training in bf16 is faster than in fp32 on this machine."""
    from moe_retrieval.engines.precision import resolve_precision
    from moe_retrieval.types import Precision

    return resolve_precision(Precision.AUTO, device="cpu" if on_cpu else "cuda") is Precision.BF16


class _LossIsNaNError(Exception):
    """A step's loss is no number."""


class PairTrainer(Trainer):  # type: ignore[misc]
    """Whole batches in their planned order; validation is a ranking, not a loss."""

    look: Callable[[], Scores]
    control: Any

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        return SequentialSampler(self.train_dataset if train_dataset is None else train_dataset)

    def _prepare_inputs(self, inputs: dict[str, Texts]) -> dict[str, Texts]:
        return {name: texts.to(self.args.device) for name, texts in inputs.items()}

    def compute_loss(self, model: Any, inputs: Any, *_args: Any, **_kwargs: Any) -> Any:
        """The loss of a batch; one that is no number ends the training."""
        loss = model(**inputs)["loss"]
        if not torch.isfinite(loss):
            raise _LossIsNaNError(float(loss))
        return loss

    def evaluate(self, *_args: Any, **_kwargs: Any) -> dict[str, float]:
        """Validation's nDCG@10: macro, and of each domain."""
        scores = self.look()
        found = {_METRIC: macro(scores)}
        found |= {f"{_METRIC}_{domain}": float(own.mean()) for domain, own in scores.items()}
        self.log(found)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, found)
        return found


class _Watch(TrainerCallback):  # type: ignore[misc]
    """Tells the caller about every step."""

    def __init__(self, tell: Callable[[Progress], None], *, steps: int) -> None:
        self._tell, self._steps = tell, steps
        self._loss: float | None = None
        self._ndcg: float | None = None

    def on_log(self, _args: Any, state: Any, _control: Any, logs: Any = None, **_rest: Any) -> None:
        self._loss = (logs or {}).get("loss", self._loss)
        self._ndcg = (logs or {}).get(_METRIC, self._ndcg)
        self._tell(Progress(state.global_step, self._steps, self._loss, self._ndcg))

    def on_step_end(self, _args: Any, state: Any, _control: Any, **_rest: Any) -> None:
        self._tell(Progress(state.global_step, self._steps, self._loss, self._ndcg))


def _restore(model: PairModel, trainer: Trainer) -> None:
    """Give the model the weights of the last checkpoint, if there is one."""
    from safetensors.torch import load_file

    last = get_last_checkpoint(trainer.args.output_dir)
    if last is not None:
        model.load_state_dict(load_file(Path(last) / "model.safetensors"), strict=False)


def embedding(model: PairModel, feeder: Feeder) -> Embed:
    """Texts and their domain in, unit vectors out, by a model in training; dropout is off meanwhile."""

    def embed(texts: Sequence[str], domain: str, side: str) -> NDArray[np.float32]:
        training = model.training
        model.eval()
        try:
            return _embedded(model, feeder, texts, domain, side)
        finally:
            model.train(training)

    return embed


def _embedded(
    model: PairModel, feeder: Feeder, texts: Sequence[str], domain: str, side: str
) -> NDArray[np.float32]:
    device = next(model.parameters()).device
    cast = torch.autocast(device.type, torch.bfloat16, enabled=multiplies_bf16(on_cpu=device.type == "cpu"))
    rows: dict[int, NDArray[np.float32]] = {}
    with torch.inference_mode(), cast:
        for places in plan_batches(feeder.lengths(texts, domain, side=side), budget=_BUDGET):
            batch = feeder.texts([texts[place] for place in places], domain, side=side).to(device)
            vectors, _ = model.embed(batch)
            unit = torch.nn.functional.normalize(vectors.float(), dim=-1).cpu().numpy()
            rows |= dict(zip(places, unit, strict=True))
    return np.stack([rows[place] for place in range(len(texts))])
