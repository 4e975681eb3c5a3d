"""A prepared graph -> the engine of its runtime in the package folder, or a build kit where the GPU to build it with is missing."""

import importlib.util
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import onnx_ir as ir

from trtbert.builders import openvino, ort, speed, trt
from trtbert.builders.files import data_file, save_onnx
from trtbert.builders.lowering import lower_for_tensorrt, with_query_axis
from trtbert.builders.packing import pack
from trtbert.builders.plugin_library import SOURCES, copy_library, copy_sources
from trtbert.builders.plugins import PLUGIN, lower_for_plugins, with_bodies
from trtbert.builders.targets import MODULES, check_available
from trtbert.config import LoweringName, Precision
from trtbert.errors import MissingRuntimeError, PackageError, UnsupportedError
from trtbert.package import Lowering, Manifest, ModelFacts, Packing, PluginLibrary, staged, write_package
from trtbert.runtime import Runtime
from trtbert.runtime.openvino import OpenVinoRuntime
from trtbert.runtime.ort import VERSION as ORT_VERSION
from trtbert.runtime.ort import OrtRuntime
from trtbert.runtime.plugins import ENVIRONMENT, checked_library, find_library
from trtbert.verification import starts_with_padding
from trtbert.verifier import Verifier

HALF: dict[Precision, Literal["fp16", "bf16"] | None] = {"fp32": None, "fp16": "fp16", "bf16": "bf16", "int8": "fp16"}
"""The floats of a GPU's graph. Beside INT8 they are FP16: Turing has no FP32 GEMM in TensorRT-RTX."""
KIT_SUFFIX = ".build-kit"
UNVERIFIED_LEFT = "texts that start with padding: the head reads the first position, which is then not computed"
UNVERIFIED_ON_GPU = ("the answers on the GPU itself: trtbert verify PKG MODEL on a machine that has it",)


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What the stages before the build give."""

    model: ir.Model
    manifest: Manifest
    """All but the engine and what became of its nodes."""
    lowering: LoweringName
    is_packed: bool
    verifier: Verifier


def build_engine(prepared: Prepared, folder: Path, output: Path, *, is_raced: bool) -> Manifest:
    """Build the engine into `folder`, which becomes `output`, and verify it; gives the whole manifest.

    `is_raced`: build it for ONNX Runtime and for OpenVINO, and keep the faster one.
    """
    manifest = prepared.manifest
    if is_raced and importlib.util.find_spec(MODULES["openvino"]) is not None:
        return _build_faster(prepared, folder)
    if manifest.runtime in _CPU_BUILDERS:
        return _verified(prepared, _CPU_BUILDERS[manifest.runtime](prepared, folder), folder)
    return _build_trt(prepared, folder, output)


def _build_faster(prepared: Prepared, folder: Path) -> Manifest:
    chosen: str = prepared.manifest.runtime
    built, times, notes = dict[str, Manifest](), dict[str, dict[str, float]](), prepared.manifest.notes
    try:
        for runtime, build in _CPU_BUILDERS.items():
            (folder / runtime).mkdir()
            built[runtime] = build(prepared, folder / runtime)
        raced = _race(prepared.manifest.model, {runtime: folder / runtime / str(manifest.engine) for runtime, manifest in built.items()})
        chosen, times = raced.name, raced.milliseconds
    except UnsupportedError as error:  # of OpenVINO: the default is built already, or there is nothing to fall back on
        if chosen not in built:
            raise
        notes = (*notes, f"OpenVINO was not compared: {error}")
    for file in (folder / chosen).iterdir():
        file.rename(folder / file.name)
    for runtime in _CPU_BUILDERS:
        shutil.rmtree(folder / runtime, ignore_errors=True)
    return _verified(prepared, built[chosen].model_copy(update={"raced": times, "notes": notes}), folder)


def _race(model: ModelFacts, engines: dict[str, Path]) -> speed.Speed:
    return speed.fastest(engines, [tensor.name for tensor in model.inputs], model.tokenizer.vocab_size, model.max_length)


def _verified(prepared: Prepared, manifest: Manifest, folder: Path) -> Manifest:
    """The engine as a CPU runs it; ONNX Runtime's CUDA provider is verified on the CPU's."""
    path = folder / str(manifest.engine)
    try:
        engine: Runtime = OpenVinoRuntime(path) if manifest.runtime == "openvino" else OrtRuntime(path)
    except PackageError as error:
        raise UnsupportedError(f"{manifest.runtime} built this graph and cannot run it: {error} Use another --runtime.") from error
    prepared.verifier.check_runner("build", engine.run, precision=manifest.precision)
    unverified = () if manifest.target == "cpu" else UNVERIFIED_ON_GPU
    return manifest.model_copy(update={"verification": prepared.verifier.verification(unverified)})


def _build_ort(prepared: Prepared, folder: Path) -> Manifest:
    manifest, path = prepared.manifest, folder / "model.onnx"
    built = ort.build(prepared.model, path, target=manifest.target)
    return _with_engine(manifest, built, versions={"onnxruntime": ORT_VERSION})


def _build_openvino(prepared: Prepared, folder: Path) -> Manifest:
    built = openvino.build(prepared.model, folder / "model.xml")
    return _with_engine(prepared.manifest, built, versions=built.versions).model_copy(update={"runtime": "openvino"})


def _with_engine(manifest: Manifest, built: ort.BuiltOrt | openvino.BuiltOpenVino, *, versions: dict[str, str]) -> Manifest:
    return manifest.model_copy(
        update={
            "engine": built.path.name,
            "versions": manifest.versions | versions,
            "lowerings": built.lowerings,
            "profiles": (),  # the engine takes every shape
        }
    )


_CPU_BUILDERS = {"onnxruntime": _build_ort, "openvino": _build_openvino}
"""The first is the default, which the others have to beat."""


def _build_trt(prepared: Prepared, folder: Path, output: Path) -> Manifest:
    """The engine, or the build kit beside `output` and the error that names it, where no engine can be built here."""
    manifest = _lowered(prepared, folder)
    try:
        return finish_kit(manifest, folder)
    except MissingRuntimeError as error:
        if manifest.runtime != "tensorrt":
            raise
        kit = output.with_name(output.name + KIT_SUFFIX)
        _write_kit(folder, manifest, kit)
        raise MissingRuntimeError(
            "\n".join(
                [
                    str(error),
                    *(f"Note: {note}" for note in manifest.notes),
                    f"The build kit {kit} holds everything else. On a machine with that GPU and TensorRT: {_steps(manifest, kit, output)}",
                ]
            )
        ) from error


def _lowered(prepared: Prepared, folder: Path) -> Manifest:
    """Save the graph that TensorRT reads, verified, and the plugin library where it has plugins and there is one here."""
    manifest, verifier, precision, path = prepared.manifest, prepared.verifier, prepared.manifest.precision, folder / "model.onnx"
    model, packing = prepared.model, None
    unverified: tuple[str, ...] = UNVERIFIED_ON_GPU
    if prepared.is_packed:
        packed = pack(model)
        model, packing = packed.model, Packing(takes_left_padding=packed.takes_left_padding)
        if not packing.takes_left_padding:
            verifier.leave_out(starts_with_padding)
            unverified = (UNVERIFIED_LEFT, *unverified)
    lower = lower_for_plugins if prepared.lowering == PLUGIN else lower_for_tensorrt
    lowered, lowerings = lower(model, manifest.target)
    exceptions = _without_plugin(lowerings) if prepared.lowering == PLUGIN else ()
    runnable = with_query_axis(with_bodies(lowered))
    verifier.check("build", lowered, precision=precision, runnable=runnable, is_half=HALF[precision] is not None)
    save_onnx(lowered, path)
    return manifest.model_copy(
        update={
            "onnx": path.name,
            "lowerings": lowerings,
            "plugins": _library(lowerings, manifest, folder),
            "packing": packing,
            "notes": manifest.notes + exceptions,
            "verification": verifier.verification(unverified),
        }
    )


def _without_plugin(lowerings: tuple[Lowering, ...]) -> tuple[str, ...]:
    """What to tell of the fused nodes that no plugin took; raises UnsupportedError where none took any."""
    counts = Counter((lowering.op, lowering.reason, lowering.lowering) for lowering in lowerings if lowering.reason is not None)
    told = tuple(f"{op} x {num} is no plugin but {lowering}: {reason}" for (op, reason, lowering), num in counts.items())
    if sum(counts.values()) == len(lowerings):
        details = "\n  ".join(told) or "the model has no fused node"
        raise UnsupportedError(f"--lowering plugin: no plugin takes any node of this model; use --lowering native.\n  {details}")
    return told


def _library(lowerings: tuple[Lowering, ...], manifest: Manifest, folder: Path) -> PluginLibrary | None:
    """The plugin library, copied into `folder`; None where no node needs it, or there is none here."""
    is_needed = any(lowering.lowering == PLUGIN for lowering in lowerings)
    return copy_library(manifest.target, folder) if is_needed and find_library(manifest.target) is not None else None


def _write_kit(folder: Path, manifest: Manifest, kit: Path) -> None:
    with staged(kit, True) as kit_folder:
        for file in filter(Path.is_file, folder.iterdir()):
            shutil.copyfile(file, kit_folder / file.name)
        if _lacks_library(manifest):
            copy_sources(kit_folder)
        write_package(kit_folder, manifest)


def _steps(manifest: Manifest, kit: Path, output: Path) -> str:
    """The commands that make a package of a build kit."""
    build = f"trtbert build {kit} -o {output}"
    if not _lacks_library(manifest):
        return build
    sources = kit / SOURCES
    return f"build the plugin library from {sources} (plugins/README.md there says how), set {ENVIRONMENT} to it, then {build}"


def _lacks_library(manifest: Manifest) -> bool:
    return manifest.plugins is None and any(lowering.lowering == PLUGIN for lowering in manifest.lowerings)


def finish_kit(manifest: Manifest, folder: Path) -> Manifest:
    """Build model.plan from the ONNX file in `folder`, which is then removed, and so are the sources of a plugin library."""
    assert manifest.onnx is not None
    check_available(manifest.target, manifest.runtime)
    library = copy_library(manifest.target, folder) if _lacks_library(manifest) else manifest.plugins
    plan, path = folder / "model.plan", folder / manifest.onnx
    built = trt.build(
        path,
        plan,
        runtime=manifest.runtime,
        target=manifest.target,
        precision=manifest.precision,
        profiles=manifest.profiles,
        max_length=manifest.model.max_length,
        plugins=None if library is None else checked_library(library, manifest.target, folder),
    )
    path.unlink()
    data_file(path).unlink(missing_ok=True)
    shutil.rmtree(folder / SOURCES, ignore_errors=True)
    shutil.copyfile(built.log, folder / "build.log")
    built.log.unlink()
    return manifest.model_copy(
        update={
            "engine": plan.name,
            "onnx": None,
            "plugins": library,
            "versions": manifest.versions | built.versions,
            "compute_capability": manifest.target,
        }
    )
