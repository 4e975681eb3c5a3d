"""What `trtbert triton` writes and refuses; configurations are read back by Triton's own protobufs."""

import json
import os
from pathlib import Path

import pytest
from google.protobuf import text_format

import trtbert.triton.vendored as vendored
from tests.predictor.packages import make_manifest
from tests.test_cli import failure
from tests.triton.conftest import PROFILES
from tests.triton.running import PROTOBUFS, read_config, tensors
from trtbert.cli import main
from trtbert.package import Manifest, PluginLibrary, open_package, write_package
from trtbert.predictor import Predictor
from trtbert.serve.inference import _inputs, _outputs_metadata
from trtbert.serve.models import Model
from trtbert.triton.model_config import engine_config
from trtbert.triton.pbtxt import Word, to_text

Output = pytest.CaptureFixture[str]
KINDS = PROTOBUFS.ModelInstanceGroup.Kind


def test_every_model_is_whole(repository: Path, packages: dict[str, Path]) -> None:
    folders = {folder.name: read_config(folder) for folder in repository.iterdir()}
    assert set(folders) == {*packages, *(f"{name}_engine" for name in packages)}
    for name, config in folders.items():
        assert config.name == name and config.version_policy.latest.num_versions == 1
        file = "model.py" if config.backend == "python" else config.default_model_filename
        assert [version.name for version in (repository / name).iterdir() if version.is_dir()] == ["1"]
        assert (repository / name / "1" / file).is_file()


def test_nothing_leads_out_of_the_repository(repository: Path, packages: dict[str, Path]) -> None:
    files = [Path(parent, name) for parent, _, names in os.walk(repository) for name in names]
    assert not any(file.is_symlink() for file in files)
    texts = [file.read_text() for file in files if file.suffix in (".pbtxt", ".json", ".py") and file.name != "tokenizer.json"]
    machine = [str(repository.parent), *map(str, packages.values()), str(Path(vendored.__file__).parents[2])]
    assert len(texts) > 50 and not [path for path in machine for text in texts if path in text]


def test_engines_are_what_the_models_call(repository: Path, predictors: dict[str, Predictor]) -> None:
    """Names, dtypes and dimensions are those of the engine itself, and no batch that is planned exceeds max_batch_size."""
    for name, predictor in predictors.items():
        config, facts = read_config(repository / f"{name}_engine"), json.loads((repository / name / "1" / "manifest.json").read_text())
        assert (config.backend, config.max_batch_size) == ("onnxruntime", 64)
        for fields, actual, told in (
            (config.input, predictor.runtime.inputs, "inputs"),
            (config.output, predictor.runtime.outputs, "outputs"),
        ):
            expected = {tensor.name: (str(tensor.dtype), [size or -1 for size in tensor.shape[1:]]) for tensor in actual}
            assert tensors(fields) == expected and [tensor["name"] for tensor in facts["model"][told]] == list(expected)
        assert max(profile["batch_size"]["max"] for profile in facts["profiles"]) == config.max_batch_size
        assert [(group.kind, group.count) for group in config.instance_group] == [(KINDS.Value("KIND_CPU"), 1)]


def test_clients_send_and_get_what_the_server_has(repository: Path, predictors: dict[str, Predictor]) -> None:
    """The names and types of `trtbert serve`; Triton adds the axis of the batch to texts and numbers alike."""
    types = {"BYTES": "BYTES", "FP32": "float32"}
    for name, predictor in predictors.items():
        config, served = read_config(repository / name), Model(name, predictor)
        required = tensors(field for field in config.input if not field.optional)
        assert required == {column: ("BYTES", [1]) for column in _inputs(served)}
        assert {field.name for field in config.input if field.optional} == ({"text_pair"} if name == "classifier" else set())
        assert tensors(config.output) == {
            tensor["name"]: (types[tensor["datatype"]], tensor["shape"][1:] or [1]) for tensor in _outputs_metadata(served)
        }


def test_batching_of_a_cpu(repository: Path) -> None:
    config = read_config(repository / "embedder")
    batching, policy = config.dynamic_batching, config.dynamic_batching.default_queue_policy
    assert config.max_batch_size == 256 and list(batching.preferred_batch_size) == [8, 64]
    assert batching.max_queue_delay_microseconds == 0 and policy.max_queue_size == 1024
    assert PROTOBUFS.ModelQueuePolicy.TimeoutAction.Name(policy.timeout_action) == "REJECT"
    assert not read_config(repository / "embedder_engine").HasField("dynamic_batching")


def _tensorrt(model: Predictor, folder: Path, **fields: object) -> Manifest:
    folder.mkdir()
    for name in ("model.plan", "tokenizer.json", "libtrtbert_plugins.so"):
        (folder / name).write_bytes(name.encode())
    facts = {"target": "sm86", "runtime": "tensorrt", "precision": "fp16", "engine": "model.plan", "profiles": PROFILES}
    return write_package(folder, make_manifest(model.manifest.model, **facts | {"versions": {"tensorrt": "10.14.1.48"}} | fields))


def test_profiles_of_tensorrt(predictors: dict[str, Predictor], tmp_path: Path, capsys: Output) -> None:
    library = PluginLibrary(name="libtrtbert_plugins.so", version="0.1.0", sha256="0" * 64)
    _tensorrt(predictors["embedder"], tmp_path / "plan", plugins=library)
    assert main(["triton", str(tmp_path / "plan"), "-o", str(tmp_path / "repository")]) == 0
    assert "plan: text -> sentence_embedding; plan_engine needs tensorrt 10.14.1.48\n" in capsys.readouterr().out
    config, texts = (read_config(tmp_path / "repository" / name) for name in ("plan_engine", "plan"))
    assert (config.backend, config.max_batch_size, config.default_model_filename) == ("tensorrt", 16, "model.plan")
    [group] = config.instance_group
    assert (group.kind, list(group.profile)) == (KINDS.Value("KIND_GPU"), ["0", "1"])
    assert texts.max_batch_size == 64 and list(texts.dynamic_batching.preferred_batch_size) == [4, 8, 16]
    assert texts.dynamic_batching.max_queue_delay_microseconds == 500
    files = {file.name for file in (tmp_path / "repository" / "plan_engine" / "1").iterdir()}
    assert files == {"model.plan", "libtrtbert_plugins.so"}


def test_openvino_has_no_batch(predictors: dict[str, Predictor]) -> None:
    manifest = make_manifest(predictors["tagger"].manifest.model, runtime="openvino", engine="model.xml")
    config = text_format.Parse(to_text(engine_config("tagger_engine", manifest)), PROTOBUFS.ModelConfig())
    assert (config.backend, config.max_batch_size) == ("openvino", 0)
    assert {tuple(dims) for _, dims in tensors(config.input).values()} == {(-1, -1)}
    [(_, dims)] = tensors(config.output).values()
    assert dims[:2] == [-1, -1] and dims[2] > 1
    assert config.parameters["PERFORMANCE_HINT"].string_value == "LATENCY"


def test_text_is_escaped() -> None:
    name = 'a "b" \\ c\nd é 漢'
    config = text_format.Parse(to_text({"name": name, "backend": "python", "input": []}), PROTOBUFS.ModelConfig())
    assert config.name == name and not config.input
    assert to_text({"optional": True, "kind": Word("KIND_CPU")}) == "optional: true\nkind: KIND_CPU\n"


def test_overwriting(packages: dict[str, Path], tmp_path: Path, capsys: Output) -> None:
    output = tmp_path / "repository"
    command = ["triton", str(packages["embedder"]), "-o", str(output)]
    assert main(command) == 0
    capsys.readouterr()
    code, message = failure(capsys, command)
    assert code == 2 and "--force" in message
    assert main(["triton", str(packages["ranker"]), "-o", str(output), "--force"]) == 0
    assert sorted(folder.name for folder in output.iterdir()) == ["ranker", "ranker_engine"]
    (output / "notes").mkdir()
    capsys.readouterr()
    code, message = failure(capsys, [*command, "--force"])
    assert code == 2 and "was not made by trtbert" in message
    assert [path.name for path in tmp_path.iterdir()] == ["repository"]


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ({"runtime": "tensorrt-rtx"}, 3, "no backend for tensorrt-rtx"),
        ({"engine": None, "onnx": "model.plan"}, 5, "is a build kit"),
    ],
    ids=str,
)
def test_what_triton_cannot_run(
    fields: dict[str, object], code: int, words: str, predictors: dict[str, Predictor], tmp_path: Path, capsys: Output
) -> None:
    _tensorrt(predictors["embedder"], tmp_path / "plan", **fields)
    found, message = failure(capsys, ["triton", str(tmp_path / "plan"), "-o", str(tmp_path / "repository")])
    assert found == code and words in message
    assert [path.name for path in tmp_path.iterdir()] == ["plan"]


def test_names(packages: dict[str, Path], tmp_path: Path, capsys: Output) -> None:
    for name, words in (("embedder", "would both write the model 'embedder'"), ("a b", "cannot be a model's name")):
        (tmp_path / name).symlink_to(packages["embedder"])
        arguments = ["triton", str(packages["embedder"]), str(tmp_path / name), "-o", str(tmp_path / "repository")]
        code, message = failure(capsys, arguments)
        assert code == 2 and words in message
    (tmp_path / "embedder_engine").symlink_to(packages["ranker"])
    arguments = ["triton", str(packages["embedder"]), str(tmp_path / "embedder_engine"), "-o", str(tmp_path / "repository")]
    code, message = failure(capsys, arguments)
    assert code == 2 and "would both write the model" in message
    assert not (tmp_path / "repository").exists()


def test_an_altered_package(packages: dict[str, Path], predictors: dict[str, Predictor], tmp_path: Path, capsys: Output) -> None:
    _tensorrt(predictors["embedder"], tmp_path / "plan")
    (tmp_path / "plan" / "model.plan").write_bytes(b"another")
    code, message = failure(capsys, ["triton", str(tmp_path / "plan"), "-o", str(tmp_path / "repository")])
    assert code == 2 and "was altered" in message
    assert open_package(packages["embedder"]).manifest.engine == "model.onnx"


def test_a_tokenizer_of_one_python_only(packages: dict[str, Path], tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    class Built:
        def read_text(self, _: str) -> str:
            return "Wheel-Version: 1.0\nTag: cp311-cp311-linux_x86_64\n"

    assert vendored.tokenizers_tag().startswith("cp310-abi3-manylinux")
    monkeypatch.setattr(vendored, "distribution", lambda _: Built())
    code, message = failure(capsys, ["triton", str(packages["embedder"]), "-o", str(tmp_path / "repository")])
    assert code == 5 and "is no abi3 wheel" in message and not list(tmp_path.iterdir())


def test_help_ends_with_an_example(capsys: Output) -> None:
    with pytest.raises(SystemExit):
        main(["triton", "--help"])
    assert capsys.readouterr().out.endswith("example:\n  trtbert triton my-package -o model-repository\n")
