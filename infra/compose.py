"""The same stack for a laptop: a file for `docker compose`, made from the program's own Deployments.

It owns the way from the recorded program (`infra.recording`) to services: images, commands, environment,
probes, limits, pages. What it leaves out, and why: the scaler, the `Celery` objects and the network
policies, which are Kubernetes' own. A pool runs with `minReplicas` workers; `docker compose up --scale`
gives it others. Every password is one variable of `.env`, never a part of the file.

What a service is made of is read from the workload's shape, not from its component: another broker or
result backend comes along by being declared. Nothing is kept: servers begin empty, since data in a named
volume would belong to whatever user an image has made for it. It refuses what has no twin here: a Secret
that the stack does not make, volumes beside scratch folders, init containers, envFrom.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import yaml

from infra.components.credentials import MANAGEMENT_URL, MARK
from infra.components.flower import IMAGE as FLOWER_IMAGE
from infra.components.sample_app import IMAGE as SAMPLE_IMAGE
from infra.manifests import configuration
from infra.recording import Hidden, Recorded, record
from infra.settings import Settings, WrongSettings, load
from infra.settings.rules import STACK_SETTINGS
from scaler import contract

FILE: Final = Path(__file__).parent.parent / "compose.yaml"
BUILT_HERE: Final = {FLOWER_IMAGE: "flower/Dockerfile", SAMPLE_IMAGE: "sample_app/Dockerfile"}
PASSWORD: Final = "CELERY_FLEET_PASSWORD"  # noqa: S105  # a variable's name
STAND_IN: Final = "PasswordOfTheEnvFile"  # letters that no URL escapes
NEEDED: Final = f"${{{PASSWORD}:?missing in .env}}"
SERVERS: Final = ("broker", "result-backend")
"""Components that others wait for."""
NOT_HERE: Final = ("scaler-", MANAGEMENT_URL, MARK)
"""Keys that are the scaler's, or of a password that changes."""
Kept = Mapping[str, Mapping[str, str]]
"""Texts of Secrets or ConfigMaps, by name and key."""
PAGES: Final = ("flower", "sample-app")

HEADER: Final = f"""\
# Celery Fleet on a laptop, without Kubernetes or scaling: made by python -m infra.compose --stack {{}}
# The password is yours to make, once: echo {PASSWORD}=$(openssl rand -hex 16) > .env && chmod 600 .env
# Then: docker compose up --build, and when done: docker compose down --volumes
"""


def render(settings: Settings) -> str:
    services = services_of(_on_a_laptop(settings))
    document = {"name": f"celery-fleet-{settings.stack}", "services": services}
    return HEADER.format(settings.stack) + yaml.dump(document, Dumper=_Blocks, sort_keys=False, width=110)


def _on_a_laptop(settings: Settings) -> Settings:
    """Passwords are of the `.env` file; an image that only devcluster has gives way to the public one."""
    nothing = {"enabled": False}
    servers: dict[str, Any] = {}
    for server in ("redis", "rabbitmq", "postgresql"):
        image = getattr(settings, f"{server}_image")
        public = STACK_SETTINGS[f"{server}_image"].default if image.startswith("localhost/") else image
        kept = {**getattr(settings, f"{server}_persistence"), **nothing}
        servers |= {f"{server}_image": public, f"{server}_password": "", f"{server}_persistence": kept}
    return replace(
        settings,
        **servers,
        existing_secret="",
        flower_auth_secret="",
        beat_schedule_persistence={**settings.beat_schedule_persistence, **nothing},
    )


def services_of(settings: Settings) -> dict[str, Any]:
    """By name, servers first."""
    program = record(settings, password=STAND_IN)
    kept = {
        kind: {
            resource.inputs["metadata"]["name"]: _opened(resource.inputs[data])
            for resource in program
            if resource.inputs.get("kind") == kind
        }
        for kind, data in (("Secret", "stringData"), ("ConfigMap", "data"))
    }
    found = {
        resource.inputs["metadata"]["name"]: resource.inputs
        for resource in program
        if resource.inputs.get("kind") in ("Deployment", "StatefulSet")
    }
    del found[contract.SCALER_NAME]
    ports = _ports(program)
    servers = [name for name, item in found.items() if _component(item) in SERVERS]
    return {
        name: _Service(settings.namespace, kept, item["spec"]["template"]["spec"]).as_dict(
            replicas=item["spec"]["replicas"],
            port=ports.get(name),
            needs=servers if name not in servers else [],
        )
        # Pulumi registers on several threads: the program's own order may differ from run to run.
        for name, item in sorted(found.items(), key=lambda entry: (entry[0] not in servers, entry[0]))
    }


def _component(item: Mapping[str, Any]) -> str:
    return str(item["metadata"]["labels"]["app.kubernetes.io/component"])


def _opened(data: Any) -> Mapping[str, str]:
    found: Mapping[str, str] = data.value if isinstance(data, Hidden) else data
    return {key: value.value if isinstance(value, Hidden) else value for key, value in found.items()}


def _ports(program: Iterable[Recorded]) -> dict[str, str]:
    """Of the pages that people open: the node's port where the stack names one, on this machine only."""
    found = {}
    for resource in program:
        name = resource.inputs.get("metadata", {}).get("name")
        if resource.inputs.get("kind") == "Service" and name in PAGES:
            port = resource.inputs["spec"]["ports"][0]
            found[name] = f"127.0.0.1:{port.get('nodePort', port['port'])}:{port['targetPort']}"
    return found


class _Blocks(yaml.SafeDumper):
    """A text of several lines stays one."""

    def represent_str(self, text: str) -> yaml.ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Blocks.add_representer(str, _Blocks.represent_str)


class _Service:
    """One Deployment's only container as a service of compose."""

    def __init__(self, namespace: str, kept: Mapping[str, Kept], pod: Any) -> None:
        self._namespace = namespace
        self._secrets, self._config_maps = kept["Secret"], kept["ConfigMap"]
        self._pod = pod
        (self._container,) = pod["containers"]
        if "initContainers" in pod or "envFrom" in self._container:
            raise WrongSettings("init containers and envFrom have no twin in docker compose")

    def as_dict(self, *, replicas: int, port: str | None, needs: list[str]) -> dict[str, Any]:
        limits = self._container["resources"]["limits"]
        checked = self._healthcheck()
        user = self._pod["securityContext"]["runAsUser"]
        return {
            **self._image(),
            **({"entrypoint": self._command()} if "command" in self._container else {}),
            **({"init": True} if self._pod.get("shareProcessNamespace") else {}),
            "environment": {**self._environment(), **self._files()},
            **({"ports": [port]} if port else {}),
            "tmpfs": [f"{path}:uid={user},gid={user},mode=0700" for path in self._scratch()],
            **({"healthcheck": checked} if checked else {}),
            **({"depends_on": {name: {"condition": "service_healthy"} for name in needs}} if needs else {}),
            "deploy": {
                "replicas": replicas,
                "resources": {"limits": {"cpus": _cpus(limits["cpu"]), "memory": _memory(limits["memory"])}},
            },
            "stop_grace_period": f"{self._pod['terminationGracePeriodSeconds']}s",
            "restart": "unless-stopped",
            "user": f"{user}:{user}",
            "read_only": True,
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges:true"],
        }

    def _image(self) -> dict[str, Any]:
        image = self._container["image"]
        base = image.rpartition(":")[0].rpartition("/")[2]
        dockerfile = BUILT_HERE.get(base)
        return {"image": image} | (
            {"build": {"context": ".", "dockerfile": dockerfile}} if dockerfile else {}
        )

    def _command(self) -> list[str]:
        """`$` is compose's own sign. A worker's name is its host's here, as there it is its pod's."""
        words = [word.replace("$(POD_NAME)", "%h") for word in self._container["command"]]
        return [word.replace("$", "$$") for word in [*self._written(), *words]]

    def _written(self) -> list[str]:
        """Files come in as variables: a container whose own files are read-only takes no others."""
        files = [(folder, key) for folder, files in self._folders().items() for key in files]
        if not files:
            return []
        writes = [f'printf %s "${_variable(key)}" >{folder}/{key}' for folder, key in files]
        return ["sh", "-c", "\n".join(["umask 077", *writes, 'exec "$@"', ""]), "sh"]

    def _files(self) -> dict[str, str]:
        return {_variable(key): text for files in self._folders().values() for key, text in files.items()}

    def _folders(self) -> dict[str, dict[str, str]]:
        """File to text, by the folder that a projected volume makes of Secrets and ConfigMaps."""
        sources = {one["name"]: one.get("projected", {}).get("sources") for one in self._pod["volumes"]}
        return {
            mount["mountPath"]: self._projected(sources[mount["name"]])
            for mount in self._container["volumeMounts"]
            if sources[mount["name"]]
        }

    def _projected(self, sources: Iterable[Mapping[str, Any]]) -> dict[str, str]:
        found: dict[str, str] = {}
        for source in sources:
            if "secret" in source:
                name = source["secret"]["name"]
                found |= {key: self._secret(name, key) for key in self._secrets.get(name, {})}
            elif "configMap" in source:
                texts = self._config_maps[source["configMap"]["name"]]
                found |= {key: text.replace("$", "$$") for key, text in texts.items()}
        return {key: text for key, text in found.items() if not key.startswith(NOT_HERE)}

    def _environment(self) -> dict[str, str]:
        found = {}
        for entry in self._container["env"]:
            source = entry.get("valueFrom", {})
            if "secretKeyRef" in source:
                reference = source["secretKeyRef"]
                found[entry["name"]] = self._secret(reference["name"], reference["key"])
            elif "value" in entry:
                found[entry["name"]] = entry["value"].replace("$", "$$")
        return found

    def _secret(self, name: str, key: str) -> str:
        if key not in self._secrets.get(name, {}):
            raise WrongSettings(f"{name}/{key} is a Secret that the stack does not make: it has no twin here")
        text = self._secrets[name][key].replace("$", "$$").replace(STAND_IN, NEEDED)
        return text.replace(f".{self._namespace}.svc", "")

    def _scratch(self) -> list[str]:
        """In memory: an `emptyDir` is gone with its pod, too."""
        scratch = {
            volume["name"] for volume in self._pod["volumes"] if {"emptyDir", "projected"} & set(volume)
        }
        for mount in self._container["volumeMounts"]:
            if mount["name"] not in scratch:
                raise WrongSettings(f"volume {mount['name']} has no twin in docker compose")
        return [mount["mountPath"] for mount in self._container["volumeMounts"]]

    def _healthcheck(self) -> dict[str, Any]:
        probe = self._container.get("readinessProbe")
        if probe is None:
            return {}
        if "exec" in probe:
            test = ["CMD", *(word.replace("$", "$$") for word in probe["exec"]["command"])]
        elif "tcpSocket" in probe:
            listens = f":{probe['tcpSocket']['port']:04X} .* 0A "
            test = ["CMD", "grep", "-q", listens, "/proc/net/tcp", "/proc/net/tcp6"]
        else:
            # The images have Python and no curl.
            url = f"http://127.0.0.1:{probe['httpGet']['port']}{probe['httpGet']['path']}"
            test = ["CMD", "python3", "-c", f"import urllib.request as u; u.urlopen('{url}', timeout=4)"]
        return {
            "test": test,
            "interval": f"{probe['periodSeconds']}s",
            "timeout": "5s",
            "start_period": "30s",
        }


def _variable(key: str) -> str:
    return f"FILE_{key.upper().translate(str.maketrans('-.', '__'))}"


def _cpus(quantity: str) -> str:
    return f"{float(quantity[:-1]) / 1000:g}" if quantity.endswith("m") else quantity


def _memory(quantity: str) -> str:
    """Compose's `m` is Kubernetes' `Mi`."""
    return quantity.removesuffix("i").lower()


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m infra.compose", description="A stack for docker compose."
    )
    parser.add_argument("--stack", required=True, help="its file is stacks/Pulumi.<stack>.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="another value")
    parser.add_argument("--write", action="store_true", help=f"into {FILE.name}, not to the terminal")
    chosen = parser.parse_args(arguments)
    try:
        overrides = dict(pair.split("=", 1) for pair in chosen.set)
        text = render(load(configuration(chosen.stack, overrides)))
    except WrongSettings as wrong:
        print(wrong, file=sys.stderr)
        return 1
    except ValueError:
        parser.error("--set takes KEY=VALUE")
    if chosen.write:
        FILE.write_text(text)
    else:
        print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
