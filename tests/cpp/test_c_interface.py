"""The C interface by ctypes: answers, statuses and messages, and several threads at once."""

import ctypes
import json
import threading
from pathlib import Path

import numpy as np
import pytest

import trtbert
from tests.tiny_tokenizers import SENTENCES
from trtbert.tasks import Task
from trtbert.version import __version__

OK, INPUT, UNSUPPORTED = 0, 2, 3


@pytest.fixture(scope="module")
def library(runner: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(runner / "cpp/libtrtbert_runner.so"))
    for name in ("trtbert_version", "trtbert_error", "trtbert_task"):
        getattr(library, name).restype = ctypes.c_char_p
    library.trtbert_task.argtypes = library.trtbert_free.argtypes = [ctypes.c_void_p]
    library.trtbert_predict.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.POINTER(ctypes.c_void_p)]
    library.trtbert_free_text.argtypes = library.trtbert_free_values.argtypes = [ctypes.c_void_p]
    library.trtbert_embed.argtypes = [
        ctypes.c_void_p,
        ctypes.POINTER(ctypes.c_char_p),
        ctypes.c_size_t,
        ctypes.POINTER(ctypes.POINTER(ctypes.c_float)),
        ctypes.POINTER(ctypes.c_size_t),
    ]
    return library


def _load(library: ctypes.CDLL, package: Path) -> ctypes.c_void_p:
    predictor = ctypes.c_void_p()
    assert library.trtbert_load(str(package).encode(), 1, ctypes.byref(predictor)) == OK, library.trtbert_error()
    return predictor


def _predict(library: ctypes.CDLL, predictor: ctypes.c_void_p, request: bytes) -> bytes:
    answer = ctypes.c_void_p()
    assert library.trtbert_predict(predictor, request, ctypes.byref(answer)) == OK, library.trtbert_error()
    text = ctypes.string_at(answer.value or 0)
    library.trtbert_free_text(answer)
    return text


def test_embeddings(library: ctypes.CDLL, packages: dict[Task, Path]) -> None:
    predictor, width, values = _load(library, packages["sentence-similarity"]), ctypes.c_size_t(), ctypes.POINTER(ctypes.c_float)()
    texts = (ctypes.c_char_p * len(SENTENCES))(*(text.encode() for text in SENTENCES))
    assert library.trtbert_embed(predictor, texts, len(SENTENCES), ctypes.byref(values), ctypes.byref(width)) == OK
    actual = np.ctypeslib.as_array(values, (len(SENTENCES), width.value)).copy()
    library.trtbert_free_values(values)
    library.trtbert_free(predictor)
    np.testing.assert_array_equal(actual, trtbert.load(packages["sentence-similarity"], threads=1).encode(SENTENCES))


def test_statuses_and_messages(library: ctypes.CDLL, packages: dict[Task, Path]) -> None:
    assert library.trtbert_version().decode() == __version__
    predictor = ctypes.c_void_p()
    assert library.trtbert_load(b"/no/such/folder", 0, ctypes.byref(predictor)) == INPUT and predictor.value is None
    assert b"there is no such folder" in library.trtbert_error()
    for name in (b"x" * 300, b"x" * 5000):
        assert library.trtbert_load(name, 0, ctypes.byref(predictor)) == INPUT and b"no such folder" in library.trtbert_error()
    assert library.trtbert_load(None, 0, ctypes.byref(predictor)) == INPUT
    assert library.trtbert_error() == b"The argument folder is NULL."
    assert library.trtbert_load(b"x", -1, ctypes.byref(predictor)) == INPUT
    assert library.trtbert_error() == b"threads must be 0 or more, got -1."

    predictor = _load(library, packages["text-classification"])
    assert library.trtbert_error() == b""
    assert library.trtbert_task(predictor) == b"text-classification"
    answer, width, values = ctypes.c_void_p(), ctypes.c_size_t(), ctypes.POINTER(ctypes.c_float)()
    assert library.trtbert_predict(predictor, b"{", ctypes.byref(answer)) == INPUT
    assert b"The request is no JSON" in library.trtbert_error()
    assert library.trtbert_predict(predictor, b'{"inputs": ' + b"[" * 200_000, ctypes.byref(answer)) == INPUT
    assert b"nested deeper than 32 levels. Send" in library.trtbert_error()
    texts = (ctypes.c_char_p * 1)(b"a")
    assert library.trtbert_embed(predictor, texts, 1, ctypes.byref(values), ctypes.byref(width)) == UNSUPPORTED
    assert b"compiled for text-classification, not for sentence-similarity" in library.trtbert_error()
    library.trtbert_free(predictor)
    library.trtbert_free(None)


def test_no_predictor(library: ctypes.CDLL) -> None:
    answer, width, values = ctypes.c_void_p(), ctypes.c_size_t(), ctypes.POINTER(ctypes.c_float)()
    texts = (ctypes.c_char_p * 1)(b"a")
    assert library.trtbert_task(None) is None
    assert library.trtbert_error() == b"The argument predictor is NULL."
    assert library.trtbert_predict(None, b"{}", ctypes.byref(answer)) == INPUT
    assert library.trtbert_embed(None, texts, 1, ctypes.byref(values), ctypes.byref(width)) == INPUT


def test_threads_share_a_predictor(library: ctypes.CDLL, packages: dict[Task, Path]) -> None:
    predictor = _load(library, packages["text-classification"])
    requests = [json.dumps({"inputs": [text] * 3, "options": {"top_k": 3}}).encode() for text in SENTENCES]
    expected = [_predict(library, predictor, request) for request in requests]
    wrong: list[bytes] = []

    def work() -> None:
        for _ in range(5):
            for request, answer in zip(requests, expected, strict=True):
                if (found := _predict(library, predictor, request)) != answer:
                    wrong.append(found)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    library.trtbert_free(predictor)
    assert len(set(expected)) > 1 and not wrong
