"""One fit: steered by validation alone, gone on with after a kill, stopped in good order where it must."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import TrainerCallback
from transformers.integrations import integration_utils

from moe_retrieval.errors import StoreFullError, UsageError
from moe_retrieval.model import surgery
from moe_retrieval.model.source import open_source
from moe_retrieval.training.batches import plan_steps
from moe_retrieval.training.feeding import Feeder
from moe_retrieval.training.losses import ContrastiveLoss
from moe_retrieval.training.options import FitOptions, LossOptions
from moe_retrieval.training.pair_model import PairModel
from moe_retrieval.training.trainer import Fitted, Progress, fit
from moe_retrieval.training.validation import Validation
from tests.noisy_pairs import noisy_pairs

USUAL = FitOptions(steps=8, rate=3e-3, evaluations=4, patience=0, bf16=False)
PAIRS = noisy_pairs("cvd", count=80)
TRAIN, CHECK = PAIRS[:60], PAIRS[60:]


class Killed(Exception):  # noqa: N818 - an end, and no error
    """What a test ends a training with."""


@dataclass
class Bench:
    """One training of a tiny model, and what it needs; `run` may be called again."""

    model: PairModel
    feeder: Feeder
    folder: Path

    def run(
        self,
        options: FitOptions = USUAL,
        *,
        validation: Validation | None = None,
        progress: Callable[[Progress], None] = lambda _progress: None,
    ) -> Fitted:
        return fit(
            self.model,
            TRAIN,
            plan_steps(TRAIN, size=8, steps=options.steps, seed=options.seed),
            feeder=self.feeder,
            validation=validation or Validation.of(CHECK),
            options=options,
            folder=self.folder,
            progress=progress,
        )

    def weights(self) -> dict[str, torch.Tensor]:
        return {name: weight.detach().clone() for name, weight in self.model.named_parameters()}


@pytest.fixture
def bench(tiny_model: Path, tmp_path: Path) -> Callable[..., Bench]:
    """Makes a bench with a fresh model; benches of one name share their checkpoints."""

    def made(name: str = "one", *, loss: LossOptions | None = None, chunk: int = 0) -> Bench:
        model = surgery.load(tiny_model)
        wrapped = PairModel(model, loss=ContrastiveLoss(loss or LossOptions()), pooling="mean", chunk=chunk)
        feeder = Feeder(open_source(tiny_model), experts={"cvd": 0}, max_length=32)
        return Bench(wrapped, feeder, tmp_path / name)

    return made


Make = Callable[..., Bench]


def assert_equal(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    different = [name for name, weight in one.items() if not torch.equal(weight, other[name])]
    assert not different


def planned(*figures: float) -> Validation:
    """A validation that finds these figures, look by look."""
    left = list(figures)

    class Planned(Validation):
        def scores(self, embed: Any) -> dict[str, Any]:
            return {"cvd": np.full(4, left.pop(0))}

    return Planned({})


# --- what a fit does
# -----------------------------------------------------------------------------------------------------


def test_the_loss_falls_and_validation_is_looked_at_as_often_as_asked(bench: Make) -> None:
    one = bench()
    fitted = one.run(replace(USUAL, steps=40, evaluations=4))
    assert fitted.steps == 40
    assert sorted(fitted.ndcg) == [10, 20, 30, 40]
    losses = list(fitted.losses.values())
    assert losses[-1] < losses[0] - 0.3


def test_the_end_is_looked_at_though_steps_do_not_divide(bench: Make) -> None:
    assert sorted(bench().run(replace(USUAL, steps=7, evaluations=3)).ndcg) == [3, 6, 7]


def test_equal_seeds_give_equal_weights(bench: Make) -> None:
    one, other = bench("one"), bench("other")
    one.run()
    torch.rand(7)
    other.run()
    assert_equal(one.weights(), other.weights())


def test_only_what_requires_a_gradient_moves_though_weights_decay(bench: Make) -> None:
    one = bench()
    one.model.requires_grad_(requires_grad=False)
    one.model.encoder.expert_layers[1][1].experts.requires_grad_(requires_grad=True)
    before = one.weights()
    one.run(replace(USUAL, decay=0.5))
    moved = {name for name, weight in one.weights().items() if not torch.equal(weight, before[name])}
    assert moved == {name for name in before if "layer.1.experts.0" in name}


def test_a_learned_temperature_is_trained_with_the_rest(bench: Make) -> None:
    one = bench(loss=LossOptions(learned=True))
    before = one.weights()["loss.log_temperature"]
    one.run()
    assert one.weights()["loss.log_temperature"] != before


def test_in_parts_a_fit_ends_where_it_ends_in_one_go(bench: Make) -> None:
    losses = []
    for one in (bench("whole"), bench("parts", chunk=3)):
        for module in one.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        losses.append(list(one.run(USUAL).losses.values()))
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert losses[0][-1] < losses[0][0]


def test_every_step_is_told_once_it_is_done(bench: Make) -> None:
    told: list[Progress] = []
    bench().run(progress=told.append)
    assert [one.step for one in told] == sorted(one.step for one in told)
    assert {one.step for one in told} == set(range(1, 9))
    assert {one.steps for one in told} == {8}
    assert told[-1].loss is not None
    assert told[-1].ndcg is not None


def test_nothing_is_printed(bench: Make, capfd: pytest.CaptureFixture[str]) -> None:
    bench().run()
    assert capfd.readouterr() == ("", "")


def test_a_fit_leaves_no_validation_text_in_its_batches(bench: Make) -> None:
    one = bench()
    seen: set[str] = set()
    batch = one.feeder.batch

    def spy(pairs: Sequence[Any], **said: Any) -> Any:
        seen.update(text for pair in pairs for text in (pair.a, pair.b))
        return batch(pairs, **said)

    one.feeder.batch = spy  # type: ignore[method-assign]
    one.run()
    assert seen
    assert seen <= {text for pair in TRAIN for text in (pair.a, pair.b)}


# --- steered by validation
# -----------------------------------------------------------------------------------------------------


def test_the_state_that_validation_likes_best_is_kept(bench: Make) -> None:
    one = bench()
    at: dict[int, dict[str, torch.Tensor]] = {}
    one.run(
        validation=planned(0.1, 0.9, 0.3, 0.8), progress=lambda told: at.update({told.step: one.weights()})
    )
    assert_equal(one.weights(), at[4])


def test_training_stops_when_validation_gains_nothing_however_the_loss_falls(bench: Make) -> None:
    options = replace(USUAL, steps=40, evaluations=10, patience=2)
    fitted = bench().run(options, validation=planned(0.5, 0.6, 0.55, 0.6, 0.9, 0.9))
    assert fitted.steps == 16
    assert list(fitted.ndcg.values()) == [0.5, 0.6, 0.55, 0.6]


def test_without_patience_training_goes_to_its_end(bench: Make) -> None:
    assert bench().run(validation=planned(0.9, 0.1, 0.1, 0.1)).steps == 8


# --- gone on with
# -----------------------------------------------------------------------------------------------------


def kill_at(step: int) -> Callable[[Progress], None]:
    def tell(progress: Progress) -> None:
        if progress.step >= step:
            raise Killed

    return tell


@pytest.mark.parametrize(("step", "chunk"), [(1, 0), (5, 0), (8, 0), (5, 3)])
def test_a_killed_training_ends_as_an_undisturbed_one(bench: Make, step: int, chunk: int) -> None:
    straight = bench("straight", chunk=chunk)
    expected = straight.run()
    with pytest.raises(Killed):
        bench("killed", chunk=chunk).run(progress=kill_at(step))
    again, told = bench("killed", chunk=chunk), list[int]()
    found = again.run(progress=lambda progress: told.append(progress.step))
    assert min(told) == (1 if step < 3 else 2 * ((step - 1) // 2) + 1)
    assert found.ndcg == expected.ndcg
    assert_equal(again.weights(), straight.weights())


def test_a_training_that_was_done_is_not_done_again(bench: Make) -> None:
    one = bench()
    expected = one.run()
    again, told = bench(), list[Progress]()
    assert again.run(progress=told.append).ndcg == expected.ndcg
    assert {progress.step for progress in told} == {8}
    assert_equal(again.weights(), one.weights())


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "trainer_state.json", "files.json"])
def test_a_checkpoint_that_the_kill_cut_short_is_not_gone_on_from(bench: Make, name: str) -> None:
    straight = bench("straight")
    straight.run()
    with pytest.raises(Killed):
        bench("killed").run(progress=kill_at(5))
    torn = bench("killed").folder / "checkpoint-4" / name
    torn.write_bytes(torn.read_bytes()[:20])
    again, told = bench("killed"), list[int]()
    again.run(progress=lambda progress: told.append(progress.step))
    assert min(told) == 3
    assert_equal(again.weights(), straight.weights())


def test_patience_that_was_lost_before_the_kill_stays_lost(bench: Make) -> None:
    options = replace(USUAL, steps=20, evaluations=10, patience=2)
    one = bench()
    one.run(options, validation=planned(0.6, 0.5, 0.5))
    again = bench()
    fitted = again.run(options, validation=planned())  # another look would be one too many
    assert list(fitted.ndcg.values()) == [0.6, 0.5, 0.5]
    assert_equal(again.weights(), one.weights())


def test_patience_is_counted_on_after_a_kill(bench: Make) -> None:
    options = replace(USUAL, steps=20, evaluations=10, patience=3)
    with pytest.raises(Killed):
        bench().run(options, validation=planned(0.6, 0.5), progress=kill_at(5))
    fitted = bench().run(options, validation=planned(0.5, 0.5, 0.9))
    assert list(fitted.ndcg.values()) == [0.6, 0.5, 0.5, 0.5]


# --- when it cannot go on
# -----------------------------------------------------------------------------------------------------


def test_a_loss_that_is_no_number_at_once_leaves_the_weights_of_the_start(bench: Make) -> None:
    one = bench()
    before = one.weights()
    with pytest.raises(
        UsageError, match=r"the loss became NaN after step \d; what is kept is the state at the"
    ):
        one.run(replace(USUAL, rate=1e38, warmup=0.0))
    assert_equal(one.weights(), before)


def test_a_loss_that_is_no_number_later_leaves_those_of_the_last_checkpoint(bench: Make) -> None:
    one = bench()
    good: dict[str, torch.Tensor] = {}

    def plant(progress: Progress) -> None:
        if progress.step == 4 and not good:
            good.update(one.weights())
        if progress.step == 5:
            with torch.no_grad():
                one.model.encoder.embeddings.LayerNorm.weight.fill_(torch.inf)

    with pytest.raises(UsageError, match=r"after step 5; .*the last good state, .*checkpoint-4") as told:
        one.run(progress=plant)
    assert "lower --rate" in told.value.hint
    assert_equal(one.weights(), good)


def test_a_temperature_near_zero_stops_with_the_same_sentence(bench: Make) -> None:
    with pytest.raises(UsageError, match="the loss became NaN after step 0"):
        bench(loss=LossOptions(temperature=1e-45)).run()


def test_vectors_that_are_no_numbers_never_become_the_best_state(bench: Make) -> None:
    """The last step spoils the weights: no loss comes after it that would tell."""
    one = bench()

    def plant(progress: Progress) -> None:
        if progress.step == 8:
            with torch.no_grad():
                one.model.encoder.embeddings.LayerNorm.weight.fill_(torch.nan)

    with pytest.raises(UsageError, match="checkpoint-6"):
        one.run(progress=plant)


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """As on a disk that is full: no file of this process can grow over `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_no_room_for_the_weights_is_said(bench: Make) -> None:
    with files_up_to(5_000), pytest.raises(StoreFullError, match="a checkpoint could not be written to"):
        bench().run()


def test_no_room_for_the_optimisers_state_is_said(bench: Make) -> None:
    one = bench()
    weights = sum(weight.numel() * 4 for weight in one.model.parameters())
    with files_up_to(int(weights * 1.5)), pytest.raises(StoreFullError, match="could not be written"):
        one.run()


def test_after_room_was_made_a_training_goes_on(bench: Make) -> None:
    straight = bench("straight")
    straight.run()
    with pytest.raises(Killed):
        bench("full").run(progress=kill_at(3))
    with files_up_to(5_000), pytest.raises(StoreFullError):
        bench("full").run()
    again = bench("full")
    again.run()
    assert_equal(again.weights(), straight.weights())


def test_a_file_where_checkpoints_should_go_is_said(bench: Make) -> None:
    one = bench()
    one.folder.write_text("a file", "utf-8")
    with pytest.raises(StoreFullError, match="could not be written to"):
        one.run()


def test_an_error_of_the_caller_is_no_error_of_the_disk(bench: Make) -> None:
    def broken(_progress: Progress) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        bench().run(progress=broken)


# --- options
# -----------------------------------------------------------------------------------------------------


class Diary(TrainerCallback):  # type: ignore[misc]
    """What a service of reports would be told."""

    told: list[dict[str, float]] = []  # noqa: RUF012 - the trainer makes the instance

    def on_log(self, _args: Any, _state: Any, _control: Any, logs: Any = None, **_rest: Any) -> None:
        self.told.append(dict(logs))


def test_losses_and_looks_are_reported_to_where_it_is_said(
    bench: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "diary", Diary)
    monkeypatch.setattr(Diary, "told", [])
    bench().run(replace(USUAL, report_to=("diary",)))
    assert sum("loss" in one for one in Diary.told) == 4
    assert sum("eval_ndcg_cvd" in one for one in Diary.told) == 4


def test_a_report_that_needs_a_package_says_which(bench: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    class Absent(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            raise RuntimeError("Absent requires absent to be installed.")

    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "absent", Absent)
    with pytest.raises(UsageError, match="cannot be reported to 'absent': Absent requires absent"):
        bench().run(replace(USUAL, report_to=("absent",)))


def test_a_report_to_nobody_known_is_refused(bench: Make) -> None:
    with pytest.raises(UsageError, match="cannot be reported to 'newspaper'"):
        bench().run(replace(USUAL, report_to=("newspaper",)))


def test_devices_that_cannot_be_had_are_refused(bench: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="there is no device 'cuda'"):
        bench().run(replace(USUAL, device="cuda"))
    with pytest.raises(UsageError, match="cannot be told to use 'cuda:3'"):
        bench().run(replace(USUAL, device="cuda:3"))


@pytest.mark.parametrize(
    "said", [{"steps": 0}, {"rate": 0.0}, {"rate": -1.0}, {"rate": float("nan")}, {"rate": float("inf")}]
)
def test_impossible_options_are_refused(said: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        FitOptions(**said)


def test_a_cpu_that_multiplies_bf16_may_train_in_it(bench: Make) -> None:
    one = bench(chunk=3)
    before = one.weights()
    one.run(replace(USUAL, bf16=True, device="cpu"))
    assert all(weight.dtype == torch.float32 for weight in one.weights().values())
    moved = [name for name, weight in one.weights().items() if not torch.equal(weight, before[name])]
    assert len(moved) > len(before) / 2


def test_checkpoints_hold_the_best_and_the_last_and_no_more(bench: Make) -> None:
    one = bench()
    one.run(validation=planned(0.9, 0.1, 0.1, 0.1))
    assert sorted(path.name for path in one.folder.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-8"]
