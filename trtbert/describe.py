"""A package -> the lines that `trtbert compile` and `trtbert inspect` print; needs nothing but the plain install."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trtbert.package import DYNAMIC, Lowering, Package, Packing, Quantization, Verification


def compression_lines(path: Path, facts: Mapping[str, Any]) -> list[str]:
    """What `trtbert compress` did, from its compression.json: size, cost and score before and after, and the notes of each step."""
    before, after = facts["before"], facts["after"]
    lines = [str(path)]
    for name in ("parameters", "macs"):
        if before[name] is None or after[name] is None:  # MACs of a family whose layers are not known
            continue
        lines.append(f"{name:<10} {before[name]:,} -> {after[name]:,} ({after[name] / before[name]:.1%})")
    scores = [name for name in after if name not in ("parameters", "macs", "layers")]
    lines += [f"{name:<10} {before[name]:.2f} -> {after[name]:.2f}" for name in scores if name in before]
    return lines + [f"note       {step['method']}: {note}" for step in facts["steps"] for note in step["notes"]]


def describe_package(package: Package) -> list[str]:
    """What the manifest says, a line for each fact."""
    manifest = package.manifest
    model = manifest.model
    layers = "" if model.num_layers is None else f", {model.num_layers} layers"
    lines = [
        f"{model.architecture}{layers}, {model.task}, up to {model.max_length} tokens",
        f"target {manifest.target}, runtime {manifest.runtime}, precision {manifest.precision}",
        "versions " + ", ".join(f"{name} {version}" for name, version in manifest.versions.items()),
        *(f"input  {tensor.name} {tensor.dtype} {list(tensor.shape)}" for tensor in model.inputs),
        *(f"output {tensor.name} {tensor.dtype} {list(tensor.shape)}" for tensor in model.outputs),
        *(f"profile batch {profile.batch_size} tokens {profile.seq_len}" for profile in manifest.profiles),
        *(f"fused  {op} x {count}" for op, count in manifest.fusions.items()),
        *(f"unfused {miss.rule} at {miss.node}: {miss.reason}" for miss in manifest.unfused),
        *sorted({f"lowered {item.op} -> {item.lowering}{_reason(item)}" for item in manifest.lowerings}),
        *([] if manifest.packing is None else [_packing(manifest.packing)]),
        *([] if manifest.plugins is None else [f"plugins {manifest.plugins.name} {manifest.plugins.version}"]),
        *(f"timed  {runtime} {_milliseconds(times)}" for runtime, times in manifest.raced.items()),
        *([] if manifest.quantization is None else _quantization(manifest.quantization)),
        *(f"note   {note}" for note in manifest.notes),
    ]
    return lines + figure_lines(manifest.verification)


def _reason(item: Lowering) -> str:
    return "" if item.reason is None else f" ({item.reason})"


def _packing(packing: Packing) -> str:
    return "packed no padding is computed inside the encoder" + (
        "" if packing.takes_left_padding else "; no text may start with padding, for the head reads the first position"
    )


def _milliseconds(times: dict[str, float]) -> str:
    return ", ".join(f"{shape} {time:.1f} ms" for shape, time in times.items())


def _quantization(facts: Quantization) -> Iterator[str]:
    """How an INT8 engine was calibrated; what each part costs, where that was measured."""
    smoothing = "smoothed" if facts.is_smoothed else "not smoothed"
    int8 = [part.part for part in facts.parts if part.is_int8]
    if facts.method == DYNAMIC:
        yield f"int8   {len(int8)} of {len(facts.parts)} parts: {', '.join(int8)}; inputs are quantised as they come"
        yield f"int8   measured on {facts.num_held_back} texts ({facts.texts}): error {facts.error:.1e}"
    else:
        yield f"int8   {len(int8)} of {len(facts.parts)} parts ({facts.preset}), thresholds by {facts.method}, {smoothing}"
        yield f"int8   calibrated on {facts.num_texts} texts ({facts.texts}); {facts.num_held_back} held back: error {facts.error:.1e}"
    if facts.budget is not None:
        budget = facts.budget
        drop = budget.float_score - budget.int8_score
        yield (
            f"int8   {budget.metric} {budget.float_score:.2f} -> {budget.int8_score:.2f} on {budget.num_examples} examples: "
            f"costs {drop:.2f} points of the {budget.max_drop:g} allowed"
        )
    for part in facts.parts:
        if part.cost is not None:
            yield f"  {'int8 ' if part.is_int8 else 'float'} {part.part:<32} cost {part.cost:.1e}"


def figure_lines(verification: Verification) -> list[str]:
    """The figures of each verified stage, and what was not verified."""
    lines = [f"verified on {verification.num_texts} texts in {verification.num_batches} batches:"]
    for stage in verification.stages:
        labels = "" if stage.label_agreement is None else f"  labels {stage.label_agreement:.2%}"
        lines.append(f"  {stage.stage:<10} error {stage.max_error:.1e}  cosine {stage.cosine:.6f} (mean {stage.mean_cosine:.6f}){labels}")
    return lines + [f"  not verified: {what}" for what in verification.unverified]
