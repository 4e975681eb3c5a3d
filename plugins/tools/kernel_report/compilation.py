"""The .cu files of plugins/kernels -> the kernels that the compilers made of them, kept in the user's cache."""

import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from plugins.tools.kernel_report import banks, disassembly, kernel, ptxas, toolchain
from plugins.tools.kernel_report.kernel import Kernel, short_name

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trtbert" / "kernel-report"
"""Whatever checkout they are of: what is there is told by the contents of all that it was made of."""
NVCC_FLAGS = ("-std=c++17", "-lineinfo", "-Xptxas", "-v", "-Werror", "all-warnings", "-I", str(toolchain.PLUGINS))
"""-lineinfo changes no code; with it an instruction can be traced to its line."""
SM70_FLAGS = ("-gline-tables-only", "-Xcuda-ptxas", "-v")
JOBS = 2


def sources() -> list[Path]:
    return sorted((toolchain.PLUGINS / "kernels").glob("*.cu"))


def kernels(architectures: Sequence[int], files: Sequence[Path] | None = None) -> list[Kernel]:
    """Sorted by source, function, architecture and name. Raises MissingToolchain, and RuntimeError where a file does not compile."""
    tasks = [(file, architecture) for file in files or sources() for architecture in architectures]
    for architecture in architectures:
        toolchain.compiler(architecture), toolchain.nvdisasm(architecture)  # a missing one is told before the long work
    with ProcessPoolExecutor(JOBS) as pool:
        made = [one for kernels in pool.map(_kernels_of, *zip(*tasks, strict=True)) for one in kernels]
    return sorted(made, key=lambda one: (one.source, one.function, one.architecture, one.name))


def _kernels_of(file: Path, architecture: int) -> list[Kernel]:
    return [Kernel(**fields) for fields in json.loads((_made(file, architecture) / "kernels.json").read_text())]


def _made(file: Path, architecture: int) -> Path:
    """The folder of what was made of a file as it is now."""
    folder = CACHE / f"{file.stem}.sm_{architecture}"
    key = _key(file, architecture)
    key_file = folder / "key"
    if key_file.exists() and key_file.read_text() == key:
        return folder
    CACHE.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=folder.name, dir=CACHE))
    try:
        _make(file, architecture, made)
        (made / "key").write_text(key)
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return folder


def _key(file: Path, architecture: int) -> str:
    """Of all that the result depends on: the file, the headers, the modules that make a Kernel, and the compiler."""
    headers = [path for name in ("common", "kernels") for path in (toolchain.PLUGINS / name).glob("*") if path.suffix in (".h", ".cuh")]
    volta = [toolchain.PLUGINS / "sm70" / "include" / "mma.h", toolchain.PLUGINS / "scripts" / "sm70-compile"]
    modules = [Path(module.__file__ or "") for module in (banks, disassembly, kernel, ptxas, toolchain)]
    digest = hashlib.sha256(toolchain.version(architecture).encode())
    for path in [file, *sorted(headers), *(volta if architecture < 75 else []), *modules, Path(__file__)]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def compile_cubin(file: Path, architecture: int, output: Path) -> str:
    """What ptxas -v says of the kernels."""
    command = toolchain.compiler(architecture)
    if architecture < 75:
        return toolchain.run([*command, file, output, *SM70_FLAGS])
    return toolchain.run([*command, "-cubin", f"-arch=sm_{architecture}", *NVCC_FLAGS, "-o", output, file])


def _make(file: Path, architecture: int, folder: Path) -> None:
    output = folder / "kernels.cubin"
    log = compile_cubin(file, architecture, output)
    text = toolchain.run([toolchain.nvdisasm(architecture), output])
    kernels = _read(file.stem, architecture, log, text)
    _look_at_shared_memory(kernels, architecture, output)
    (folder / "kernels.json").write_text(json.dumps([dataclasses.asdict(one) for one in kernels.values()]))


def _look_at_shared_memory(kernels: dict[str, Kernel], architecture: int, cubin: Path) -> None:
    """Of attention. INT8 is looked at where it is made of FP16, whose shared memory is that of every other type."""
    chosen = {name: one for name, one in kernels.items() if one.head_size and not one.is_empty and _stands_for_all(one)}
    if not chosen:
        return
    text = toolchain.run([toolchain.nvdisasm(architecture), "-c", "-gi", cubin])
    for all_warps in (False, True):
        threads = {name: one.threads for name, one in chosen.items() if _is_power_of_two(one.head_size) != all_warps}
        for name, found in banks.conflicts(text, threads, all_warps=all_warps).items():
            kernels[name] = dataclasses.replace(kernels[name], conflicts=found.ways, untraced=found.untraced)


def _stands_for_all(one: Kernel) -> bool:
    return one.product_type != "int8" or one.types == ["fp16"]


def _is_power_of_two(number: int | None) -> bool:
    return number is not None and number.bit_count() == 1


def _read(source: str, architecture: int, log: str, text: str) -> dict[str, Kernel]:
    """By mangled name."""
    codes = disassembly.codes(text)
    resources = ptxas.resources(log)
    if set(codes) != set(resources):
        raise ValueError(f"ptxas and nvdisasm name different kernels in {source} on sm_{architecture}: {set(codes) ^ set(resources)}")
    mangled = sorted(codes)
    demangled = toolchain.run(["c++filt"], "\n".join(mangled)).splitlines()
    names = dict(zip(mangled, map(short_name, demangled), strict=True))
    return {
        name: Kernel(
            source=source,
            architecture=architecture,
            name=names[name],
            **vars(resources[name]),
            threads=code.threads,
            instructions=dict(sorted(code.instructions.items())),
        )
        for name, code in codes.items()
    }
