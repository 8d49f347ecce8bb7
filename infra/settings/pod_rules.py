"""What is wrong with pods and doors as a whole: mounts without a volume, a beat without an image, links.

Like `infra.settings.rules`, which collects these with its own; the shapes of the single settings are in
`infra.settings.pod_shapes`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import urlsplit

from infra.settings.fields import Settings
from infra.settings.names import object_name
from infra.settings.pod_shapes import SCRATCH
from infra.settings.pool import Pool
from infra.settings.problem import Place, Problem

_PREFIX: Final = re.compile(r"/?[A-Za-z0-9._~-]+(/[A-Za-z0-9._~-]+)*/?")


def problems_of_mounts(pool: Pool, place: Mapping[str, Place]) -> Iterator[Problem]:
    known = {SCRATCH, *(volume["name"] for volume in pool.volumes)}
    for number, mount in enumerate(pool.volume_mounts):
        if mount["name"] not in known:
            path = f"volumeMounts[{number}].name"
            yield Problem(
                key=place["volume_mounts"].key(path),
                wrong=f"there is no volume {mount['name']} among the pool's volumes",
                effect="the API server would refuse it, after half of the stack is there",
                command=place["volume_mounts"].set_command(path, "<name of a volume>"),
            )


def problems_of_doors(settings: Settings) -> Iterator[Problem]:
    top = Place()
    wrong_link = "must be an address that begins with http:// or https://, without a user"
    links = {
        "stackUrl": settings.stack_url,
        "flowerUrl": settings.flower_url,
        "grafanaUrl": settings.grafana_url,
    }
    for key, text in links.items():
        if text and not _is_link(text):
            command = top.set_command(key, "https://<host>")
            yield Problem(key=key, wrong=wrong_link, effect="the scaler would not start", command=command)
    prefix = settings.scaler_page_prefix
    if prefix and not _PREFIX.fullmatch(prefix):
        yield Problem(
            key="scalerPagePrefix",
            wrong=f"must be a path such as /fleet, not {prefix!r}",
            effect="the scaler would not start",
            command=top.set_command("scalerPagePrefix", "/fleet"),
        )
    if settings.beat:
        yield from _beat(settings)


def _beat(settings: Settings) -> Iterator[Problem]:
    known = [pool.name for pool in settings.pools]
    if settings.beat_pool and object_name(settings.beat_pool) not in known:
        yield Problem(
            key="beatPool",
            wrong=f"there is no pool {settings.beat_pool}; there are {', '.join(known)}",
            effect="nothing says which app's schedule to follow",
            command=Place().set_command("beatPool", known[0] if known else ""),
        )
    elif not settings.beat_pool and not settings.defaults.image and known:
        yield Problem(
            key="beatPool",
            wrong="is not given, and there is no flat image",
            effect="beat has nothing to run",
            command=Place().set_command("beatPool", known[0]),
        )


def _is_link(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    clear = parts.username is None and parts.password is None
    return parts.scheme in ("http", "https") and bool(parts.netloc) and clear
