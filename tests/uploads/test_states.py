"""Each set of states has one name and one home."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: The sets themselves, and what leads where.
HOMES = ("uploads/models/states.py", "uploads/lifecycle/transitions.py")


def sets_of_states(path: Path) -> list[int]:
    """The lines of tuples, lists and sets that name two states or more."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Tuple | ast.List | ast.Set) and sum(map(is_state, node.elts)) > 1
    ]


def is_state(node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Status"


def test_every_set_of_states_is_named_in_one_module():
    apps = ("audiotricks", "accounts", "quotas", "objectstore", "media", "uploads")
    modules = [path for app in apps for path in (ROOT / app).rglob("*.py")]
    names = {str(path.relative_to(ROOT)): path for path in modules}
    assert set(HOMES) <= set(names)
    found = {name: sets_of_states(path) for name, path in names.items() if name not in HOMES}
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_two_names_never_mean_the_same_set():
    from uploads.models import states

    sets = {name: frozenset(value) for name, value in vars(states).items() if name.isupper()}
    assert len(set(sets.values())) == len(sets), sets
