"""What `pulumi up` runs: load the settings, look at the cluster, deploy."""

from infra.live.first_look import look
from infra.program import deploy
from infra.settings import load

settings = load()
deploy(settings, look(settings))
