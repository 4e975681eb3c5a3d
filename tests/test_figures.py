"""Every place for a figure belongs to one that `make figures` measures, and the reverse."""

from pathlib import Path

import pytest
from rich.table import Table

from tests.docs import DOCS, ROOT
from tests.gpu import benchmarks

FIGURES = benchmarks.load("figures")
PLACES = benchmarks.load("places")
PAGE = "before\n\n<!-- measured on minilm: -->\n\nold\n\n<!-- end -->\n\n<!-- measured on minilm: b x -->\n<!-- end -->\n"
PRINTED = "2026-11-27; a machine\n\n| name | ms |\n| --- | --- |\n| base | 1 |\n| a | 2 |\n| b | 3 |\n"


def test_every_place_is_of_a_figure_and_every_figure_has_a_place() -> None:
    assert set(PLACES.figures_of(DOCS)) == {figure.name for figure in FIGURES.FIGURES}


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: str(page.relative_to(DOCS)))
def test_every_place_begins_and_ends(page: Path) -> None:
    text = page.read_text()
    assert text.count("<!-- measured") == text.count("<!-- end -->") == len(PLACES.PLACE.findall(text))


@pytest.mark.parametrize("figure", FIGURES.FIGURES, ids=lambda figure: figure.name)
def test_a_figure_names_a_script_and_known_folders(figure: object) -> None:
    command = f"{figure.command} {figure.more}"  # type: ignore[attr-defined]
    filled = command.format_map({"data": "data", "work": "work", "minilm": "model", **dict.fromkeys(FIGURES.MADE, "package")})
    program, script, *_ = filled.split()
    assert program == "trtbert" or (ROOT / script).is_file()


def test_places_are_filled(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    PLACES.fill(tmp_path, "another", PRINTED)
    assert page.read_text() == PAGE
    for _ in range(2):
        PLACES.fill(tmp_path, "minilm", PRINTED)
        assert page.read_text() == (
            f"before\n\n<!-- measured on minilm: -->\n\n{PRINTED}\n<!-- end -->\n\n"
            "<!-- measured on minilm: b x -->\n\n2026-11-27; a machine\n\n"
            "| name | ms |\n| --- | --- |\n| base | 1 |\n| b | 3 |\n\nNot measured yet: `x`.\n\n<!-- end -->\n"
        )


def test_a_figure_without_its_data_is_left_as_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figure = next(figure for figure in FIGURES.FIGURES if figure.name == "calibration-methods")
    pages = {page: page.read_bytes() for page in DOCS.rglob("*.md")}
    assert FIGURES.measure(figure, tmp_path, tmp_path) is False
    assert "it needs banking77/train.csv, banking77/test.csv in the folder of --data" in capsys.readouterr().err
    assert {page: page.read_bytes() for page in DOCS.rglob("*.md")} == pages


@pytest.mark.parametrize(("code", "is_filled"), [(0, True), (4, True), (1, False)])
def test_a_missed_target_is_measured_all_the_same(code: int, is_filled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "page.md").write_text(PAGE)
    (tmp_path / "script.py").write_text(f"import sys; print('seven of', sys.path[0] + '/x'); sys.exit({code})")
    monkeypatch.setattr(FIGURES, "DOCS", tmp_path)
    figure = FIGURES.Figure(name="minilm", command=f"python {tmp_path}/script.py", minutes=1)
    assert FIGURES.measure(figure, None, tmp_path) is is_filled
    shown = f"\n    $ {figure.command}\n    seven of work/x\n"  # no folder of the machine
    assert (shown in (tmp_path / "page.md").read_text()) is is_filled


def test_a_command_is_shown_with_the_names_of_its_packages() -> None:
    assert FIGURES.as_markdown("a line\n", "trtbert benchmark {minilm-fp32} {minilm-int8}") == (
        "    $ trtbert benchmark minilm-fp32 minilm-int8\n    a line\n"
    )


def test_a_figure_without_its_program_is_left_as_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figure = FIGURES.Figure(name="minilm", command="python none.py", minutes=1, program=tmp_path / "runner")
    assert FIGURES.measure(figure, None, tmp_path) is False
    assert "runner: docs/cpp.md says how it is built" in capsys.readouterr().err


def test_the_runner_and_python_take_turns() -> None:
    runner, order = benchmarks.load("runner"), list[str]()
    ways = {name: lambda name=name: order.append(name) or len(order) for name in ("C++", "predict")}
    timings = runner.time_in_turn(ways, 2)
    assert order == ["C++", "predict", "predict", "C++"]
    assert timings["predict"].rounds == [[2e3], [3e3]]
    assert "| predict | 2500.0 (2100.0-2900.0) | 1.38 |" in benchmarks.load("tables").markdown_of(runner.table("title", timings))


def test_where_trtbert_is_slower_is_told() -> None:
    """The fastest of each side, of one precision, by more than the noise."""
    race, contenders = benchmarks.load("race"), benchmarks.load("contenders")
    kinds = {"PyTorch": "torch", "ORT": "onnx", "slow": "package", "fast": "package"}
    members = [contenders.Contender(name=name, kind=kind, path=Path(name)) for name, kind in kinds.items()]

    def row(*times: float) -> dict[str, object]:
        return {name: contenders.Timing(rounds=[[time], [time]]) for name, time in zip(kinds, times, strict=True)}

    timings = {"1 x 32": row(9, 4, 8, 5), "8 x 32": row(9, 4, 8, 4.04), "1 x 128": row(3, 4, 8, 2)}
    assert list(race.find_losses(timings, members)) == ["1 x 32: fast takes 1.25 times as long as ORT"]
    assert list(race.find_losses(timings, members[:2])) == []


def test_in_a_pipe_a_table_is_markdown(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table(title="Times", caption="ms")
    table.add_column("")
    table.add_column("p50")
    table.add_row("torch [fp32]", "1.0")
    console = benchmarks.load("tables").make_console()
    console.print(table)
    console.print("[green]pass[/]  it")
    assert capsys.readouterr().out == "**Times**\n\n|  | p50 |\n| --- | --- |\n| torch [fp32] | 1.0 |\n\nms\n\npass  it\n\n"
