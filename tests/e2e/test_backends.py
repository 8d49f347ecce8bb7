"""The other combinations of broker and result backend, up to the first task and its result; and what is
RabbitMQ's own: no scale-in and no killed scaler ends a task there either."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.conftest import FOUND
from tests.e2e import scenes
from tests.e2e.conftest import NewStack
from tests.e2e.scenes import BREATHING, Outcome
from tests.e2e.stack import Stack

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

RABBITMQ_POSTGRESQL = {"broker": "rabbitmq", "resultBackend": "postgresql"}
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
    stack = new_stack(**RABBITMQ_POSTGRESQL, resultExpireSeconds=CLEAN_SECONDS)
    assert result_of_a_task(stack) == "5"
    assert results_kept(stack) == 1

    stack.wait(lambda: results_kept(stack) == 0, "the result is gone", 3 * CLEAN_SECONDS + 60)


def results_kept(stack: Stack) -> int:
    ask = "psql --dbname=celery --tuples-only --no-align --command='SELECT count(*) FROM celery_taskmeta'"
    return int(stack.kubectl("exec", "deployment/postgresql", "--", "sh", "-c", ask))


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(
            lambda stack: scenes.breathe(stack, scale_ins=10, victims=5, seconds=900), id="scale-in"
        ),
        pytest.param(lambda stack: scenes.killed(stack, kills=6, seconds=900), id="killed scaler"),
    ],
)
@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
def test_nothing_that_the_system_does_ends_a_task_on_rabbitmq(
    new_stack: NewStack,
    act: Callable[[Stack], Outcome],
    queue_type: str,
    record_property: Callable[[str, object], None],
) -> None:
    stack = new_stack(**{**BREATHING, **RABBITMQ_POSTGRESQL, "queueType": queue_type})

    outcome = act(stack)

    record_property(FOUND, f"{queue_type}: {outcome}")
    assert outcome.falls
    assert outcome.verdict.clean, outcome.verdict
