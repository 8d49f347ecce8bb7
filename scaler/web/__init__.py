"""The scaler's page: what is shown of the fleet in a browser, and the same as JSON. Read-only."""
