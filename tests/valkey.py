"""A real Valkey 8, which Debian 12 does not have, as a redis-server is in the other tests."""

from __future__ import annotations

from dataclasses import dataclass

from tests import trixie
from tests.conftest import RedisServer, listens


@dataclass(slots=True)
class ValkeyServer(RedisServer):
    """Its folder is /data to it."""

    server: trixie.Server | None = None

    def start(self, *arguments: str) -> None:
        self.server = trixie.Server(self.folder, self.folder.parent / f"{self.folder.name}.log")
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", trixie.DATA]
        self.server.start(["/usr/bin/valkey-server", *options, *arguments], {})
        server = self.server
        if not listens(self.port, 30, lambda: server.runs):
            raise AssertionError(f"valkey-server did not start: {server.log.read_text()}")

    def stop(self) -> None:
        if self.server is not None:
            self.server.stop()
            self.server = None
