"""`python -m scaler simulate`: its table, its picture, and what it refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from scaler.commands.simulate import simulate
from scaler.contract import policy_of
from scaler.recording import spec_of
from scaler.simulate.contender import PLAIN_SPEC, contender_of
from scaler.simulate.load import made
from tests.scaler.recordings import lines_of, record_of
from tests.scaler.samples import behavior, pods, policy, rules

ROOT = Path(__file__).parents[2]
FLOOD = ("--load", "flood:tasks=300,service=2,spread=0", "--common", "maxReplicas=8,averageValue=10")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and error."""
    code = simulate(arguments)
    said = capsys.readouterr()
    return code, said.out, said.err


def test_policies_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    """Three lines by default, the same for the same seed."""
    code, said, wrong = run(capsys, *FLOOD)

    first, empty, head, *rows = said.splitlines()
    assert (code, wrong, empty) == (0, "", "")
    assert first.startswith("flood:tasks=300,service=2,spread=0: 300 tasks in 70 s, 600 slot-seconds")
    assert head.split("  ")[0] == "POLICY"
    assert [row.split()[0] for row in rows] == ["ours", "hpa", "keda"]
    assert run(capsys, *FLOOD) == (0, said, "")
    assert run(capsys, *FLOOD, "--seed", "2")[1] != said


def test_a_recording_is_replayed_under_its_own_policy_and_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "flood.jsonl"
    recording = record_of(made("flood:tasks=900,at=20,over=5,service=0.5", 3), late=True)
    path.write_text("\n".join(lines_of(recording)) + "\n")

    code, said, wrong = run(capsys, str(path), "--policy", "as-it-was", "--policy", "wider:maxReplicas=12")

    load, recorded, _, _, *rows = said.splitlines()
    assert (code, wrong) == (0, "")
    assert load.startswith("sums as recorded: 900 tasks in ")
    assert recorded.startswith("recorded: to max ")
    assert [row.split()[0] for row in rows] == ["as-it-was", "wider"]
    drained = [float(row.split()[8]) for row in rows]
    assert drained[1] < drained[0]


def test_the_picture_is_drawn_and_is_the_same_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, other = (tmp_path / name for name in ("1.svg", "2.svg", "3.png"))
    for path in (first, second, other):
        assert run(capsys, *FLOOD, "--chart", str(path))[0] == 0

    assert first.read_bytes() == second.read_bytes()
    assert first.read_text().startswith("<?xml")
    assert "<!-- tasks to do -->" in first.read_text()
    assert other.read_bytes().startswith(b"\x89PNG")


REFUSALS = [
    pytest.param(["--load", "tsunami"], "there is no load tsunami", id="load"),
    pytest.param(
        [*FLOOD, "--policy", "x:minReplicas=5,maxReplicas=2"],
        "x: minReplicas must not be greater than maxReplicas (5 > 2)",
        id="bounds",
    ),
    pytest.param([*FLOOD, "--policy", "x:replicas=5"], "x: there is no replicas; there are av", id="key"),
    pytest.param(
        [*FLOOD, "--policy", "x:averageValue=none"], "x: averageValue must be a whole number", id="value"
    ),
    pytest.param(
        [*FLOOD, "--policy", "x:averageValue=0"], "x: averageValue must be a whole number from 1", id="range"
    ),
    pytest.param(
        [*FLOOD, "--policy", "x:scaleUp.policies=4/Pods/60"],
        "x: scaleUp.policies must be like Pods/4/60+Percent/100/15, not 4/Pods/60",
        id="step limits",
    ),
    pytest.param(
        [*FLOOD, "--policy", "x:cooldownSeconds=5"], "x: there is no cooldownSeconds", id="not ours"
    ),
    pytest.param(
        [*FLOOD, "--policy", "hpa:minReplicas=0"],
        "hpa: minReplicas must be at least 1: an HPA wakes nothing from 0",
        id="an HPA at 0",
    ),
    pytest.param([*FLOOD, "--policy", "x", "--policy", "x"], "two policies have the name x", id="twice"),
    pytest.param([*FLOOD, "--start", "-1"], "--start must be a number of seconds from 0 on", id="start"),
    pytest.param([*FLOOD, "--grace", "nan"], "--grace must be a number of seconds from 0 on", id="grace"),
    pytest.param(["no-such-file"], "no-such-file: No such file or directory", id="no file"),
    pytest.param([str(ROOT)], f"{ROOT}: Is a directory", id="a folder"),
    pytest.param([str(ROOT / "README.md")], f"{ROOT / 'README.md'}: line 1: no JSON: ", id="not a recording"),
    pytest.param([*FLOOD, "--chart", "x.pdf"], "--chart x.pdf: the name must end in .svg or .png", id="pdf"),
    pytest.param([*FLOOD, "--chart", "no/x.svg"], "--chart no/x.svg: there is no folder no", id="no folder"),
]


@pytest.mark.parametrize(("arguments", "refusal"), REFUSALS)
def test_what_cannot_be_is_one_line_and_nothing_is_written(
    arguments: list[str],
    refusal: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    chart = tmp_path / "x.svg"
    more = [] if "--chart" in arguments else ["--chart", str(chart)]
    code, said, wrong = run(capsys, *arguments, *more)

    assert (code, said) == (2, "")
    assert wrong.startswith(refusal)
    assert wrong.count("\n") == 1
    assert not chart.exists()


@pytest.mark.parametrize("arguments", [[], ["file", "--load", "flood"]], ids=["no load", "two loads"])
def test_wrong_arguments_are_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        simulate(arguments)

    assert raised.value.code == 2
    assert "give a recording or --load, and not both" in capsys.readouterr().err


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_without_matplotlib_a_picture_is_refused_and_a_table_is_not(tmp_path: Path) -> None:
    """As in the scaler's image."""
    without = "import sys; sys.modules['matplotlib'] = None; from scaler.__main__ import main; "
    load = "'simulate', '--load', 'dead-zero'"
    drawn = python(f"{without} sys.exit(main([{load}, '--chart', '{tmp_path}/x.svg']))")
    told = python(f"{without} sys.exit(main([{load}]))")

    assert (drawn.returncode, drawn.stdout) == (2, "")
    assert drawn.stderr == "--chart needs matplotlib: pip install -r requirements-dev.txt\n"
    assert told.returncode == 0, told.stderr


def test_the_scaler_does_not_load_its_commands() -> None:
    """Nor what only they need: its memory is what it was."""
    done = python("import sys, scaler.__main__; print(*sys.modules)")

    loaded = done.stdout.split()
    assert "scaler.loop" in loaded
    assert [name for name in loaded if name.startswith(("scaler.simulate", "scaler.commands"))] == []
    assert {"scaler.recording", "scaler.onlooker", "matplotlib", "numpy"}.isdisjoint(loaded)


def test_words_become_a_policy() -> None:
    """Every key in its place, on top of what is common to all."""
    text = (
        "x:maxReplicas=30,calmSeconds=0,scaleUp.policies=Pods/4/60,scaleUp.selectPolicy=Min,"
        "scaleDown.tolerance=0.2,drainSeconds=9,pollSeconds=5"
    )
    found = contender_of(text, spec_of("sums", policy()), {"minReplicas": "3", "cooldownSeconds": "1"})

    up, down = rules(pods(4), select_policy="Min"), rules(tolerance=0.2)
    assert found.policy == policy(
        min_replicas=3, max_replicas=30, drain_seconds=9, behavior=behavior(up=up, down=down)
    )
    assert found.times["pollSeconds"] == 5


def test_a_pool_that_was_paused_when_it_was_recorded_is_simulated_as_if_it_were_not() -> None:
    assert contender_of("x", spec_of("sums", policy(paused=True)), {}).policy == policy()


def test_an_hpa_has_its_own_defaults_and_not_ours() -> None:
    found = contender_of("hpa-slow:syncSeconds=60", spec_of("sums", policy()), {})

    assert found.rules == "hpa"
    assert found.policy.behavior.scale_down.stabilization_seconds == 300
    assert [limit.value for limit in found.policy.behavior.scale_up.limits] == [100, 4]
    assert policy_of(PLAIN_SPEC).behavior.scale_up.limits == ()


def shown() -> list[tuple[str, str]]:
    """Each simulation on the page: what was typed, and what it printed."""
    page = (ROOT / "docs" / "explain-and-simulate.md").read_text().replace(" \\\n    ", " ")
    blocks = [block.partition("```")[0] for block in page.split("```console\n$ ")[1:]]
    return [
        (block.partition("\n")[0], block.partition("\n")[2])
        for block in blocks
        if block.startswith(".venv/bin/python -m scaler simulate --load")
    ]


@pytest.mark.parametrize(("typed", "printed"), shown())
def test_the_page_shows_what_the_command_prints(
    typed: str, printed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And what it draws, to the byte: matplotlib is pinned and brings its own font."""
    words = typed.split()[4:]
    drawn = tmp_path / "drawn.svg"
    kept = drawn
    if "--chart" in words:
        place = words.index("--chart") + 1
        kept, words[place] = ROOT / words[place], str(drawn)

    assert run(capsys, *words) == (0, printed, "")
    if kept != drawn:
        assert drawn.read_bytes() == kept.read_bytes()


def test_the_page_shows_two_simulations() -> None:
    assert len(shown()) == 2
