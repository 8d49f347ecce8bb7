"""Which `pulumi` is taken: the one on PATH, else the one that an earlier demo installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo import engine


@pytest.mark.parametrize(
    ("there", "taken"),
    [
        pytest.param(("path", "own"), "path", id="both"),
        pytest.param(("own",), "own", id="that of an earlier demo"),
        pytest.param((), None, id="none"),
    ],
)
def test_the_cli_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: tuple[str, ...], taken: str | None
) -> None:
    places = {"path": tmp_path / "path" / "pulumi", "own": tmp_path / "pulumi-cli" / "bin" / "pulumi"}
    for name in there:
        places[name].parent.mkdir(parents=True)
        places[name].touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setenv("CELERY_FLEET_CACHE", str(tmp_path))

    assert engine.program_found() == (str(places[taken]) if taken else None)
