"""Files from outside pass `zoo/reading`: whoever else loads a pickle, an array, YAML or JSON is named here, with the reason."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[3]
LOADERS = {
    *("torch.load", "load_file", "safetensors.torch.load_file", "safe_open", "json.load", "json.loads"),
    *("pickle.load", "pickle.loads", "pickle.Unpickler", "pickle._Unpickler", "np.load", "np.loadtxt", "np.genfromtxt", "np.fromfile"),
    *("yaml.load", "yaml.safe_load", "yaml.unsafe_load", "yaml.full_load", "yaml.load_all"),
}
# File -> what it calls, each of them for its reason.
ALLOWED = {
    "zoo/plain_yaml.py": {"yaml.load"},  # by a loader of its own, which makes plain values only
    "zoo/models/run_lock.py": {"json.loads"},  # the first 4096 bytes of a lock, any error of which means "another process"
    "zoo/data/sets/stl10.py": {"np.fromfile"},  # bytes as they lie, whose number is compared with the images
    "zoo/hub/upload/sending.py": {"json.loads"},  # lines of a process of our own
    "evaluation/training/log.py": {"json.loads"},  # a row that passed the gate, again, for its numbers that are none
    "evaluation/extraction/cache.py": {"json.load", "json.loads"},  # a kept description, of which only equality is asked
    "evaluation/training/supervised.py": {"json.loads"},  # of json.dumps
    "evaluation/commands/verify.py": {"json.loads"},  # of json.dumps
    "transfer/formats/pytorch.py": {"torch.load", "load_file"},  # the file that was written just now, to compare it
}


def loads(path: Path) -> set[str]:
    """The loaders that a file calls, as it spells them."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute | ast.Name):
            spelled = ast.unparse(node)
            if spelled in LOADERS or spelled.replace("numpy.", "np.", 1) in LOADERS:
                found.add(spelled)
    return found


def test_only_these_files_load_anything_themselves():
    found = {
        str(path.relative_to(ROOT)): names
        for package in ("zoo", "evaluation", "pretrain", "transfer")
        for path in sorted((ROOT / package).rglob("*.py"))
        if path.parent != ROOT / "zoo" / "reading" and (names := loads(path))
    }
    assert found == ALLOWED


def test_a_loader_is_found_wherever_it_stands(tmp_path):
    path = tmp_path / "code.py"
    path.write_text("def f(x):\n    return torch.load(x) or [numpy.load for _ in x]\nclass A(pickle.Unpickler): pass\ny = json.dumps\n")
    assert loads(path) == {"torch.load", "numpy.load", "pickle.Unpickler"}
