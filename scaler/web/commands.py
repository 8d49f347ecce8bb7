"""What to type to change a pool or look closer: the page shows commands instead of buttons.

It owns their words. The page is read-only and asks nobody who they are; whoever copies a command runs it with
rights of their own. A pool that is named `default` is made of the stack's flat keys.
"""

from __future__ import annotations

import json
import shlex
from typing import Any, Final

from scaler.contract import PLURAL, POOL_LABEL, SCALER_NAME, Mode, Policy

FLAT_POOL: Final = "default"


def commands(namespace: str, name: str, policy: Policy | None) -> list[dict[str, Any]]:
    """In the order in which they are shown: what it does, and the command."""
    here = f"-n {shlex.quote(namespace)}"
    pool = shlex.quote(name)
    found = [
        (
            "Explain the decision",
            f"kubectl exec {here} deploy/{SCALER_NAME} -- python3 -m scaler explain {pool}",
        ),
        ("Conditions and events", f"kubectl describe {PLURAL} {pool} {here}"),
    ]
    if policy is not None:
        label = shlex.quote(f"{POOL_LABEL}={name}")
        found.append(("Workers' log", f"kubectl logs {here} -l {label} --prefix --tail=20 --follow"))
        found.append(("Raise the maximum", _set(name, "maxReplicas", str(policy.max_replicas + 10))))
        if policy.paused:
            found.append(("Go on scaling", _set(name, "paused", "false")))
        else:
            found.append(("Pause: keep the workers as they are", _set(name, "paused", "true")))
        if policy.mode is Mode.SHADOW:
            found.append(("Let it act", _set(name, "mode", Mode.ACTIVE)))
        else:
            found.append(("Only watch: write nothing", _set(name, "mode", Mode.SHADOW)))
        operation = {"op": "add", "path": "/spec/scaleTargetRef/0/paused", "value": not policy.paused}
        patch = shlex.quote(json.dumps([operation]))
        verb = "Go on scaling" if policy.paused else "Pause"
        found.append(
            (
                f"{verb} with kubectl, until Pulumi changes the object",
                f"kubectl patch {PLURAL} {pool} {here} --type=json -p {patch}",
            )
        )
    return [{"what": what, "command": command} for what, command in found]


def _set(pool: str, key: str, value: str) -> str:
    if pool == FLAT_POOL:
        return f"pulumi config set {key} {value} && pulumi up"
    # Pulumi reads a dot as a step of the path; a pool's name may have hyphens, and objects of others dots.
    path = f"pools.{pool}.{key}" if "." not in pool else f'pools["{pool}"].{key}'
    return f"pulumi config set --path {shlex.quote(path)} {value} && pulumi up"
