"""The stack on a real cluster with real Celery workers."""
