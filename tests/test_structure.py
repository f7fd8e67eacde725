"""The house: lower rooms never import higher ones, no circles, and private names stay private."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import msiscale

ROOT = Path(msiscale.__file__).parent
# from the ground up; a room may import those before it (CONTRIBUTING.md says what is in each)
ROOMS = (
    *("errors", "log", "ranges", "threads", "grid", "placing", "store", "csr", "saving"),
    *("presets", "encoder_names", "config"),
    *("config_schema", "cohort", "notices", "work", "cluster", "msi", "slide", "regridding"),
    *("registration", "features", "models", "biomarkers", "fusion", "simulate", "report"),
    *("prediction", "export", "pipeline", "place", "starting", "doctor", "demo", "cli"),
    "__main__",
)
PUBLIC = ROOT / "__init__.py"  # the names of the package, found when they are asked for


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of the package, parsed, by its dotted name."""
    found = {}
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text())
    return found


def imports(name: str) -> Iterator[tuple[str, str]]:
    """Module and name of each import of our own, those within functions too."""
    for node in ast.walk(modules()[name]):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("msiscale"):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield (inner, "") if inner in modules() else (str(node.module), alias.name)


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def test_every_room_is_on_its_floor() -> None:
    assert {room(name) for name in modules()} - {""} <= set(ROOMS)


def test_no_room_imports_a_higher_one() -> None:
    upward = [
        (name, target)
        for name in modules()
        for target, _ in imports(name)
        if name != "msiscale" and target != "msiscale"
        if ROOMS.index(room(target)) > ROOMS.index(room(name))
    ]
    assert upward == []


def test_nothing_imports_in_a_circle() -> None:
    edges = {n: {t for t, _ in imports(n) if t not in ("msiscale", n)} for n in modules()}
    # a package's own module imports its parts; what these take from it is its parts' own
    while leaves := {n for n, targets in edges.items() if not targets & edges.keys()}:
        edges = {n: targets for n, targets in edges.items() if n not in leaves}
    assert sorted(edges) in ([], ["msiscale"]), sorted(edges)


def test_private_names_stay_at_home() -> None:
    taken = [
        (name, target, what)
        for name in modules()
        for target, what in imports(name)
        if (what.startswith("_") and not what.startswith("__"))
        or any(p.startswith("_") and not p.startswith("__") for p in target.split("."))
    ]
    assert taken == []


ARRAYS = (
    "NDArray",
    "ndarray",
    "DataArray",
    "Dataset",
    "Array",
    "Floats",
    "Float32",
    "Mask",
    "Ints",
)


def test_public_array_functions_say_what_they_take_and_give() -> None:
    """Functions, and methods of public classes; what their sections must hold, ruff knows."""
    silent = []
    for name, tree in modules().items():
        classes = (c for c in tree.body if isinstance(c, ast.ClassDef) and c.name[0] != "_")
        for node in [*tree.body, *(f for c in classes for f in c.body)]:
            if not isinstance(node, ast.FunctionDef) or node.name.startswith("_"):
                continue
            takes = [a for a in (*node.args.args, *node.args.kwonlyargs) if is_array(a.annotation)]
            said = ast.get_docstring(node) or ""
            if takes and "Parameters\n---" not in said:
                silent.append(f"{name}.{node.name}: Parameters")
            if takes and is_array(node.returns) and not re.search("(Returns|Yields)\n---", said):
                silent.append(f"{name}.{node.name}: Returns")
    assert silent == []


def is_array(annotation: ast.expr | None) -> bool:
    return annotation is not None and any(word in ast.unparse(annotation) for word in ARRAYS)
