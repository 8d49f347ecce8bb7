"""The controller that follows Celery's queues: `scaler.__main__` wires it, `scaler.pool.decision` decides."""
