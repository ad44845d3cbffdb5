"""Pictures of a report: bars with intervals, precision and recall, scores, and the matrix of experts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from moe_retrieval.errors import MissingExtraError, UsageError
from moe_retrieval.evaluation.pairs import PairEvaluation
from moe_retrieval.types import slug

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from moe_retrieval.evaluation.judging import RankingEvaluation
    from moe_retrieval.evaluation.matrix import Matrix
    from moe_retrieval.evaluation.report import EvaluationReport

    Evaluation = PairEvaluation | RankingEvaluation
    Draw = Callable[[Any], None]

FORMS = ("png", "svg")
NAMES = {"f1_max": "F1max", "roc_auc": "ROC-AUC", "ndcg_10": "nDCG@10"}
# Okabe and Ito's colours, which colour-blind readers can tell apart
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
_WIDTH, _HEIGHT = 8.0, 4.5
_INCHES_PER_BAR = 0.22


def draw(report: EvaluationReport, folder: Path, *, form: str = "png") -> list[Path]:
    """Write the pictures of a report to a folder; returns their files.

    Raises:
        UsageError: the form is none of `FORMS`.
        MissingExtraError: matplotlib is not installed.
    """
    if form not in FORMS:
        raise UsageError(f"pictures cannot be written as {form!r}", hint=f"one of {', '.join(FORMS)}")
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", extra="plot", purpose="drawing figures") from error
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name, width, drawn in _pictures(report):
        figure = Figure(figsize=(width, _HEIGHT), layout="constrained")
        FigureCanvasAgg(figure)
        drawn(figure)
        files.append(folder / f"{name}.{form}")
        figure.savefig(files[-1], dpi=150)
    return files


def _pictures(report: EvaluationReport) -> Iterator[tuple[str, float, Draw]]:
    """File name, width in inches, and what draws it."""
    for data, pairs in _by_data(report.pairs):
        name = f"pairs-{slug(data)}"
        for measure in ("f1_max", "roc_auc"):
            yield f"{name}-{slug(measure)}", _wide(pairs), _bars(pairs, measure)
        yield f"{name}-precision-recall", _WIDTH, _curves(pairs)
        yield f"{name}-scores", _WIDTH, _histograms(pairs)
    for data, rankings in _by_data(report.rankings):
        yield f"ranking-{slug(data)}-ndcg-10", _wide(rankings), _bars(rankings, "ndcg_10")
    for number, matrix in enumerate(report.matrices, start=1):
        yield f"matrix-{number}-{slug(matrix.data)}-{slug(matrix.model)}", _WIDTH, _heat_map(matrix)


def _by_data(evaluations: Sequence[Any]) -> Iterator[tuple[str, list[Any]]]:
    for data in dict.fromkeys(one.data for one in evaluations):
        yield data, [one for one in evaluations if one.data == data]


def _wide(evaluations: Sequence[Evaluation]) -> float:
    bars = len(evaluations) * len(dict(evaluations[0].scopes))
    return max(_WIDTH, _INCHES_PER_BAR * bars + 2)


def _bars(evaluations: Sequence[Evaluation], measure: str) -> Draw:
    """Bars of every domain and of what is over them, a colour for each model, with 95% intervals."""

    def drawn(figure: Any) -> None:
        axes = figure.add_subplot()
        scopes = list(dict(evaluations[0].scopes))
        width = 0.8 / len(evaluations)
        for number, one in enumerate(evaluations):
            found = dict(one.scopes)
            cells = [found[scope][measure] for scope in scopes]
            heights = np.array([cell.mean for cell in cells])
            below = [cell.mean - cell.low for cell in cells]
            above = [cell.high - cell.mean for cell in cells]
            # F1max may lie below its interval; NaN where there is none: no whisker on that side
            whiskers = np.maximum(np.nan_to_num([below, above]), 0)
            axes.bar(
                np.arange(len(scopes)) + width * (number - (len(evaluations) - 1) / 2),
                heights,
                width,
                yerr=whiskers,
                capsize=2,
                color=_colour(number),
                label=one.model,
            )
        axes.set_xticks(range(len(scopes)), scopes, rotation=30, ha="right")
        axes.set_ylabel(f"{NAMES[measure]} (95% interval)")
        axes.set_title(evaluations[0].data)
        figure.legend(loc="outside lower center", ncols=4)

    return drawn


def _curves(evaluations: Sequence[PairEvaluation]) -> Draw:
    """Precision over recall of all pairs as one set."""
    from sklearn.metrics import precision_recall_curve

    def drawn(figure: Any) -> None:
        axes = figure.add_subplot()
        for number, one in enumerate(evaluations):
            precision, recall, _ = precision_recall_curve(one.labels, one.scores)
            axes.plot(recall, precision, color=_colour(number), label=one.model)
        share = evaluations[0].labels.mean()
        axes.axhline(share, color="grey", linestyle=":", label="all called positive")
        axes.set(xlabel="recall", ylabel="precision", title=evaluations[0].data, ylim=(0, 1.02))
        axes.legend()

    return drawn


def _histograms(evaluations: Sequence[PairEvaluation]) -> Draw:
    """Cosines of the pairs of either label, a panel for each model, with the threshold of F1max."""

    def drawn(figure: Any) -> None:
        panels = figure.subplots(1, len(evaluations), squeeze=False, sharey=True)[0]
        for axes, one in zip(panels, evaluations, strict=True):
            edges = np.linspace(min(0.0, one.scores.min()), 1.0, 41)
            for label, colour in ((0, _COLOURS[5]), (1, _COLOURS[0])):
                cosines = np.clip(one.scores[one.labels == label], -1, 1)
                axes.hist(cosines, edges, alpha=0.6, color=colour, label=f"label {label}")
            axes.axvline(one.pooled["threshold"].mean, color="black", linestyle="--", label="threshold")
            axes.set(xlabel="cosine", title=one.model)
        panels[0].set_ylabel("pairs")
        panels[0].legend()

    return drawn


def _heat_map(matrix: Matrix) -> Draw:
    """Domains down, experts across; the best expert of each domain in bold."""

    def drawn(figure: Any) -> None:
        axes = figure.add_subplot()
        means = np.array([[cell.mean for cell in row] for row in matrix.cells])
        image = axes.imshow(means, cmap="cividis", aspect="auto")
        middle = (means.min() + means.max()) / 2
        for row, column in np.ndindex(*means.shape):
            axes.text(
                column,
                row,
                f"{means[row, column]:.3f}",
                ha="center",
                va="center",
                color="white" if means[row, column] < middle else "black",
                weight="bold" if matrix.best(row) == column else "normal",
            )
        axes.set_xticks(range(len(matrix.experts)), matrix.experts, rotation=30, ha="right")
        axes.set_yticks(range(len(matrix.domains)), matrix.domains)
        axes.set(xlabel="expert", ylabel="texts of", title=f"{matrix.model} on {matrix.data}")
        figure.colorbar(image, label=NAMES[matrix.measure])

    return drawn


def _colour(number: int) -> str:
    return _COLOURS[number % len(_COLOURS)]
