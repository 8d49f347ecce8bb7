"""The stack's configuration file as it is now, for a process that the engine tells an older story.

A dynamic provider's `configure` gets the configuration that the last `up` recorded with the provider in the
state (measured, CLI 3.260), unless `pulumi destroy --run-program` runs the program, which is no way out
where the cluster is gone. So what must be read when it is needed is read from the file that `pulumi config
set` writes. It owns where that file is and refuses nothing: what is not plain text counts as not given.

Not seen here: a file that `--config-file` names; `--run-program` is for that.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

PROJECT: Final = "celery-fleet"


def value_of(stack: str, key: str, folder: Path) -> str:
    """Of the project's own key `key`, for the project in `folder`; "" where it is not set there."""
    project = _document(folder / "Pulumi.yaml")
    place = folder / str(project.get("stackConfigDir") or "")
    values = _document(place / f"Pulumi.{stack}.yaml").get("config")
    found = values.get(f"{PROJECT}:{key}") if isinstance(values, dict) else None
    return str(found) if isinstance(found, str | int) else ""


def _document(path: Path) -> dict[str, Any]:
    import yaml

    try:
        found = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}
