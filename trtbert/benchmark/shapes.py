"""Packages and the options -> the shapes that all of them take, and inputs of these shapes."""

from collections.abc import Collection, Sequence
from itertools import cycle, islice

from trtbert.benchmark.config import BenchmarkConfig
from trtbert.errors import UnsupportedError
from trtbert.package import Manifest, Package
from trtbert.predictor.tokens import load_tokenizer, make_feeds, tokenize
from trtbert.tasks import ATTENTION_MASK
from trtbert.verification import fits, texts, verification_batches
from trtbert.verify import Feeds

Shape = tuple[int, int]
"""Batch and tokens."""


def shapes_of(config: BenchmarkConfig, packages: Sequence[Package]) -> list[Shape]:
    """By length, then batch; a length is cut to what every package takes. UnsupportedError where no shape is left."""
    lengths = _lengths(config, packages)
    shapes = [(batch, length) for length in lengths for batch in config.batch_sizes if _all_take(packages, batch, length)]
    if not shapes:
        raise UnsupportedError(
            f"No shape that was asked for fits all packages: batches {_listed(config.batch_sizes)} of {_listed(config.lengths)} tokens. "
            f"{_limits(packages)} Choose others: --batch-sizes, --lengths."
        )
    return shapes


def arrival_lengths(config: BenchmarkConfig, packages: Sequence[Package]) -> list[int]:
    """Those of which a single text can be run; UnsupportedError where rates are asked for and there are none."""
    lengths = [length for length in _lengths(config, packages) if _all_take(packages, 1, length)]
    if config.rates and not lengths:
        raise UnsupportedError(
            f"--rates times single texts, of {_listed(config.lengths)} tokens, which do not fit all packages. {_limits(packages)} "
            "Leave --rates out, or choose other --lengths."
        )
    return lengths


def feeds_of(package: Package, shape: Shape) -> Feeds:
    """Real words that fill the shape, always the same ones."""
    batch, length = shape
    lines = texts()
    rows = [" ".join(islice(cycle(lines[row % len(lines) :] + lines[: row % len(lines)]), length)) for row in range(batch)]
    encodings = tokenize(load_tokenizer(package.tokenizer_path, max_length=length), rows)
    return dict(make_feeds(encodings, package.manifest.model, length=length))


def answered_feeds(packages: Collection[Package], shape: Shape) -> list[Feeds]:
    """Inputs to compare answers on: the verification batches that all packages of a source model take, else those of the shape.

    A text without a token has no answer that could be compared, and others' exports need not give a number for it.
    """
    first = next(iter(packages))
    batches = verification_batches(first.tokenizer_path, first.manifest.model)
    taken = [batch for batch in batches if batch[ATTENTION_MASK].any(1).all() and all(fits(batch, own.manifest) for own in packages)]
    return taken or [feeds_of(first, shape)]


def _lengths(config: BenchmarkConfig, packages: Sequence[Package]) -> list[int]:
    longest = min(package.manifest.model.max_length for package in packages)
    return list(dict.fromkeys(min(length, longest) for length in config.lengths))


def _all_take(packages: Sequence[Package], batch: int, length: int) -> bool:
    return all(_takes(package.manifest, batch, length) for package in packages)


def _takes(manifest: Manifest, batch: int, length: int) -> bool:
    return not manifest.profiles or any(
        p.batch_size.min <= batch <= p.batch_size.max and (p.seq_len is None or p.seq_len.min <= length <= p.seq_len.max)
        for p in manifest.profiles
    )


def _limits(packages: Sequence[Package]) -> str:
    """What the packages take that do not take everything."""
    sentences = []
    for package in packages:
        limit = package.manifest.model.max_length
        for p in package.manifest.profiles:
            tokens = f"{p.seq_len.min} to {p.seq_len.max}" if p.seq_len else f"up to {limit}"
            sentences.append(f"{package.path} takes batches of {p.batch_size.min} to {p.batch_size.max}, {tokens} tokens.")
    return " ".join(sentences)


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
