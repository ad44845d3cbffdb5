"""The rules of the house: layers, lazy imports, who may know which library, who may print."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "moe_retrieval"
COMMANDS = ROOT / "cli"

LAYERS = {
    "errors": 0, "types": 0, "contexts": 0, "filters": 0, "hashing": 0, "settings": 0,
    "model": 1, "corpus": 1, "storage": 1,
    "encoder": 2, "domain_experts": 2, "engines": 2, "fingerprint": 2, "router": 2, "router_choice": 2,
    "router_fitting": 2, "router_terms": 2, "router_queries": 2, "router_file": 2, "calibration": 2,
    "retrieval": 3, "evaluation": 3, "training": 3,
    "moeret": 4, "integrations": 4, "models": 4, "status": 4, "doctor": 4, "adaptation": 4, "opening": 4,
    "reading": 4, "tuning": 4, "generations": 4, "renaming": 4, "domain_changes": 4, "bench": 4,
    "repair": 4,
}  # fmt: skip

FIGURES = {"metrics", "rankings", "intervals"}
"""Files of evaluation that know nothing but numbers: layer 1, so that training's gate may use them."""

KNOWS = {
    "lancedb": {"storage"},
    "lance": {"storage"},
    "faiss": {"storage"},
    "obstore": {"storage"},
    "torch": {"model", "engines", "training", "integrations"},
    "transformers": {"model", "engines", "training"},
    "matplotlib": {"evaluation"},
    "mteb": {"integrations"},
}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def layer(parts: Sequence[str]) -> int:
    """Layer of a module below the package, by its names."""
    if parts[0] == "evaluation" and parts[-1] in FIGURES:
        return 1
    return LAYERS[parts[0]]


def imports(path: Path, *, outside_type_checking: bool = False) -> set[str]:
    """Absolute names of all modules a file imports."""
    tree = ast.parse(path.read_text(encoding="utf8"))
    skipped: set[int] = set()
    if outside_type_checking:
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                skipped |= {id(child) for child in ast.walk(node)}
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(_absolute(path, node))
    return found


def _absolute(path: Path, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    base = path.relative_to(ROOT).with_suffix("").parts[: -node.level]
    return ".".join([*base, *([node.module] if node.module else [])])


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down_only(path: Path) -> None:
    """Rooms of one layer do not meet; the single files of layers 0, 2 and 4 may be built of each other."""
    if path.parent == PACKAGE and path.name == "__init__.py":
        return
    own = room(path)
    for name in imports(path):
        parts = name.split(".")
        assert parts[0] != "moeret_cli", f"{path.name} imports the command line"
        if parts[0] == "moe_retrieval" and len(parts) > 1 and parts[1] != own:
            theirs, ours = layer(parts[1:]), layer(path.relative_to(PACKAGE).with_suffix("").parts)
            assert theirs < ours or ours == theirs in (0, 2, 4), (
                f"{path.relative_to(ROOT)} (layer {ours}) imports {name} (layer {theirs})"
            )


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_only_its_room_knows_a_library(path: Path) -> None:
    for name in imports(path):
        library = name.split(".")[0]
        assert room(path) in KNOWS.get(library, {room(path)}), f"{path.name} knows {library}"


def test_model_imports_only_torch_transformers_and_siblings() -> None:
    allowed = {"torch", "transformers", "safetensors", "moe_retrieval", "__future__"}
    for path in (PACKAGE / "model").glob("*.py"):
        outside = {name.split(".")[0] for name in imports(path)} - allowed - set(sys.stdlib_module_names)
        assert not outside, f"{path.name} imports {outside}"


@pytest.mark.parametrize("path", [*modules(), *sorted(COMMANDS.glob("*.py"))], ids=lambda path: path.name)
def test_no_file_is_over_300_lines(path: Path) -> None:
    assert path.read_text(encoding="utf8").count("\n") <= 300


def test_every_package_is_installed() -> None:
    """An editable install finds what is on the disk; a wheel holds what is listed, and nothing else."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf8"))
    found = {
        ".".join(path.parent.relative_to(ROOT).parts) for path in modules() if path.name == "__init__.py"
    }
    assert set(listed["tool"]["setuptools"]["packages"]) == found | {"moeret_cli"}


def test_only_what_is_shown_knows_rich() -> None:
    knowing = {
        path.name
        for path in [*modules(), *COMMANDS.glob("*.py")]
        if any(n.split(".")[0] == "rich" for n in imports(path))
    }
    assert knowing == {"render.py", "bars.py"}


def test_only_render_writes_to_the_terminal() -> None:
    writing = set()
    for path in [*modules(), *COMMANDS.glob("*.py")]:
        text = path.read_text(encoding="utf8")
        calls = {ast.unparse(node.func) for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)}
        if calls & {"print", "sys.stdout.write", "sys.stderr.write", "typer.echo", "typer.secho"}:
            writing.add(path.name)
    assert writing == {"render.py"}


@pytest.mark.parametrize("code", ["import moe_retrieval", "import moeret_cli.ending"])
def test_importing_loads_no_heavy_library(code: str) -> None:
    heavy = ("torch", "transformers", "lancedb", "lance", "faiss", "pyarrow", "sklearn", "pydantic", "numpy")
    script = f"import sys; {code}; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names_are_those_promised() -> None:
    import moe_retrieval

    assert set(moe_retrieval._HOMES) == set(moe_retrieval.__all__) - {"__version__"}
    for name in moe_retrieval.__all__:
        assert getattr(moe_retrieval, name) is not None


def test_dangerous_calls_are_nowhere() -> None:
    for path in [*modules(), *COMMANDS.glob("*.py")]:
        assert not imports(path) & {"pickle", "yaml", "marshal", "shelve"}, path.name
        for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
            if isinstance(node, ast.Call):
                assert ast.unparse(node.func) not in {"torch.load", "eval", "exec"}, path.name
                assert not [word for word in node.keywords if word.arg == "delete_unverified"], path.name


def test_the_readme_has_the_command_that_ci_runs() -> None:
    command = next(
        line for line in (ROOT / ".ci" / "run").read_text(encoding="utf8").splitlines() if "pytest" in line
    )
    assert command in (ROOT / "README.md").read_text(encoding="utf8").splitlines()
