"""A real cluster, real Celery workers, a ledger outside the broker.

`conftest` makes cluster and images once and a stack per test, `stack` is one stack and what a test
asks of it, `ledger` judges what the tasks say they did.
"""
