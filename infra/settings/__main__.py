"""`python -m infra.settings [--write]`: the settings as people meet them."""

from infra.settings.docs import main

main()
