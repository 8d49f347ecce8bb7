"""The other combinations of broker and result backend, up to the first task and its result."""

from __future__ import annotations

import pytest

from tests.e2e.backends import BACKENDS
from tests.e2e.conftest import NewStack
from tests.e2e.stack import Stack

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

CLEAN_SECONDS = 60
"""The shortest pause between two cleanings."""


def in_sample_app(stack: Stack, *lines: str) -> str:
    words = ("exec", "deployment/sample-app", "--", "python3", "-c", "\n".join(lines))
    return stack.kubectl(*words, seconds=120).strip()


def result_of_a_task(stack: Stack) -> str:
    return in_sample_app(stack, "from sample_app.tasks import add", "print(add.delay(2, 3).get(timeout=90))")


@pytest.mark.parametrize(
    ("broker", "results"),
    [("redis", "postgresql"), ("rabbitmq", "redis"), ("rabbitmq", "postgresql")],
)
def test_a_task_runs_and_its_result_comes_back(new_stack: NewStack, broker: str, results: str) -> None:
    stack = new_stack(broker=broker, resultBackend=results)

    assert result_of_a_task(stack) == "5"


def test_expired_results_go_without_beat(new_stack: NewStack) -> None:
    """A database drops none by itself, and Celery leaves it to beat, which this stack does not run."""
    stack = new_stack(**BACKENDS["classic + postgresql"], resultExpireSeconds=CLEAN_SECONDS)
    assert result_of_a_task(stack) == "5"
    assert results_kept(stack) == 1

    stack.wait(lambda: results_kept(stack) == 0, "the result is gone", 3 * CLEAN_SECONDS + 60)


def results_kept(stack: Stack) -> int:
    ask = "psql --dbname=celery --tuples-only --no-align --command='SELECT count(*) FROM celery_taskmeta'"
    return int(stack.kubectl("exec", "deployment/postgresql", "--", "sh", "-c", ask))
