"""A mutant -> the library of a variant with it: only the kernels that include the changed file are compiled again."""

import json
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from plugins.tools.emulated_build import ROOT, VARIANTS, Build
from plugins.tools.mutation_check.mutant import Mutant

PLUGINS = ROOT / "plugins"
OPS = {
    "gelu": "fused_bias_gelu",
    "skip": "fused_skip_layer_norm",
    "embed": "fused_embed_layer_norm",
    "attention": "fused_qkv_attention",
}
"""As tests/plugins/quick.py and tests/plugins/driver name them."""
OPTIMISATION = {"plain": "-O1", "address": "-O0", "thread": "-O1"}
"""What is compiled once for one run is not worth the time of -O2; AddressSanitizer's own code takes longest to optimise."""


class StaleMutant(Exception):
    """The text that a mutant replaces is no longer there exactly once."""


@dataclass(frozen=True)
class Sources:
    """A copy of plugins/ with one bug in it."""

    folder: Path
    mutant: Mutant


def mutated_sources(mutant: Mutant, folder: Path) -> Sources:
    text = (PLUGINS / mutant.file).read_text()
    found = text.count(mutant.old)
    if found != 1:
        raise StaleMutant(f"{mutant.name}: the text to replace occurs {found} times in plugins/{mutant.file}, not once: {mutant.old!r}")
    for part in ("common", "kernels", "emulation"):
        shutil.copytree(PLUGINS / part, folder / part)
    shutil.copy(PLUGINS / "capi.h", folder)
    (folder / mutant.file).write_text(text.replace(mutant.old, mutant.new))
    return Sources(folder, mutant)


def mutated_library(sources: Sources, variant: str, build: Build) -> Path:
    """The path of libtrtbert_kernels.so; CalledProcessError, with what the compiler said, where the mutant does not compile."""
    objects = []
    for entry in json.loads(build.compile_commands.read_text()):
        command = shlex.split(entry["command"])
        compiled = Path(entry["directory"], command[command.index("-o") + 1])
        if not compiled.is_relative_to(build.folder / "plugins"):
            continue  # the driver's
        is_changed = Path(entry["file"]).suffix == ".cu" and PLUGINS / sources.mutant.file in _included(compiled)
        objects.append(_compiled(sources, command, variant) if is_changed else compiled)
    library = sources.folder / variant / build.library.name
    library.parent.mkdir(exist_ok=True)
    exports = f"-Wl,--version-script={PLUGINS / 'exports.map'}"
    _run("g++", "-shared", *shlex.split(VARIANTS[variant]), f"-Wl,-soname,{library.name}", exports, *objects, "-o", library)
    return library


def changed_ops(mutant: Mutant, build: Build) -> list[str]:
    """Those whose kernel includes the changed file."""
    folder = build.folder / "plugins/CMakeFiles/trtbert_kernel_objects.dir/kernels"
    return [op for op, kernel in OPS.items() if PLUGINS / mutant.file in _included(folder / f"{kernel}.cu.o")]


def _included(compiled: Path) -> set[Path]:
    """All files of a compiled one, as its compiler noted them."""
    return {Path(word) for word in compiled.with_name(compiled.name + ".d").read_text().split()[1:]}


def _compiled(sources: Sources, command: list[str], variant: str) -> Path:
    """The object that the command makes, of the mutant's sources."""
    kept = [word for word in command if word != "-Werror" and not re.fullmatch(r"-O\d", word)]
    words = [re.sub(f"^(-I)?{re.escape(str(PLUGINS))}", lambda found: (found[1] or "") + str(sources.folder), word) for word in kept]
    target = sources.folder / f"{Path(words[-1]).stem}-{variant}.o"
    words[words.index("-o") + 1] = str(target)
    _run(*words, OPTIMISATION[variant])
    return target


def _run(*command: str | Path) -> None:
    subprocess.run(command, capture_output=True, text=True, check=True)
