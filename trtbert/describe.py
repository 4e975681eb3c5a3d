"""A package -> the lines that `trtbert compile` and `trtbert inspect` print; needs nothing but the plain install."""

from trtbert.package import Package, Verification


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
        *sorted({f"lowered {item.op} -> {item.lowering}" for item in manifest.lowerings}),
        *(f"note   {note}" for note in manifest.notes),
    ]
    return lines + figure_lines(manifest.verification)


def figure_lines(verification: Verification) -> list[str]:
    """The figures of each verified stage, and what was not verified."""
    lines = [f"verified on {verification.num_texts} texts in {verification.num_batches} batches:"]
    for stage in verification.stages:
        labels = "" if stage.label_agreement is None else f"  labels {stage.label_agreement:.2%}"
        lines.append(f"  {stage.stage:<10} error {stage.max_error:.1e}  cosine {stage.cosine:.6f}{labels}")
    return lines + [f"  not verified: {what}" for what in verification.unverified]
