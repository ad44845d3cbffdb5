"""Recipes: which weights of a model are trained by which pairs, and what is kept of them."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from moe_retrieval.model import extend, surgery
from moe_retrieval.model.head import PoolingHead
from moe_retrieval.training.batches import plan_mixed_steps, plan_steps
from moe_retrieval.training.blending import blend, trained_weights
from moe_retrieval.training.embedding import embedding
from moe_retrieval.training.feeding import Feeder
from moe_retrieval.training.gate import judge
from moe_retrieval.training.losses import ContrastiveLoss
from moe_retrieval.training.options import RATES, Recipe
from moe_retrieval.training.outcome import Course, Outcome
from moe_retrieval.training.pair_model import PairModel
from moe_retrieval.training.trainer import fit, processes, training_device
from moe_retrieval.training.validation import Validation
from moe_retrieval.types import GENERAL

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from moe_retrieval.model.source import ModelSource
    from moe_retrieval.training.gate import Verdict
    from moe_retrieval.training.material import TrainingPairs
    from moe_retrieval.training.options import TrainOptions
    from moe_retrieval.training.validation import Embed, Scores
    from moe_retrieval.training.watching import Progress


@dataclass(frozen=True, slots=True)
class Trained:
    """One fit, and validation's scores before and after it."""

    course: Course
    before: Scores
    after: Scores


@dataclass(frozen=True, slots=True)
class Workshop:
    """What every recipe needs: the base, the pairs, the options, a folder for checkpoints, who is told.

    `head`: the base's pooling head, if it has one; `prompts`: of queries and documents, None: the base's own.
    """

    source: ModelSource
    pairs: TrainingPairs
    domains: tuple[str, ...]
    options: TrainOptions
    folder: Path
    head: Any = None
    prompts: Mapping[str, str] | None = None
    tell: Callable[[str, Progress], None] = lambda _what, _progress: None


def run(shop: Workshop) -> Outcome:
    """Carry out the recipe of the options; the model in the outcome is ready to be saved or exported from.

    Raises:
        UsageError: a domain has too few pairs, the recipe does not fit the model, or the loss became NaN.
        StoreFullError: checkpoints cannot be written.
    """
    shop.options.check_fit(shop.source, shop.domains)
    shop.pairs.demand(shop.domains, at_least=shop.options.at_least)
    started = time.monotonic()
    if shop.source.head is not None:
        shop = replace(shop, head=PoolingHead.load(shop.source.head.parent).requires_grad_(False))
    recipes = {
        Recipe.EXPERT: _expert,
        Recipe.DENSE: _dense,
        Recipe.JOINT: _joint,
        Recipe.POLISH: _polish,
        Recipe.ROUTER: _router,
    }
    outcome = recipes[shop.options.recipe](shop)
    return replace(outcome, head=shop.head, seconds=round(time.monotonic() - started, 1))


def _expert(shop: Workshop) -> Outcome:
    """Each domain's expert, one after the other, on the frozen model."""
    model = surgery.load(shop.source.folder)
    return _each_alone(shop, model, courses=(), base=None)


def _dense(shop: Workshop) -> Outcome:
    model = surgery.upcycle(shop.source.folder)
    return _together(shop, model, dict.fromkeys(shop.domains, 0))


def _joint(shop: Workshop) -> Outcome:
    model = surgery.load(shop.source.folder)
    for domain in shop.domains:
        _ensure_expert(model, domain)
    numbers = {domain: surgery.number_of_domain(model, domain) for domain in shop.domains}
    outcome = _together(shop, model, numbers)
    return _without_losers(shop, outcome)


def _polish(shop: Workshop) -> Outcome:
    """The trunk by all domains, as far as validation says; then each expert alone on it."""
    first = _joint(shop) if shop.options.first is Recipe.JOINT else _dense(shop)
    if shop.head is not None:
        shop.head.requires_grad_(requires_grad=False)
    return _each_alone(shop, first.model, courses=first.courses, base=first.base)


def _router(shop: Workshop) -> Outcome:
    """Gates alone, taught which expert each text belongs to; everything else stays as it is."""
    model = surgery.load(shop.source.folder)
    extend.set_routing(model, shop.options.routing, top_k=shop.options.top_k)
    for name, weight in model.named_parameters():
        weight.requires_grad_(".gate." in name)
    numbers = {domain: surgery.number_of_domain(model, domain) for domain in shop.domains}
    done = _train(shop, model, numbers, what="router", rate=RATES["gates"], contrast=0.0, shares=(1.0,))
    gains = _compared(shop.domains, done.after, done.before)
    return Outcome(shop.options.recipe, model, courses=(done.course,), gains=gains)


def _together(shop: Workshop, model: Any, numbers: Mapping[str, int]) -> Outcome:
    """Everything at once, by batches of one domain; judged against the model as it was."""
    for part in (model, shop.head):
        if part is not None:
            part.requires_grad_(requires_grad=True)
    done = _train(shop, model, numbers, what="all domains", rate=RATES["trunk"])
    gains = _compared(shop.domains, done.after, done.before)
    return Outcome(shop.options.recipe, model, courses=(done.course,), gains=gains, base=done.before)


def _compared(domains: Sequence[str], after: Scores, before: Scores) -> tuple[Verdict, ...]:
    return tuple(judge(domain, after[domain], before[domain]) for domain in domains)


def _without_losers(shop: Workshop, outcome: Outcome) -> Outcome:
    """Experts that are not better than general on the same trunk are dropped."""
    model = outcome.model
    numbers = {domain: surgery.number_of_domain(model, domain) for domain in shop.domains}
    own = _look(shop, model, numbers)
    general = _look(shop, model, dict.fromkeys(shop.domains, 0))
    verdicts = _compared(shop.domains, own, general)
    kept = {one.domain: _kept(shop, model, one, own=own, general=general) for one in verdicts}
    return replace(outcome, verdicts=verdicts, gains=_compared(shop.domains, kept, outcome.base or general))


def _kept(
    shop: Workshop, model: Any, verdict: Verdict, *, own: Scores, general: Scores
) -> NDArray[np.float64]:
    """Drop an expert that the gate refuses, where it is obeyed; the scores of what serves its domain now."""
    if verdict.accepted or not shop.options.enforce:
        return own[verdict.domain]
    surgery.drop_domain(model, verdict.domain)
    return general[verdict.domain]


def _look(shop: Workshop, model: Any, numbers: Mapping[str, int]) -> Scores:
    """Validation's scores of a model, each domain by the expert of this number."""
    check = _validation(shop, numbers)
    return check.scores(_embed(shop, _wrapped(shop, model), _feeder(shop, model, numbers)))


def _embed(shop: Workshop, model: PairModel, feeder: Feeder) -> Embed:
    return embedding(model, feeder, bf16=shop.options.fit.bf16)


def _validation(shop: Workshop, domains: Container[str]) -> Validation:
    pairs = [pair for pair in shop.pairs.validation if pair.domain in domains]
    return Validation.of(pairs, queries=shop.options.queries)


def _each_alone(shop: Workshop, model: Any, *, courses: tuple[Course, ...], base: Scores | None) -> Outcome:
    """One expert per domain with all else frozen; those that the gate refuses are dropped again.

    `base`: scores of the untouched model, where the trunk is no longer that.
    """
    verdicts: tuple[Verdict, ...] = ()
    gains: tuple[Verdict, ...] = ()
    done = list(courses)
    for domain in shop.domains:
        had = domain in model.config.domains
        trained = _alone(shop, model, domain)
        general = _look(shop, model, {domain: 0}) if had else trained.before
        verdicts += _compared([domain], trained.after, general)
        kept = _kept(shop, model, verdicts[-1], own=trained.after, general=general)
        gains += _compared([domain], {domain: kept}, base or general)
        done.append(trained.course)
    return Outcome(
        shop.options.recipe,
        model,
        courses=tuple(done),
        verdicts=verdicts,
        gains=gains,
        base=base,
    )


def _alone(shop: Workshop, model: Any, domain: str) -> Trained:
    """Train the expert of one domain; the model gets one, if it has none for it."""
    rank = shop.options.rank_for(shop.pairs.counts()[domain])
    torch.manual_seed(shop.options.fit.seed)  # a low-rank expert begins with a factor that is drawn
    name = _ensure_expert(model, domain, rank=rank)
    _freeze_all_but(model, name)
    numbers = {domain: surgery.number_of_domain(model, domain)}
    rate = RATES["low-rank" if name in model.config.low_rank else "full"]
    return _train(shop, model, numbers, what=domain, rate=rate)


def _ensure_expert(model: Any, domain: str, *, rank: int = 0) -> str:
    """The name of the domain's own expert, made from general where it has none."""
    own = model.config.domains.get(domain, GENERAL)
    if own != GENERAL:
        return str(own)
    surgery.add_domain(model, domain, rank=rank)
    return domain


def _freeze_all_but(model: Any, name: str) -> None:
    """Only the expert learns: of a low-rank one the two factors, and embeddings of its own."""
    number = surgery.expert_number(model, name)
    model.requires_grad_(requires_grad=False)
    low_rank = name in model.config.low_rank
    for _, layer in model.expert_layers:
        for part, weight in layer.experts[number].named_parameters():
            weight.requires_grad_(not low_rank or part.endswith((".up", ".down")))
    if model.input_rows is not None:
        model.input_rows[number].requires_grad_(requires_grad=True)


def _train(
    shop: Workshop,
    model: Any,
    numbers: Mapping[str, int],
    *,
    what: str,
    rate: float,
    contrast: float = 1.0,
    shares: tuple[float, ...] | None = None,
) -> Trained:
    """Fit what requires a gradient, mix it with what it was, and look at validation before and after."""
    options = shop.options
    pair_model, feeder = _wrapped(shop, model, contrast=contrast), _feeder(shop, model, numbers)
    check = _validation(shop, numbers)
    look = _embed(shop, pair_model, feeder)
    before = check.scores(look)
    start = trained_weights(pair_model)
    learnt = [pair for pair in shop.pairs.train if pair.domain in numbers and pair.label == 1]
    steps = options.fit.steps * processes()  # each process takes its turn at the plan
    planned = plan_steps if contrast else plan_mixed_steps
    plan = planned(learnt, size=options.batch, steps=steps, seed=options.fit.seed)
    fitted = fit(
        pair_model,
        learnt,
        plan,
        feeder=feeder,
        validation=check,
        options=replace(options.fit, rate=options.rate or rate),
        folder=shop.folder / what,
        progress=lambda progress: shop.tell(what, progress),
    )
    chosen = blend(
        pair_model,
        start,
        shares=shares or options.shares,
        scores=lambda: check.scores(look),
    )
    model.eval()
    texts = sum(len(step) for step in plan[: fitted.steps * processes()]) * 2
    course = Course(what, pairs=len(learnt), texts=texts, fitted=fitted, blend=chosen)
    return Trained(course, before=before, after=chosen.scores)


def _wrapped(shop: Workshop, model: Any, *, contrast: float = 1.0) -> PairModel:
    options = shop.options
    wrapped = PairModel(
        model,
        loss=ContrastiveLoss(options.loss),
        pooling=shop.source.pooling,
        head=shop.head,
        chunk=options.chunk,
        gates=options.gates if model.config.learned else None,
        contrast=contrast,
    )
    return wrapped.to(training_device(options.fit)).train(model.training)


def _feeder(shop: Workshop, model: Any, numbers: Mapping[str, int]) -> Feeder:
    said: Mapping[str, Sequence[str]] = model.config.vocabulary
    experts = {domain: model.config.experts[number] for domain, number in numbers.items()}
    words = {domain: said[name] for domain, name in experts.items() if name in said}
    limit = min(shop.options.max_length, shop.source.max_length)
    return Feeder(shop.source, experts=numbers, max_length=limit, prompts=shop.prompts, words=words)
