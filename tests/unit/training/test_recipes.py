"""Recipes: which weights move and which do not, what the gate lets through, how a router learns to choose."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from moe_retrieval.corpus.pairs import Pair
from moe_retrieval.errors import UsageError
from moe_retrieval.model import extend, surgery
from moe_retrieval.model.head import PoolingHead
from moe_retrieval.model.source import open_source
from moe_retrieval.training import recipes
from moe_retrieval.training.feeding import Feeder
from moe_retrieval.training.material import TrainingPairs
from moe_retrieval.training.options import FitOptions, Recipe, TrainOptions
from moe_retrieval.training.outcome import Outcome
from moe_retrieval.training.watching import Progress
from tests.noisy_pairs import build_pretrained, noisy_pairs
from tests.tiny_model import WORDS, different

DOMAINS = ("cvd", "skin")
USUAL = TrainOptions(
    batch=8,
    rate=3e-3,
    rank=0,
    shares=(1.0,),
    at_least=20,
    fit=FitOptions(steps=6, evaluations=1, patience=0, bf16=False),
)
KEEP_ALL = replace(USUAL, enforce=False)

State = Mapping[str, torch.Tensor]


def pairs_of(*domains: str, train: int = 60, validation: int = 30) -> TrainingPairs:
    made = [noisy_pairs(domain, count=train + validation) for domain in domains]
    return TrainingPairs(
        tuple(pair for own in made for pair in own[:train]),
        tuple(pair for own in made for pair in own[train:]),
    )


PAIRS = pairs_of(*DOMAINS)

Run = Callable[..., Outcome]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A model that compares texts by their words, and has no experts."""
    return build_pretrained(tmp_path_factory.mktemp("pretrained"), tiny_model)


@pytest.fixture(scope="module")
def with_experts(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A model with an expert for each domain, no two of them alike."""
    model = different(surgery.load(tiny_model), *DOMAINS)
    for domain in DOMAINS:
        surgery.assign(model, domain, domain)
    return surgery.save(model, tmp_path_factory.mktemp("experts") / "model", like=tiny_model)


@pytest.fixture
def run(tmp_path: Path, tiny_model: Path) -> Run:
    def made(recipe: str, options: TrainOptions = USUAL, **said: Any) -> Outcome:
        source = open_source(said.pop("model", tiny_model))
        options = replace(options, recipe=Recipe(recipe))
        folder = tmp_path / said.pop("folder", "checkpoints")
        pairs, domains = said.pop("pairs", PAIRS), said.pop("domains", DOMAINS)
        return recipes.run(recipes.Workshop(source, pairs, domains, options, folder, **said))

    return made


def state(model: Any) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in model.state_dict().items()}


def moved(before: State, after: State) -> set[str]:
    """Names of weights that are not byte-equal, or not in both."""
    common = before.keys() & after.keys()
    changed = {name for name in common if not torch.equal(before[name], after[name])}
    return changed | (before.keys() ^ after.keys())


# --- expert
# -----------------------------------------------------------------------------------------------------


def test_a_full_expert_moves_and_nothing_else_does(run: Run, with_experts: Path) -> None:
    options = replace(KEEP_ALL, fit=replace(USUAL.fit, decay=0.5))
    outcome = run("expert", options, model=with_experts, domains=("skin",))
    before = state(surgery.load(with_experts))
    number = surgery.expert_number(outcome.model, "skin")
    assert moved(before, state(outcome.model)) == {name for name in before if f".experts.{number}." in name}
    assert outcome.model.config.experts == ["general", "cvd", "skin"]


def test_of_a_low_rank_expert_only_the_factors_move(run: Run, with_experts: Path) -> None:
    options = replace(KEEP_ALL, rank=3, fit=replace(USUAL.fit, decay=0.5))
    outcome = run("expert", options, model=with_experts, domains=("worm",), pairs=pairs_of("worm"))
    before, after = state(surgery.load(with_experts)), state(outcome.model)
    new = {name for name in after if ".experts.3." in name}
    assert moved(before, after) == new
    general = {
        name: after[name.replace(".experts.3.", ".experts.0.")] for name in new if name in as_dense(new)
    }
    assert not moved(general, {name: after[name] for name in general})
    factors = [after[name] for name in new - general.keys()]
    assert len(factors) == 2 * 2 * 2  # layers, linears, up and down
    assert all(factor.abs().max() > 0 for factor in factors)
    assert outcome.model.config.low_rank == {"worm": 3}


def as_dense(names: set[str]) -> set[str]:
    return {name for name in names if not name.endswith((".up", ".down"))}


@pytest.mark.parametrize("rank", [0, 3])
def test_a_training_is_the_same_whatever_was_drawn_before(run: Run, rank: int) -> None:
    options = replace(KEEP_ALL, rank=rank)
    ends = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        ends.append(state(run("expert", options, domains=("cvd",), folder=f"run {seed}").model))
    assert not moved(*ends)


def test_one_expert_is_the_same_whether_others_are_trained_or_not(run: Run) -> None:
    options = replace(KEEP_ALL, rank=3)
    both = run("expert", options).model
    alone = run("expert", options, domains=("skin",), folder="alone").model
    one, other = (
        {
            name.replace(f".experts.{surgery.expert_number(model, 'skin')}.", ".own."): weight
            for name, weight in state(model).items()
            if f".experts.{surgery.expert_number(model, 'skin')}." in name
        }
        for model in (both, alone)
    )
    assert not moved(one, other)


def test_without_a_rank_few_pairs_make_a_low_rank_expert(run: Run) -> None:
    outcome = run("expert", replace(KEEP_ALL, rank=None), domains=("cvd",))
    assert outcome.model.config.low_rank == {"cvd": 8}
    assert TrainOptions().rank_for(20_001) == 0


@pytest.fixture(scope="module")
def plenty() -> TrainingPairs:
    return pairs_of("cvd", train=400, validation=150)


LONG = replace(USUAL, batch=16, rate=5e-3, fit=replace(USUAL.fit, steps=100))


def test_an_expert_that_is_better_is_accepted(run: Run, base: Path, plenty: TrainingPairs) -> None:
    outcome = run("expert", LONG, model=base, domains=("cvd",), pairs=plenty)
    assert outcome.accepted == ("cvd",)
    assert outcome.model.config.domains == {"cvd": "cvd"}
    (verdict,), (gain,) = outcome.verdicts, outcome.gains
    assert verdict.test.low > 0
    assert gain == verdict
    assert verdict.test.n == len({pair.a for pair in plenty.validation})


def test_an_expert_that_is_no_better_leaves_the_model_as_it_was(run: Run, with_experts: Path) -> None:
    options = replace(USUAL, rate=1e-7)
    outcome = run("expert", options, model=with_experts, domains=("worm",), pairs=pairs_of("worm"))
    assert outcome.accepted == ()
    assert not moved(state(surgery.load(with_experts)), state(outcome.model))
    assert "worm" not in outcome.model.config.domains
    assert outcome.gains[0].test.difference == 0.0  # what serves the domain is what did


def test_a_study_may_look_at_what_the_gate_refuses(run: Run) -> None:
    outcome = run("expert", replace(KEEP_ALL, rate=1e-7), domains=("cvd",))
    assert outcome.accepted == ()
    assert outcome.model.config.domains == {"cvd": "cvd"}


def test_an_expert_that_serves_two_domains_is_not_changed_for_one(
    run: Run, with_experts: Path, tiny_model: Path, tmp_path: Path
) -> None:
    model = surgery.load(with_experts)
    surgery.assign(model, "heart", "cvd")
    shared = surgery.save(model, tmp_path / "shared", like=tiny_model)
    with pytest.raises(UsageError, match="the expert 'cvd' of 'cvd' serves other domains, too"):
        run("expert", model=shared, domains=("cvd",))


def test_words_of_its_own_are_learnt_with_an_expert(
    run: Run, with_experts: Path, tiny_model: Path, tmp_path: Path
) -> None:
    model = surgery.load(with_experts)
    extend.add_words(model, "cvd", {"troponin": [5, 6]})
    worded = surgery.save(model, tmp_path / "worded", like=tiny_model)
    made = [replace(pair, a=f"troponin {pair.a}") for pair in PAIRS.train if pair.domain == "cvd"]
    pairs = TrainingPairs(tuple(made), PAIRS.validation)
    outcome = run("expert", KEEP_ALL, model=worded, domains=("cvd",), pairs=pairs)
    changed = moved(state(surgery.load(worded)), state(outcome.model))
    assert "input_rows.1.words" in changed
    assert all(".experts.1." in name or name == "input_rows.1.words" for name in changed)


# --- dense, joint, polish
# -----------------------------------------------------------------------------------------------------


def test_dense_trains_the_trunk_with_one_expert(run: Run, with_experts: Path) -> None:
    outcome = run("dense", model=with_experts)
    assert outcome.model.config.experts == ["general"]
    before = state(surgery.upcycle(with_experts))
    assert any("attention" in name for name in moved(before, state(outcome.model)))
    assert any(".experts.0." in name for name in moved(before, state(outcome.model)))
    assert [gain.domain for gain in outcome.gains] == list(DOMAINS)
    assert outcome.verdicts == ()


def test_joint_trains_the_trunk_and_an_expert_per_domain(run: Run, tiny_model: Path) -> None:
    outcome = run("joint", KEEP_ALL)
    after = state(outcome.model)
    assert outcome.model.config.domains == {"cvd": "cvd", "skin": "skin"}
    first = "encoder.layer.0.experts.{}.output.dense.weight"
    assert not torch.equal(after[first.format(1)], after[first.format(2)])
    assert not torch.equal(after[first.format(1)], after[first.format(0)])
    assert any("attention" in name for name in moved(state(surgery.load(tiny_model)), after))
    assert [verdict.domain for verdict in outcome.verdicts] == list(DOMAINS)


def test_joint_drops_experts_that_general_equals_and_tells_what_is_left(run: Run) -> None:
    outcome = run("joint", replace(USUAL, rate=1e-7))
    assert outcome.model.config.experts == ["general"]
    assert outcome.accepted == ()
    assert all(abs(gain.test.difference) < 0.02 for gain in outcome.gains)


def test_polish_is_dense_and_then_each_expert_alone(run: Run) -> None:
    dense = run("dense", KEEP_ALL, folder="dense")
    outcome = run("polish", KEEP_ALL)
    assert [course.what for course in outcome.courses] == ["all domains", "cvd", "skin"]
    new = {name for name in state(outcome.model) if ".experts.1." in name or ".experts.2." in name}
    assert moved(state(dense.model), state(outcome.model)) == new
    # what a domain gained is told against the model before all of it, a verdict against the new trunk
    assert [gain.before for gain in outcome.gains] == [gain.before for gain in dense.gains]
    assert [verdict.before for verdict in outcome.verdicts] == [gain.after for gain in dense.gains]


def test_polish_may_begin_with_joint_and_goes_on_with_its_experts(run: Run) -> None:
    joint = run("joint", KEEP_ALL, folder="joint")
    outcome = run("polish", replace(KEEP_ALL, first=Recipe.JOINT))
    changed = moved(state(joint.model), state(outcome.model))
    assert changed == {name for name in state(joint.model) if ".experts.1." in name or ".experts.2." in name}


def test_a_domain_may_be_called_all(run: Run) -> None:
    pairs = pairs_of("all", "skin")
    outcome = run("polish", KEEP_ALL, pairs=pairs, domains=("all", "skin"))
    assert [course.fitted.steps for course in outcome.courses] == [6, 6, 6]
    general, own = (
        state(outcome.model)[f"encoder.layer.0.experts.{number}.output.dense.weight"] for number in (0, 1)
    )
    assert not torch.equal(general, own)


@pytest.mark.parametrize(("recipe", "moves"), [("expert", False), ("dense", True)])
def test_a_pooling_head_is_trained_with_the_trunk_and_frozen_with_it(
    run: Run, tiny_model: Path, tmp_path: Path, recipe: str, *, moves: bool
) -> None:
    torch.manual_seed(0)
    head = PoolingHead(32, 16, 8)
    headed = surgery.save(surgery.load(tiny_model), tmp_path / "headed", like=tiny_model, head=head)
    outcome = run(recipe, KEEP_ALL, model=headed)
    assert bool(moved(state(head), state(outcome.head))) is moves


def test_the_best_share_of_the_way_is_kept(run: Run) -> None:
    outcome = run("dense", replace(USUAL, shares=(0.25, 0.5, 1.0)))
    (course,) = outcome.courses
    assert set(course.blend.tried) == {0.25, 0.5, 1.0}
    assert course.blend.tried[course.blend.share] == max(course.blend.tried.values())
    assert sum(gain.after for gain in outcome.gains) / 2 == pytest.approx(
        course.blend.tried[course.blend.share]
    )


@pytest.mark.parametrize("recipe", ["expert", "dense", "joint"])
def test_the_model_that_comes_out_computes_without_dropout(run: Run, recipe: str) -> None:
    assert not run(recipe, KEEP_ALL).model.training


def test_courses_say_how_many_pairs_and_texts_were_learnt_from(run: Run) -> None:
    noisy = [*PAIRS.train, replace(PAIRS.train[0], b="worm", label=0)]
    outcome = run("dense", pairs=TrainingPairs(tuple(noisy), PAIRS.validation))
    told = outcome.courses[0].to_dict()
    assert (told["pairs"], told["texts_seen"], told["steps"]) == (120, 6 * 8 * 2, 6)
    assert outcome.to_dict()["gains"][0]["domain"] == "cvd"


def test_progress_names_what_is_trained(run: Run) -> None:
    told: list[tuple[str, Progress]] = []
    run("polish", KEEP_ALL, tell=lambda what, progress: told.append((what, progress)))
    assert list(dict.fromkeys(what for what, _ in told)) == ["all domains", "cvd", "skin"]


# --- router
# -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("routing", ["sentence", "token"])
def test_a_router_learns_to_choose_and_only_gates_move(run: Run, with_experts: Path, routing: str) -> None:
    options = replace(USUAL, rate=0.05, routing=routing, fit=replace(USUAL.fit, steps=40))
    pairs = TrainingPairs(apart(60), apart(30))
    outcome = run("router", options, model=with_experts, pairs=pairs)
    before, after = state(surgery.load(with_experts)), state(outcome.model)
    assert all(".gate." in name for name in moved(before, after))
    assert outcome.model.config.routing == routing
    assert share_chosen(outcome.model, with_experts, pairs) > 0.8


def apart(count: int) -> tuple[Pair, ...]:
    """Pairs of two domains that have no words in common."""
    draw = random.Random(count)
    words = {"cvd": WORDS[5:15], "skin": WORDS[15:25]}

    def said(domain: str) -> str:
        return " ".join(draw.sample(words[domain], 4))

    return tuple(Pair(said(domain), said(domain), domain) for domain in words for _ in range(count))


def share_chosen(model: Any, folder: Path, pairs: TrainingPairs) -> float:
    """Share of validation texts whose own expert is the gates' first choice."""
    feeder = Feeder(open_source(folder), experts={"cvd": 1, "skin": 2}, max_length=32)
    right: list[torch.Tensor] = []
    for domain, number in (("cvd", 1), ("skin", 2)):
        texts = feeder.texts([pair.b for pair in pairs.validation if pair.domain == domain], domain)
        with torch.no_grad():
            out = model(input_ids=texts.ids, attention_mask=texts.mask)
        logits = torch.stack(out.router_logits).mean(dim=0)
        if model.config.routing == "token":
            logits = torch.stack([own.mean(dim=0) for own in logits.split(texts.ids.shape[1])])
        right.append(logits.argmax(dim=-1) == number)
    return float(torch.cat(right).float().mean())


def test_a_router_without_experts_is_refused(run: Run) -> None:
    with pytest.raises(UsageError, match="has no experts among which a gate could choose"):
        run("router")


@pytest.mark.parametrize("recipe", ["expert", "joint", "polish"])
def test_where_a_gate_chooses_no_expert_is_trained_for_a_domain(
    run: Run, with_experts: Path, tiny_model: Path, tmp_path: Path, recipe: str
) -> None:
    model = surgery.load(with_experts)
    extend.set_routing(model, "sentence")
    gated = surgery.save(model, tmp_path / "gated", like=tiny_model)
    with pytest.raises(UsageError, match="a gate chooses the experts of gated, not the domain"):
        run(recipe, model=gated)


# --- refused
# -----------------------------------------------------------------------------------------------------


def test_too_few_pairs_are_refused_before_anything_is_trained(run: Run) -> None:
    with pytest.raises(UsageError, match="'cvd' has 60 pairs to learn from, 61 are needed"):
        run("expert", replace(USUAL, at_least=61))


def test_a_domain_without_pairs_is_refused(run: Run) -> None:
    with pytest.raises(UsageError, match="'worm' has 0 pairs"):
        run("joint", domains=("cvd", "worm"))


def test_a_loss_that_is_no_number_stops_the_recipe_with_a_sentence(run: Run) -> None:
    options = replace(USUAL, rate=1e38, fit=replace(USUAL.fit, warmup=0.0))
    with pytest.raises(UsageError, match="the loss became NaN"):
        run("expert", options, domains=("cvd",))


def test_a_killed_recipe_goes_on_in_the_course_that_was_cut_short(run: Run) -> None:
    options = replace(KEEP_ALL, fit=replace(USUAL.fit, evaluations=3))
    straight = run("polish", options, folder="straight")

    class Killed(Exception):  # noqa: N818 - an end, and no error
        pass

    def kill(what: str, progress: Progress) -> None:
        if (what, progress.step) == ("skin", 3):
            raise Killed

    with pytest.raises(Killed):
        run("polish", options, tell=kill)
    told: list[tuple[str, int]] = []
    again = run("polish", options, tell=lambda what, progress: told.append((what, progress.step)))
    assert ("skin", 3) in told
    assert not {("all domains", 5), ("cvd", 5), ("skin", 2)} & set(told)
    assert not moved(state(straight.model), state(again.model))
    assert [gain.after for gain in again.gains] == [gain.after for gain in straight.gains]


@pytest.mark.parametrize("said", [{"batch": 1}, {"rate": 0.0}, {"rate": -1e-3}, {"first": Recipe.ROUTER}])
def test_impossible_options_are_refused(said: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        TrainOptions(**said)


def test_a_recipe_prints_nothing(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    run("polish", KEEP_ALL)
    assert capfd.readouterr() == ("", "")
