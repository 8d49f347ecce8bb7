"""What to type to change a pool or look closer: the page shows commands instead of buttons.

It owns their words. The page is read-only and asks nobody who they are; whoever copies a command runs it with
rights of their own. Which stack that is says the scaler's environment, and where its configuration has the
pool's settings says the object; an object that says nothing was not made by Pulumi, and has no such command.
"""

from __future__ import annotations

import json
import shlex
from typing import Any

from scaler.contract import PLURAL, POOL_LABEL, SCALER_NAME, Mode, Policy


def commands(
    namespace: str, name: str, policy: Policy | None, *, stack: str = "", settings: str | None = None
) -> list[dict[str, Any]]:
    """In the order in which they are shown: what it does, and the command.

    `settings` is the object's `SETTINGS_ANNOTATION`.
    """
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
        if settings is not None:
            found += _changes(policy, stack, settings)
        operation = {"op": "add", "path": "/spec/scaleTargetRef/0/paused", "value": not policy.paused}
        patch = shlex.quote(json.dumps([operation]))
        verb = "Go on scaling" if policy.paused else "Pause"
        found.append(
            (
                f"{verb} with kubectl"
                + (", until Pulumi changes the object" if settings is not None else ""),
                f"kubectl patch {PLURAL} {pool} {here} --type=json -p {patch}",
            )
        )
    return [{"what": what, "command": command} for what, command in found]


def _changes(policy: Policy, stack: str, settings: str) -> list[tuple[str, str]]:
    """With Pulumi, in a checkout of the stack's project."""

    def put(key: str, value: str) -> str:
        of = f" --stack {shlex.quote(stack)}" if stack else ""
        path = f"--path {shlex.quote(f'{settings}.{key}')}" if settings else key
        return f"pulumi config set{of} {path} {value} && pulumi up{of}"

    pause = ("Go on scaling", "false") if policy.paused else ("Pause: keep the workers as they are", "true")
    shadow = policy.mode is Mode.SHADOW
    mode = ("Let it act", Mode.ACTIVE) if shadow else ("Only watch: write nothing", Mode.SHADOW)
    return [
        ("Raise the maximum", put("maxReplicas", str(policy.max_replicas + 10))),
        (pause[0], put("paused", pause[1])),
        (mode[0], put("mode", mode[1])),
    ]
