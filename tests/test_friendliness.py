"""What a new user meets: help that fits, the nearest flag after a typo, quiet pipes and Ctrl-C, every locale, completion."""

import contextlib
import errno
import os
import pty
import re
import shutil
import signal
import stat
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from tests.predictor.packages import make_task_package
from trtbert.cli import main
from trtbert.completion import SHELLS
from trtbert.errors import InputError
from trtbert.output_files import write_file

COMMANDS = ("compile", "compress", "build", "verify", "predict", "inspect", "serve", "triton", "embed", "report", "doctor", "benchmark")
Output = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_task_package(tmp_path_factory.mktemp("packages"), "text-classification", "caf\u00e9 au lait")


def _ends(capsys: Output, arguments: list[str]) -> tuple[object, str]:
    """The exit code and all that a command prints which argparse ends."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    captured = capsys.readouterr()
    return caught.value.code, captured.out + captured.err


def _run(code: str, arguments: list[str], **variables: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", code, *arguments]
    environment = {name: value for name, value in os.environ.items() if name not in ("LANG", "PYTHONUTF8", "PYTHONIOENCODING")}
    return subprocess.run(
        command, capture_output=True, encoding="utf-8", env=environment | variables, timeout=120, check=False, stdin=subprocess.DEVNULL
    )


RUN = "import sys; from trtbert.__main__ import main; sys.exit(main())"


@pytest.mark.parametrize("command", ["", *COMMANDS, "completion", "compress --search", "compress --method student"])
def test_help_fits_a_terminal(command: str, capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, text = _ends(capsys, [*command.split(), "--help"])
    assert code == 0 and "example:" in text
    assert [line for line in text.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize("command", [*COMMANDS, "completion"])
def test_every_option_is_explained(command: str, capsys: Output) -> None:
    text = _ends(capsys, [command, "--help"])[1]
    body = text[text.index("positional arguments:") if "positional arguments:" in text else text.index("options:") : text.index("example:")]
    alone = re.findall(r"^  (\S.*)\n(?! {6,}\S)", body + "\n", re.MULTILINE)
    assert [line for line in alone if "  " not in line and not line.startswith(" ")] == []


def test_choices_stand_in_the_help(capsys: Output) -> None:
    text = " ".join(_ends(capsys, ["compile", "--help"])[1].split())
    assert "--task TASK default: what the checkpoint says; one of auto, text-classification, token-classification" in text
    assert "default: ;" not in " ".join(_ends(capsys, ["embed", "--help"])[1].split())


def test_an_example_can_be_pasted(capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert "--batch-size 1 8 32 \\\n      --seq-len 1 64 256\n" in _ends(capsys, ["compile", "--help"])[1]


def test_no_command_shows_all_of_them(capsys: Output) -> None:
    code, text = _ends(capsys, [])
    assert code == 2
    assert all(f"    {command} " in text for command in COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["compil", "model", "-o", "x"], "invalid choice: 'compil'"),
        (["compil"], "did you mean 'compile'? See: trtbert --help"),
        (["--verison"], "Did you mean --version in place of --verison?"),
        (
            ["compile", "model", "-o", "x", "--taget", "cpu"],
            "unrecognized arguments: --taget cpu. Did you mean --target in place of --taget?",
        ),
        (["compile", "model", "-o", "x", "--taget=cpu"], "Did you mean --target in place of --taget?"),
        (["compile", "model", "-o", "x", "--batch_size", "1", "1", "1"], "Did you mean --batch-size in place of --batch_size?"),
        (["compile", "model", "-o", "x", "-target", "cpu"], "Did you mean --target in place of -target?"),
        (["compile", "model", "--ouput", "x"], "Did you mean --output in place of --ouput? See: trtbert compile --help"),
        (["compile", "model", "-o", "x", "--target", "sn86"], "did you mean 'sm86'?"),
        (["compile", "model", "-o", "x", "--precision", "INT8"], "did you mean 'int8'?"),
        (["predict", "package", "--jsno", "x"], "Did you mean --json in place of --jsno?"),
        (["compress", "model", "-o", "x", "--method", "heads", "--sparsty", "1"], "Did you mean --sparsity in place of --sparsty?"),
        (["compress", "model", "-o", "x", "--method", "heads", "--sparsit", "1"], "Did you mean --sparsity in place of --sparsit?"),
        (["compress", "model", "-o", "x", "--method", "heads", "--eval-dat", "x"], "Did you mean --eval-data in place of --eval-dat?"),
        (["compile", "model", "-o", "x", "--n-osmooth"], "Did you mean --no-smooth in place of --n-osmooth?"),
        (["serve", ""], "argument PKG: the path is empty"),
        (["triton", "package", "-o", ""], "argument -o/--output: the path is empty"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_typo(arguments: list[str], words: str, capsys: Output) -> None:
    code, text = _ends(capsys, arguments)
    assert code == 2 and words in text
    assert text.startswith("error: ") and text.count("\n") == 1


def test_what_is_far_from_everything_is_no_typo(capsys: Output) -> None:
    assert "mean" not in _ends(capsys, ["compile", "model", "-o", "x", "--zzzz"])[1]
    assert "mean" not in _ends(capsys, ["xxxx", "--verbose"])[1]
    assert "mean" not in _ends(capsys, ["compile", "model", "-o", "x", "--target", "sm87"])[1]
    assert "mean" not in _ends(capsys, ["compress", "model", "-o", "x", "--method", "heads", "--epochs", "3"])[1]  # --steps is no such flag
    assert "mean" not in _ends(capsys, ["compress", "model", "-o", "x", "--epochs", "3"])[1]


def test_a_method_with_a_typo(capsys: Output) -> None:
    assert main(["compress", "model", "-o", "x", "--method", "heds"]) == 2
    assert "There is no compression method 'heds'; did you mean 'heads'? Choose one of:\n" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["compile", "--help"], ["completion", "bash"], ["doctor"]], ids=" ".join)
def test_a_reader_that_went_away(arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, "-m", "trtbert", *arguments], stdout=writing, stderr=subprocess.PIPE, timeout=120, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("moment", ["trtbert.cli", "pydantic", "trtbert.compress"])
def test_ctrl_c_while_modules_are_imported(moment: str) -> None:
    """Which may swallow the exception, as extension modules do that call Python."""
    code = f"""
import signal, sys
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == {moment!r}:
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                pass
sys.meta_path.insert(0, Interrupt())
"""
    done = _run(code + RUN, ["compress", "model", "-o", "output", "--method", "heads"])
    assert (done.returncode, done.stdout, done.stderr) == (128 + signal.SIGINT, "", "interrupted\n")


def test_sigterm_in_a_command_is_an_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that processes end and temporary folders go."""
    monkeypatch.setattr("trtbert.predictor.load", lambda _: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(SystemExit) as ended:
        main(["predict", "package", "text"])
    assert ended.value.code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize(
    "arguments", [["report", "-o", "x.html"], ["report", "-o", "{}/x.html", "--json", "x.json"], ["benchmark", "-o", "x"]]
)
def test_a_read_only_folder(arguments: list[str], package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    """It is said before any work; root, as in containers, may write wherever the file system may be written."""
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) == tmp_path)
    assert main([*(word.format(tmp_path) for word in arguments), str(package)]) == 2
    assert capsys.readouterr().err == f"error: {arguments[-1]} cannot be written: its folder is read-only. Choose another output.\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFCHR], ids=["pipe", "device"])
@pytest.mark.parametrize("is_linked", [False, True])
@pytest.mark.parametrize(
    "arguments",
    [
        ["report", "{package}", "-o", "{}"],
        ["report", "{package}", "-o", "x.html", "--json", "{}"],
        ["compile", "model", "-o", "x", "--report", "{}"],
        ["benchmark", "{package}", "-o", "{}"],
        ["benchmark", "{package}", "--plot", "{}"],
    ],
    ids=" ".join,
)
def test_no_device_is_replaced(
    arguments: list[str], is_linked: bool, kind: int, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        os.mknod("odd.svg", kind | 0o600, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only root can make a device")
    Path("link.svg").symlink_to("odd.svg")
    name = "link.svg" if is_linked else "odd.svg"
    assert main([*(word.format(name, package=package) for word in arguments), "--force"]) == 2
    refused = f"error: {name} is a device, a pipe or a socket, and a file would replace it. Choose another output.\n"
    assert capsys.readouterr().err == refused
    assert stat.S_IFMT(Path("odd.svg").stat().st_mode) == kind
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.svg", "odd.svg"]


def test_a_link_is_replaced_and_not_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "x").symlink_to("mine")
    with pytest.raises(InputError, match="exists already"):
        write_file(tmp_path / "x", "text", force=False)
    write_file(tmp_path / "x", "text", force=True)
    assert (tmp_path / "mine").read_text() == "mine"
    assert not (tmp_path / "x").is_symlink() and (tmp_path / "x").read_text() == "text"


def test_a_file_system_that_becomes_read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "write_text", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(InputError, match="cannot be written: Read-only file system"):
        write_file(tmp_path / "x", "text", force=False)


PROGRESS = """
import os, time
from trtbert.cli import _progress
with _progress() as (on_stage, on_progress):
    on_stage("export")
    for step in range(3):
        on_progress("a stage with a long name: " + "calibration " * 9, step, 1000)
        time.sleep(0.15)
"""


def _terminal(**variables: str) -> str:
    """What a progress bar writes to a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")}
    done = subprocess.run([sys.executable, "-c", PROGRESS], stderr=theirs, env=environment | variables, timeout=60, check=False)
    os.close(theirs)
    written = b""
    with contextlib.suppress(OSError), os.fdopen(ours, "rb", buffering=0) as file:
        while part := file.read(65536):
            written += part
    assert done.returncode == 0, written
    return written.decode()


def test_a_progress_bar_stays_in_its_line() -> None:
    written = _terminal(TERM="xterm")
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written).replace("\r", "\n").splitlines()
    assert any("a stage with a long name" in line for line in lines)
    assert [line for line in lines if len(line) > 80] == []
    assert written.count("\x1b[1A") == 1, "the one line is taken away at the end"


def test_a_progress_bar_has_no_colours_where_none_are_wanted() -> None:
    assert re.search(r"\x1b\[[0-9;]*3[0-9]", _terminal(TERM="xterm"))
    written = _terminal(TERM="xterm", NO_COLOR="1")
    assert "a stage" in written and not re.search(r"\x1b\[[0-9;]*3[0-9][;m]", written)


def test_a_dumb_terminal_has_no_progress_bar() -> None:
    assert _terminal(TERM="dumb") == ""


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def test_a_locale_without_accents(package: Path) -> None:
    done = _run(RUN, ["inspect", str(package)], **ASCII)
    assert (done.returncode, done.stderr) == (0, "")
    done = _run(RUN, ["predict", str(package.with_name("caf\u00e9"))], **ASCII)
    assert done.returncode == 2 and "caf\\xe9 is no package" in done.stderr.replace("\\udcc3\\udca9", "\\xe9")


def test_json_stays_json_in_every_locale(package: Path) -> None:
    code = "import sys, trtbert.predictor as p; p.load = lambda path: type('P', (), {'predict': lambda s, t: [{'label': chr(233)}]})()\n"
    assert _run(code + RUN, ["predict", "x", "x"], **ASCII).stdout == '{"label": "\\u00e9"}\n'
    assert _run(code + RUN, ["predict", "x", "x"], PYTHONUTF8="1").stdout == '{"label": "\u00e9"}\n'


def _script(capsys: Output, shell: str) -> str:
    assert main(["completion", shell]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_names_every_command_and_the_flags_of_methods(shell: str, capsys: Output) -> None:
    script = _script(capsys, shell)
    assert [name for name in (*COMMANDS, "target", "sparsity", "sm75", "vocabulary") if name not in script] == []


COMPLETE = {
    "bash": """
source ./script
words=($LINE); [[ $LINE = *" " ]] && words+=("")
COMP_WORDS=("${words[@]}"); COMP_CWORD=$((${#words[@]} - 1)); COMPREPLY=()
function=$(complete -p trtbert | sed 's/.*-F \\([^ ]*\\).*/\\1/')
$function trtbert "${words[@]: -1}" "${words[@]: -2:1}"
printf '%s\\n' "${COMPREPLY[@]}"
""",
    "fish": "source ./script; complete --do-complete $LINE | cut -f 1 | sed s:/::",
    "zsh": """
mkdir functions; cp script functions/_trtbert; fpath=($PWD/functions $fpath)
autoload -Uz compinit; compinit -u -D
compadd() { local -a found; builtin compadd -O found "$@"; print -rl -- $found >> found; builtin compadd "$@" }
zle-line-init() { BUFFER=$LINE; CURSOR=$#BUFFER; zle complete-word; exit }
zle -N zle-line-init
""",
}
"""Each prints what the shell offers to go on from $LINE with; that of zsh, which only completes on a terminal, writes it into a file."""


def _offered(shell: str, line: str, folder: Path) -> str:
    environment = os.environ | {"LINE": line, "HOME": str(folder), "ZDOTDIR": str(folder), "TERM": "xterm"}
    if shell != "zsh":
        command = ["bash", "-c"] if shell == "bash" else ["fish", "--no-config", "-c"]
        done = subprocess.run(
            [*command, COMPLETE[shell]], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.stderr == ""
        return done.stdout
    (folder / ".zshrc").write_text(COMPLETE[shell])
    ours, theirs = pty.openpty()
    subprocess.run(["zsh", "-d", "-i"], cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs, check=False, timeout=60)
    os.close(theirs)
    os.close(ours)
    return (folder / "found").read_text()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("trtbert comp", {"compile", "compress", "completion"}),
        ("trtbert compile --ta", {"--task", "--target"}),
        ("trtbert compile model -o x --precision b", {"bf16"}),
        ("trtbert compress --method heads --spars", {"--sparsity"}),
        ("trtbert compress --method h", {"heads"}),
        ("trtbert predict my-p", {"my-package"}),
        ("trtbert completion ", set(SHELLS)),
    ],
)
@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_completes(shell: str, line: str, expected: set[str], tmp_path: Path, capsys: Output) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}: tests/scripts/install-shells")
    (tmp_path / "my-package").mkdir()
    (tmp_path / "script").write_text(_script(capsys, shell))
    assert set(_offered(shell, line, tmp_path).split()) == expected
