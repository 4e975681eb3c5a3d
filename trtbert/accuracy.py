"""Graphs -> the points that an accuracy budget counts: a metric on labelled examples, else fidelity to the float model."""

import hashlib
import tempfile
from pathlib import Path

import onnx_ir as ir
from tokenizers import Encoding

from trtbert.builders import ort
from trtbert.calibration_texts import CalibrationTexts, as_the_task_reads, draw
from trtbert.config import CompileConfig, Metric
from trtbert.data import Example, read_examples, read_texts
from trtbert.errors import ConfigError, InputError
from trtbert.evaluation import evaluate, metric_for
from trtbert.fidelity import Fidelity
from trtbert.metrics import METRICS
from trtbert.package import ModelFacts
from trtbert.predictor.encoder import Encoder
from trtbert.predictor.tokens import load_tokenizer, tokenize
from trtbert.runtime.ort import OrtRuntime

FIDELITY: Metric = "fidelity"
_MAX_FIDELITY_TEXTS = 2000
_MAX_FIDELITY_FEATURES = 100
"""Texts of feature-extraction: what the float model answers is kept, here for every token."""


class Judge:
    """Scores graphs: by a metric on the user's labelled examples, else by their fidelity to the float model."""

    def __init__(self, model: ir.Model, facts: ModelFacts, tokenizer: Path, config: CompileConfig, texts: CalibrationTexts) -> None:
        self._facts, self._tokenizer = facts, tokenizer
        self.metric, self._examples = _metric_and_examples(facts, config)
        self._fidelity: Fidelity | None = None
        if self.metric == FIDELITY:
            encoder = self._encoder(model)
            encodings = texts.held_back if config.eval_data is None else _tokenized(config.eval_data, tokenizer, facts, config)
            self._fidelity = Fidelity(encoder, encodings)
            self.num_examples, self.float_score = len(encodings), 100.0
        else:
            self.num_examples, self.float_score = len(self._examples), self.score(model)
            if not self.float_score > 0.0:
                raise InputError(
                    f"The float model itself reaches {self.float_score:.2f} of {self.metric} on {config.eval_data}, so that nothing can be "
                    "said of INT8. Are the labels those of this model, and is there more than one?"
                )

    @property
    def examples_sha256(self) -> str:
        """Of all that it scores on."""
        examples = self._examples if self._fidelity is None else [encoding.ids for encoding in self._fidelity.encodings]
        return hashlib.sha256(repr(examples).encode(errors="surrogatepass")).hexdigest()

    def score(self, model: ir.Model) -> float:
        encoder = self._encoder(model)
        return self._fidelity.percent(encoder) if self._fidelity is not None else evaluate(encoder, self._examples, self.metric)

    def _encoder(self, model: ir.Model) -> Encoder:
        """The graph as ONNX Runtime runs it on this CPU."""
        with tempfile.TemporaryDirectory() as folder:
            built = ort.build(model, Path(folder, "model.onnx"), is_measured=False)
            return Encoder(self._facts, OrtRuntime(built.path), tokenizer=self._tokenizer)


def _metric_and_examples(facts: ModelFacts, config: CompileConfig) -> tuple[Metric, list[Example]]:
    """What `auto` means, and the labelled examples for it, none for fidelity; ConfigError for a metric that does not fit."""
    allowed, path = METRICS.get(facts.task, ()), config.eval_data
    if config.metric not in ("auto", FIDELITY, *allowed):
        raise ConfigError(f"--metric {config.metric} is none for {facts.task}; choose one of {', '.join((*allowed, FIDELITY))}.")
    if path is None and config.metric not in ("auto", FIDELITY):
        raise ConfigError(f"--metric {config.metric} needs labelled examples; give them with --eval-data FILE.")
    if path is None or config.metric == FIDELITY or path.suffix.lower() == ".txt" or not allowed:
        return FIDELITY, []
    is_number = facts.task == "text-classification" and facts.activation == "none"
    try:
        examples = read_examples(path, facts.task, labels=facts.labels, column=config.text_column, is_number=is_number)
    except InputError as error:
        is_ranker = facts.task == "text-classification" and facts.outputs[0].shape[-1] == 1
        ranker = (
            " The model was read as text-classification, of one score; if it ranks documents: --task text-ranking." if is_ranker else ""
        )
        raise InputError(f"{error} Where there are no labels: --metric fidelity.{ranker}") from error
    return metric_for(facts.task, examples) if config.metric == "auto" else config.metric, examples


def _tokenized(path: Path, tokenizer: Path, facts: ModelFacts, config: CompileConfig) -> list[Encoding]:
    """Texts of the file, cut to what the model takes."""
    size = _MAX_FIDELITY_FEATURES if facts.task == "feature-extraction" else _MAX_FIDELITY_TEXTS
    drawn, _ = draw(read_texts(path, column=config.text_column), size)
    return tokenize(load_tokenizer(tokenizer, max_length=facts.max_length), as_the_task_reads(drawn, facts.task))
