"""The Pulumi program of one environment; start at `infra.program`, the settings are in `infra.settings`."""
