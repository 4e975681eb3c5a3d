"""The installed `tokenizers` and the modules of trtbert that answer -> a folder that Triton's own Python imports, with no pip install.

`tokenizers` is one extension module with a stable ABI (abi3): the file that runs here runs in any later Python of the same machine type.
"""

import re
import shutil
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from trtbert.errors import MissingRuntimeError

_MODULES = (
    "__init__.py",
    "data.py",
    "errors.py",
    "predictor",
    "runtime/__init__.py",
    "runtime/plugins.py",
    "tasks.py",
    "triton/__init__.py",
    "triton/tensors.py",
    "version.py",
)
"""What the model in the repository imports of trtbert, as it is; a test runs it with nothing else to import."""
_STAND_INS = ("config.py", "package.py")
_ROOT = Path(__file__).parents[1]
_IGNORED = shutil.ignore_patterns("__pycache__", "*.pyi")
_TAG = re.compile(r"^Tag: (cp3\d+-abi3-manylinux\w+)$", re.MULTILINE)


def tokenizers_tag() -> str:
    """Such as cp310-abi3-manylinux_2_17_x86_64. MissingRuntimeError where the installed one would not run in another Python."""
    try:
        tag = _TAG.search(distribution("tokenizers").read_text("WHEEL") or "")
    except PackageNotFoundError:
        tag = None
    if tag is None:
        raise MissingRuntimeError(
            "The tokenizers that is installed here is no abi3 wheel for Linux, so Triton's Python could not run it. "
            "Install the wheel of PyPI: pip install --force-reinstall --only-binary :all: tokenizers"
        )
    return tag[1]


def copy_vendored(folder: Path) -> None:
    """Write `tokenizers` and `trtbert` into the new folder `folder`."""
    shutil.copytree(Path(str(distribution("tokenizers").locate_file("tokenizers"))), folder / "tokenizers", ignore=_IGNORED)
    for name in _MODULES:
        source, target = _ROOT / name, folder / "trtbert" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=_IGNORED)
        else:
            shutil.copyfile(source, target)
    for name in _STAND_INS:
        shutil.copyfile(_ROOT / "triton" / "standins" / name, folder / "trtbert" / name)
