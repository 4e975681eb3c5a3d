"""TensorRT's calibration cache: its bytes, its round trip, and every cache that is refused."""

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trtbert.calibrate.cache import Identity, read_cache, read_details, write_cache
from trtbert.errors import InputError
from trtbert.version import __version__

IDENTITY = Identity(model="a" * 64, data="b" * 64, tokenizer="c" * 64, method="entropy")
THRESHOLDS = {"pooler input": 127.0, "(Unnamed Layer* 48) [Constant]_output": 1.27, "a: b: 3f800000": 63.5, "/encoder/é": 1e-30}
HEADER = "TRT-100300-EntropyCalibration2\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "calibration.cache"
    write_cache(path, THRESHOLDS, IDENTITY)
    return path


def change_sidecar(path: Path, **fields: object) -> None:
    sidecar = Path(f"{path}.json")
    sidecar.write_text(json.dumps(json.loads(sidecar.read_text()) | fields))


def forge(path: Path, content: str | bytes) -> None:
    """Put another cache in place, with a sidecar that says it is right."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    change_sidecar(path, cache=hashlib.sha256(path.read_bytes()).hexdigest())


def refusal(path: Path, identity: Identity = IDENTITY) -> str:
    with pytest.raises(InputError) as caught:
        read_cache(path, identity)
    message = str(caught.value)
    assert str(path) in message
    assert message.endswith("Calibrate again without the cache.")
    return message


def test_the_bytes_of_a_cache(tmp_path: Path) -> None:
    path = tmp_path / "cache"
    write_cache(path, {"pooler input": 127.0, "b": 254.0, "c": 0.1 * 127}, IDENTITY)
    assert path.read_bytes() == b"TRT-100300-EntropyCalibration2\npooler input: 3f800000\nb: 40000000\nc: 3dcccccd\n"
    assert json.loads(Path(f"{path}.json").read_text()) == {
        "format": 1,
        "model": "a" * 64,
        "data": "b" * 64,
        "tokenizer": "c" * 64,
        "method": "entropy",
        "trtbert": __version__,
        "cache": hashlib.sha256(path.read_bytes()).hexdigest(),
        "task": "",
        "details": {},
        "details_sha256": hashlib.sha256(b"{}").hexdigest(),
    }
    assert sorted(file.name for file in tmp_path.iterdir()) == ["cache", "cache.json"]


def test_altered_details_are_refused(tmp_path: Path) -> None:
    write_cache(tmp_path / "cache", {"x": 1.0}, IDENTITY, details={"scale": 1.0})
    change_sidecar(tmp_path / "cache", details={"scale": -1.0})
    with pytest.raises(InputError, match=r"cache\.json was altered: its details have another sha256"):
        read_details(tmp_path / "cache", IDENTITY)


def test_details_come_back_for_the_same_model_whatever_the_texts(tmp_path: Path) -> None:
    write_cache(tmp_path / "cache", {"x": 1.0}, IDENTITY, details={"kept": ["a"], "error": 0.1})
    asked = replace(IDENTITY, data=None, method=None)
    assert read_details(tmp_path / "cache", asked) == {"kept": ["a"], "error": 0.1}
    with pytest.raises(InputError, match="another model made it"):
        read_details(tmp_path / "cache", replace(asked, model="e" * 64))


def test_the_version_of_tensorrt_is_in_the_first_line(tmp_path: Path) -> None:
    write_cache(tmp_path / "cache", {}, IDENTITY, tensorrt_version="8601")
    assert (tmp_path / "cache").read_bytes() == b"TRT-8601-EntropyCalibration2\n"
    assert read_cache(tmp_path / "cache", IDENTITY) == {}


def test_names_may_hold_spaces_and_colons(path: Path) -> None:
    assert list(read_cache(path, IDENTITY)) == list(THRESHOLDS)


def test_scales_come_back_exactly(tmp_path: Path) -> None:
    path, generator = tmp_path / "cache", np.random.default_rng(0)
    amax = np.exp(10 * generator.normal(size=2000)).astype(np.float32)
    write_cache(path, {f"t{i}": float(value) for i, value in enumerate(amax)}, IDENTITY)
    found = read_cache(path, IDENTITY)
    scales = (amax.astype(np.float64) / 127).astype(np.float32)
    assert np.array_equal((np.array(list(found.values())) / 127).astype(np.float32), scales)
    np.testing.assert_allclose(list(found.values()), amax, rtol=2**-24)
    before = path.read_bytes()
    write_cache(path, found, IDENTITY)
    assert path.read_bytes() == before
    assert read_cache(path, IDENTITY) == found


@pytest.mark.parametrize("scale", [2.0**-149, 1.0, float(np.finfo(np.float32).max)])
def test_the_ends_of_float32_fit(scale: float, tmp_path: Path) -> None:
    write_cache(tmp_path / "cache", {"x": scale * 127}, IDENTITY)
    assert read_cache(tmp_path / "cache", IDENTITY) == {"x": scale * 127}


@pytest.mark.parametrize("field", ["model", "data", "tokenizer", "method", "trtbert"])
def test_a_cache_of_another_origin_is_refused(field: str, path: Path) -> None:
    message = refusal(path, replace(IDENTITY, **{field: "other"}))
    was = getattr(IDENTITY, field)
    assert message == (
        f"{path} does not belong to this calibration, another {field} made it:\n"
        f"  {field}: expected other, the cache has {was}\nCalibrate again without the cache."
    )


def test_all_that_differs_is_told(path: Path) -> None:
    message = refusal(path, replace(IDENTITY, model="other", trtbert="9.9"))
    assert "another model, trtbert made it" in message
    assert f"model: expected other, the cache has {'a' * 64}" in message
    assert f"trtbert: expected 9.9, the cache has {__version__}" in message


def test_a_cache_without_a_sidecar_is_refused(path: Path) -> None:
    Path(f"{path}.json").unlink()
    message = refusal(path)
    assert message.startswith(f"{path}.json is missing, so nothing says which model {path} belongs to")
    assert "one that TensorRT wrote has none" in message


def test_an_altered_cache_is_refused(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"3f800000", b"3f800001"))
    assert f"{path} was altered: its sha256 is not the one in {path}.json." in refusal(path)


def test_a_missing_cache_is_refused(path: Path) -> None:
    path.unlink()
    assert f"The calibration cache {path} cannot be read: No such file or directory." in refusal(path)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "file: Invalid JSON"),
        ("[]", "file: Input should be an object"),
        ("{}", "cache: Field required"),
        ('{"format": 2}', "format: Input should be 1"),
        ('{"more": 1}', "more: Extra inputs are not permitted"),
    ],
)
def test_a_sidecar_that_is_none_is_refused(content: str, problem: str, path: Path) -> None:
    Path(f"{path}.json").write_text(content)
    message = refusal(path)
    assert f"{path}.json does not describe a calibration cache:\n" in message
    assert problem in message


@pytest.mark.parametrize("first_line", ["", "x: 3f800000", "TRT-8601-MinMaxCalibration", "TRT-x-EntropyCalibration2", HEADER[:-1] + " "])
def test_a_wrong_first_line_is_refused(first_line: str, path: Path) -> None:
    forge(path, f"{first_line}\nx: 3f800000\n")
    assert f"its first line is {first_line!r}, and not TRT-VERSION-EntropyCalibration2." in refusal(path)


@pytest.mark.parametrize(
    "line", ["", "x", "x:3f800000", ": 3f800000", "x: 3f80000", "x: 3f8000000", "x: 3f80000g", "x: 3f800000 ", "x: 1.0"]
)
def test_a_malformed_line_is_refused(line: str, path: Path) -> None:
    forge(path, f"{HEADER}w: 3f800000\n{line}\ny: 3f800000\n")
    assert f"Line 3 of {path} is {line!r}, and not a name, a colon, a space and 8 hex digits." in refusal(path)


@pytest.mark.parametrize(
    ("digits", "scale"), [("00000000", "0.0"), ("80000000", "-0.0"), ("bf800000", "-1.0"), ("7f800000", "inf"), ("7fc00000", "nan")]
)
def test_a_scale_that_is_none_is_refused(digits: str, scale: str, path: Path) -> None:
    forge(path, f"{HEADER}x: {digits}\n")
    assert f"Line 2 of {path} gives 'x' the scale {scale}; a scale is finite and above 0." in refusal(path)


def test_a_second_scale_is_refused(path: Path) -> None:
    forge(path, f"{HEADER}x: 3f800000\ny: 3f800000\nx: 3f800000\n")
    assert f"Line 4 of {path} gives 'x' a second scale." in refusal(path)


def test_what_is_no_text_is_refused(path: Path) -> None:
    forge(path, HEADER.encode() + b"\xff: 3f800000\n")
    assert f"{path} is no calibration cache: it is not UTF-8 text" in refusal(path)


@pytest.mark.parametrize("amax", [0.0, -1.0, float("inf"), float("nan"), 1e300, 1e-300])
def test_a_threshold_that_does_not_fit_is_not_written(amax: float, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot hold the threshold .* of 'x': its scale is to be finite and above 0"):
        write_cache(tmp_path / "cache", {"x": amax}, IDENTITY)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["", "two\nlines"])
def test_a_name_that_does_not_fit_is_not_written(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot hold a tensor named .*: a name is one line\. Rename the tensor"):
        write_cache(tmp_path / "cache", {name: 1.0}, IDENTITY)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("version", ["", "10.3.0", "100300\n"])
def test_a_version_that_is_no_number_is_not_written(version: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is no version of TensorRT; give a number like 100300 for 10\.3\.0"):
        write_cache(tmp_path / "cache", {}, IDENTITY, tensorrt_version=version)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["cache", "cache.json"])
def test_a_write_that_fails_leaves_what_was_there(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "cache"
    write_cache(path, {"x": 1.0}, IDENTITY)
    before, rename = (tmp_path / name).read_bytes(), os.replace

    def fail(source: Path, target: Path) -> None:
        if Path(target).name == name:
            raise OSError(28, "No space left on device")
        rename(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(InputError, match=rf"{name} cannot be written: No space left on device\. Choose another path"):
        write_cache(path, {"x": 2.0}, IDENTITY)
    assert (tmp_path / name).read_bytes() == before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["cache", "cache.json"]
    if name == "cache.json":
        assert "was altered" in refusal(path)


@pytest.mark.parametrize("path", ["missing/cache", "file/cache", "folder"])
def test_a_path_that_cannot_be_written(path: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=r"cannot be written: .*Choose another path for the calibration cache"):
        write_cache(tmp_path / path, {"x": 1.0}, IDENTITY)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "folder"]
