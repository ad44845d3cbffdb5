"""The Hugging Face Trainer over batches of pairs, steered by validation alone."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed
from torch.utils.data import SequentialSampler
from transformers import PrinterCallback, Trainer, TrainingArguments
from transformers.integrations import get_reporting_integration_callbacks
from transformers.trainer_utils import set_seed

from moe_retrieval.errors import BadVectorError, UsageError
from moe_retrieval.training import checkpoints
from moe_retrieval.training.blending import trained_weights
from moe_retrieval.training.embedding import embedding, multiplies_bf16
from moe_retrieval.training.feeding import Batches, only
from moe_retrieval.training.options import FitOptions
from moe_retrieval.training.pair_model import Texts
from moe_retrieval.training.validation import macro
from moe_retrieval.training.watching import METRIC, Patience, Watch
from moe_retrieval.training.watching import Progress as Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from moe_retrieval.corpus.pairs import Pair
    from moe_retrieval.training.feeding import Feeder
    from moe_retrieval.training.pair_model import PairModel
    from moe_retrieval.training.validation import Scores, Validation

_CPU = torch.device("cpu")


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
    last one there that is whole.

    Raises:
        UsageError: the loss became NaN; the model then has its last good state. The device cannot be had, or
            nothing can be reported to what `report_to` names.
        StoreFullError: checkpoints cannot be written, for want of room or for another reason.
    """
    set_seed(options.seed)
    with checkpoints.written_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
    trainer = PairTrainer(
        model=model,
        args=_arguments(options, folder),
        train_dataset=Batches(pairs, plan, feeder),
        eval_dataset=Batches(pairs, plan[:1], feeder),
        data_collator=only,
        callbacks=[Watch(progress, steps=options.steps)],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.look = lambda: validation.scores(embedding(model, feeder, bf16=options.bf16))
    if options.patience:
        trainer.add_callback(Patience(options.patience))
    begun = trained_weights(model)
    last = _last_checkpoint(trainer, folder)
    try:
        trainer.train(resume_from_checkpoint=None if last is None else str(last))
    except (_LossIsNaNError, BadVectorError) as error:
        kept = _restore(model, folder, begun)
        raise UsageError(
            f"the loss became NaN after step {trainer.state.global_step}; what is kept is {kept}",
            hint="a lower --rate",
        ) from error
    return _fitted(trainer)


def _last_checkpoint(trainer: Trainer, folder: Path) -> Path | None:
    """The one to go on from; what a kill left torn is removed, by one process before the others look."""
    with trainer.args.main_process_first(local=False):
        if is_first_process():
            checkpoints.remove_torn(folder)
        return checkpoints.last_whole(folder)


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
        ndcg={one["step"]: one[METRIC] for one in history if METRIC in one},
    )


def training_device(options: FitOptions) -> torch.device:
    """Where a training computes: on a GPU where there is one, each process of several on its own.

    Raises:
        UsageError: the options name a device that cannot be had.
    """
    asked, has = options.device, torch.cuda.is_available()
    if asked not in ("", "cpu", "cuda", "cuda:0"):
        raise UsageError(f"a training cannot be told to use {asked!r}", hint="set CUDA_VISIBLE_DEVICES")
    if asked.startswith("cuda") and not has:
        raise UsageError(f"there is no device {asked!r}", hint="--device cpu, or leave it out")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if has and asked != "cpu" else _CPU


def _arguments(options: FitOptions, folder: Path) -> TrainingArguments:
    on_cpu = training_device(options) == _CPU
    every = max(1, math.ceil(options.steps / max(1, options.evaluations)))
    arguments = TrainingArguments(
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
        metric_for_best_model=METRIC,
        greater_is_better=True,
        logging_steps=max(1, min(10, every)),
        logging_nan_inf_filter=False,
        report_to=_reporters(options) or "none",
        remove_unused_columns=False,
        disable_tqdm=True,
        dataloader_pin_memory=not on_cpu,
        ddp_find_unused_parameters=True,  # a batch of one domain gives other domains' experts no gradient
    )
    # of several GPUs without torchrun one is used: the trainer would cut batches in two, which cannot be cut
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def _reporters(options: FitOptions) -> list[str]:
    for name in options.report_to:
        try:
            for kind in get_reporting_integration_callbacks([name]):
                kind()
        except (ValueError, RuntimeError, ImportError) as error:
            raise UsageError(
                f"a training cannot be reported to {name!r}: {error}", hint="install it, or leave it out"
            ) from error
    return list(options.report_to)


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

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """Gradients of a batch; those of a cached loss are averaged here, where several processes train."""
        loss = super().training_step(*args, **kwargs)
        if self.model.chunk and self.args.world_size > 1:
            _average_gradients(self.model)
        return loss

    def compute_loss(self, model: Any, inputs: Any, *_args: Any, **_kwargs: Any) -> Any:
        """The loss of a batch; one that is no number ends the training."""
        # a cached loss has its backward passes apart from the forward that DistributedDataParallel sees
        loss = (self.model if self.model.chunk else model)(**inputs)["loss"]
        if not torch.isfinite(loss):
            raise _LossIsNaNError
        return loss

    def evaluate(self, *_args: Any, **_kwargs: Any) -> dict[str, float]:
        """Validation's nDCG@10: macro, and of each domain."""
        scores = self.look()
        found = {METRIC: macro(scores)}
        found |= {f"{METRIC}_{domain}": float(own.mean()) for domain, own in scores.items()}
        self.log(found)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, found)
        return found

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        folder = Path(self.args.output_dir)
        with checkpoints.written_to(folder):
            super()._save_checkpoint(*args, **kwargs)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            with checkpoints.written_to(folder):
                checkpoints.seal(folder / f"checkpoint-{self.state.global_step}")


def _average_gradients(model: PairModel) -> None:
    """Over all processes; a weight that none of them used keeps no gradient, and is not moved."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    used = torch.tensor([float(weight.grad is not None) for weight in weights], device=weights[0].device)
    distributed.all_reduce(used)
    for weight, count in zip(weights, used.tolist(), strict=True):
        if count:
            weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
            distributed.all_reduce(weight.grad)
            weight.grad /= distributed.get_world_size()


def _restore(model: PairModel, folder: Path, begun: Mapping[str, torch.Tensor]) -> str:
    """Give the model the weights of the last checkpoint, or those it began with; says which."""
    from safetensors.torch import load_file

    last = checkpoints.last_whole(folder)
    state = begun if last is None else load_file(last / "model.safetensors")
    model.load_state_dict(state, strict=False)
    return "the state at the start" if last is None else f"the last good state, {last}"
