"""Train the bundled experts: low-rank, on the frozen bundled encoder, for each domain that passes the gate.

    python benchmarks/bundled_experts.py DATA --work FOLDER [--domains A,B] [--into moe_retrieval/experts]

DATA/citations is learnt from, without the articles marked in_dev_queries and without every document of the
collections that judge later (see adaptation.py). Domains are those with at least 200 articles there;
"other-medicine" is none. A domain whose expert is not better than general on validation gets none. A run that
was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from adaptation import build, tell

DOMAINS = (
    "cardiovascular",
    "mental-neuro",
    "metabolic",
    "musculoskeletal-exercise",
    "obstetric-paediatric",
    "oncology",
    "surgery-anaesthesia-pain",
)
LICENCE = "MIT (pairs from jayded/evidence-inference, articles of the PMC open-access subset)"


def train(domain: str, pairs: Path, work: Path, into: Path) -> dict[str, object]:
    from moe_retrieval.adaptation import train_expert
    from moe_retrieval.moeret import Moeret
    from moe_retrieval.settings import load_settings
    from moe_retrieval.training.options import FitOptions, TrainOptions

    options = TrainOptions(
        rank=8,
        batch=20,
        queries=400,
        shares=(0.5, 0.75, 1.0),
        fit=FitOptions(steps=120, evaluations=2, patience=0),
    )
    store = work / f"store-{domain}"
    settings = load_settings(store=store, engine="torch").values
    report = train_expert(
        Moeret.open(settings=settings), domain, pairs=pairs, options=options, licence=LICENCE, tell=tell
    )
    if report.expert:
        home = into / domain
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(store / "experts" / report.expert, home / report.expert)
    return report.to_dict()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--domains", default=",".join(DOMAINS))
    parser.add_argument("--into", type=Path, default=Path("moe_retrieval/experts"))
    given = parser.parse_args()
    pairs = given.work / "pairs"
    if not (pairs / "report.json").is_file():
        build(given.data, pairs, domains=DOMAINS)
    for domain in given.domains.split(","):
        place = given.work / f"{domain}.json"
        if not place.is_file():
            print(domain, flush=True)
            place.write_text(json.dumps(train(domain, pairs, given.work, given.into)), "utf-8")
        said = json.loads(place.read_text("utf-8"))
        (verdict,) = said["verdicts"]
        test = verdict["test"]
        print(
            f"{domain}: {verdict['before']:.4f} -> {verdict['after']:.4f}, {test['difference']:+.4f} "
            f"({test['low']:+.4f} to {test['high']:+.4f}), {'kept' if said['expert'] else 'refused'}"
        )


if __name__ == "__main__":
    main()
