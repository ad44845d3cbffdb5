"""What experts cost: five domains against the dense model, forward and training, and one query under five.

    python benchmarks/experts.py forward [--model bundled|base] [--batch 8] [--rounds 15] [--json FILE]
    python benchmarks/experts.py training [--model bundled|base] [--batch 8] [--rounds 15] [--json FILE]
    python benchmarks/experts.py query [--rounds 15] [--engine torch] [--json FILE]
    python benchmarks/experts.py resident

`forward`, `training`: batches of random tokens, 128 long, five domains with different weights. "scheduled":
each batch holds one domain; "mixed": every batch holds all, sorted slices; "masks": the paper's way, a
boolean mask per expert and layer; "tokens": an expert per token, slices and masks. Ratios are to the dense
model of the library on the same batches, 1 is equal, below is faster. `base` is BERT-base's width with random
weights.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from baselines import bundled_folder
from timing import interleaved, ratio, report

from moe_retrieval import Encoder
from moe_retrieval.model import surgery

DOMAINS = ("cvd", "copd", "skin", "parasitic", "autoimmune")
TOKENS = 128


def dense_model(name: str) -> Any:
    from transformers import AutoModel, BertConfig, BertModel

    torch.manual_seed(0)
    model = AutoModel.from_pretrained(bundled_folder()) if name == "bundled" else BertModel(BertConfig())
    return model.eval()


def with_domains(dense: Any, *, layers: list[int] | None = None) -> Any:
    """Five experts with weights of their own; number 0 stays general, unused."""
    model = surgery.upcycle(dense, moe_layers=layers)
    generator = torch.Generator().manual_seed(1)
    for domain in DOMAINS:
        surgery.add_domain(model, domain)
        number = surgery.expert_number(model, domain)
        with torch.no_grad():
            for _, layer in model.expert_layers:
                for weight in layer.experts[number].parameters():
                    weight.add_(torch.randn(weight.shape, generator=generator) * 0.01)
    return model


def masked(model: Any) -> Any:
    """The same model, its experts run by the paper's loop: a mask per expert, gather, compute, scatter."""
    import copy

    slow = copy.deepcopy(model)
    for _, layer in slow.expert_layers:
        layer.routed = lambda hidden, plan, layer=layer: _loop(layer, hidden, slow.chosen)
    return slow


def _loop(layer: Any, hidden: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    out = torch.zeros_like(hidden)
    for number, expert in enumerate(layer.experts):
        mask = chosen == number
        if mask.any():
            out[mask] = expert(hidden[mask])
    return out


def batches(vocabulary: int, *, size: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [torch.randint(1_000, vocabulary, (size, TOKENS), generator=generator) for _ in DOMAINS]


def ways(name: str, size: int) -> dict[str, Callable[[Any], object]]:
    """Each way runs the same five batches; it is told what to do with a model's output."""
    dense = dense_model(name)
    model = with_domains(dense)
    slow = masked(model)
    ids = batches(dense.config.vocab_size, size=size)
    mixed = torch.arange(size) % len(DOMAINS) + 1
    tokens = torch.randint(1, len(DOMAINS) + 1, (size, TOKENS), generator=torch.Generator().manual_seed(3))

    def scheduled(done: Any) -> None:
        for number, part in enumerate(ids, start=1):
            done(model, model(input_ids=part, expert_ids=torch.full((size,), number)))

    def all_of(chosen: torch.Tensor) -> Callable[[Any], object]:
        def run(done: Any) -> None:
            for part in ids:
                done(model, model(input_ids=part, expert_ids=chosen))

        return run

    def masks(chosen: torch.Tensor) -> Callable[[Any], object]:
        def run(done: Any) -> None:
            slow.chosen = chosen
            for part in ids:
                done(slow, slow(input_ids=part))

        return run

    def plain(done: Any) -> None:
        for part in ids:
            done(dense, dense(input_ids=part))

    return {
        "dense": plain,
        "scheduled": scheduled,
        "mixed": all_of(mixed),
        "masks": masks(mixed),
        "tokens, slices": all_of(tokens),
        "tokens, masks": masks(tokens),
    }


def forward(name: str, size: int, rounds: int, chosen: list[str]) -> list[dict[str, object]]:
    def run(way: Callable[[Any], object]) -> None:
        with torch.inference_mode():
            way(lambda _model, _out: None)

    known = ways(name, size)
    runs = {label: (lambda way=known[label]: run(way)) for label in chosen or known}
    return _rows(interleaved(runs, rounds=rounds))


def training(name: str, size: int, rounds: int) -> list[dict[str, object]]:
    """Forward, backward and a step of AdamW over all weights that got a gradient."""
    optimisers: dict[int, Any] = {}

    def step(model: Any, out: Any) -> None:
        if id(model) not in optimisers:
            model.train()
            optimisers[id(model)] = torch.optim.AdamW(model.parameters(), lr=1e-5)
        optimiser = optimisers[id(model)]
        optimiser.zero_grad()
        out.last_hidden_state.square().mean().backward()
        optimiser.step()

    runs = {label: (lambda way=way: way(step)) for label, way in ways(name, size).items()}
    return _rows(interleaved(runs, rounds=rounds))


def _rows(seconds: dict[str, list[float]]) -> list[dict[str, object]]:
    rows = []
    for name, taken in seconds.items():
        found = ratio(taken, seconds["dense"])
        row: dict[str, object] = {"way": name, "ms": round(statistics.median(taken) * 1e3, 1)}
        rows.append(row | {"x dense": found["ratio"], "95%": f"{found['low']:.3f}-{found['high']:.3f}"})
    return rows


def query(rounds: int, engine: str) -> list[dict[str, object]]:
    """One query of 11 tokens under five experts in one call, against under one."""
    import tempfile

    text = "does aspirin lower the risk of stroke"
    rows = []
    for label, layers in (("all layers", None), ("last layer", [5]), ("last two layers", [4, 5])):
        with tempfile.TemporaryDirectory() as folder:
            model = with_domains(dense_model("bundled"), layers=layers)
            surgery.save(model, folder, like=bundled_folder())
            encoder = Encoder.load(folder, engine=engine, precision="fp32", device="cpu")
            one = f"one expert, {label}"
            runs: dict[str, Callable[[], object]] = {
                one: lambda encoder=encoder: [encoder.encode_query([text], domain="cvd") for _ in range(10)],
                f"five experts, {label}": lambda encoder=encoder: [
                    encoder.encode_query_across([text], domains=DOMAINS) for _ in range(10)
                ],
            }
            seconds = interleaved(runs, rounds=rounds)
        for name, taken in seconds.items():
            found = ratio(taken, seconds[one])
            row: dict[str, object] = {"way": name, "ms": round(statistics.median(taken) * 100, 2)}
            rows.append(row | {"x one": found["ratio"], "95%": f"{found['low']:.2f}-{found['high']:.2f}"})
    return rows


def resident() -> list[dict[str, object]]:
    """Parameters in memory after texts of so many domains."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        surgery.save(with_domains(dense_model("bundled")), folder, like=bundled_folder())
        rows = []
        for label, domains in (("general", ["general"]), ("cvd", ["cvd"]), ("five domains", DOMAINS)):
            encoder = Encoder.load(folder, engine="torch", precision="fp32", device="cpu")
            for domain in domains:
                encoder.encode_query(["text"], domain=domain)
            held = encoder._engine.get(encoder._load_engine)._model
            rows.append({"encoded": label, "parameters": sum(one.numel() for one in held.parameters())})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", choices=["forward", "training", "query", "resident"])
    parser.add_argument("--model", choices=["bundled", "base"], default="bundled")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--ways", default="", help="of forward: some of them only, dense first")
    parser.add_argument("--engine", default="torch")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    match given.task:
        case "forward":
            chosen = given.ways.split(",") if given.ways else []
            rows = forward(given.model, given.batch, given.rounds, chosen)
        case "training":
            rows = training(given.model, given.batch, given.rounds)
        case "query":
            rows = query(given.rounds, given.engine)
        case _:
            rows = resident()
    report(rows, path=given.json, task=given.task, model=given.model, batch=given.batch, rounds=given.rounds)


if __name__ == "__main__":
    main()
