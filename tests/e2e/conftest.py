"""One copy of the tree a module, with servers on free ports that are stopped at its end."""

import shutil
from pathlib import Path

import pytest
from smoke_tree import Tree

from dualvla import stack, workspace

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tree(tmp_path_factory, free_ports):
    root = tmp_path_factory.mktemp("smoke") / "tree"
    for path in workspace.tree_files(ROOT):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, root / path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(stack.PORT_BASE, str(free_ports()))
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "PREFECT_API_URL"):
            patch.delenv(name, raising=False)
        # A copy has no git; without this DVC would look for one above the temporary folder.
        settings = (root / ".dvc" / "config").read_text()
        (root / ".dvc" / "config").write_text(
            settings.replace("[core]", "[core]\n    no_scm = true")
        )
        yield Tree(root)
        stack.down(root)
