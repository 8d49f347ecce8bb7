"""The proof that nothing the system itself does ends a task: scale-in, take-back, roll-out, a killed scaler,
new limits, a pool at zero, a worker gone deaf, with a ledger outside the broker.

The scenes run side by side, each on a stack of its own. The same load with the handshake switched off has to
show killed tasks: it checks the check.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from demo.cluster import Cluster
from demo.images import Built
from tests.conftest import FOUND
from tests.e2e.backends import BACKENDS, SLICE_OF_REDIS
from tests.e2e.conftest import NAMESPACES
from tests.e2e.course import Step
from tests.e2e.ledger import Verdict
from tests.e2e.plays import KILLS, SCALE_INS, WITH_VICTIM, Play, played
from tests.e2e.scenes import Load, Outcome

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module", params=SLICE_OF_REDIS)
def backends(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def plays(cluster: Cluster, built: Built, backends: str) -> Iterator[dict[str, Play]]:
    with played(cluster, built, BACKENDS[backends]) as plays:
        yield plays


@pytest.fixture
def outcome_of(
    plays: dict[str, Play],
    backends: str,
    request: pytest.FixtureRequest,
    record_property: Callable[[str, object], None],
) -> Callable[[str], Outcome]:
    def wait(name: str) -> Outcome:
        play = plays[name]
        request.node.stash[NAMESPACES] = homes = []
        try:
            outcome = play.outcome.result()
        finally:
            homes += [(stack.cluster, stack.namespace) for stack in play.made]
        record_property(FOUND, f"{backends}, {name}: {outcome}")
        return outcome

    return wait


def test_no_scale_in_ends_a_task(outcome_of: Callable[[str], Outcome]) -> None:
    outcome = outcome_of("scale-in")

    assert len(outcome.falls) >= SCALE_INS
    assert outcome.with_victim >= WITH_VICTIM
    assert outcome.verdict.clean, outcome.verdict


def test_a_scaler_killed_at_any_step_leaves_no_task_ended_and_no_worker_deaf(
    outcome_of: Callable[[str], Outcome],
) -> None:
    outcome = outcome_of("killed scaler")

    assert outcome.kills.total() >= KILLS
    assert len(outcome.kills) >= 4
    assert outcome.verdict.clean, outcome.verdict
    assert outcome.consuming
    assert all(outcome.consuming.values()), outcome.consuming


def test_no_roll_out_and_no_new_limit_ends_or_repeats_a_task(outcome_of: Callable[[str], Outcome]) -> None:
    outcome = outcome_of("roll-out")

    assert outcome.steps[Step.LOWERED] >= 2
    assert outcome.verdict.clean, outcome.verdict


def test_a_pool_of_no_workers_is_woken_by_a_task_and_in_time_for_one_of_later(
    outcome_of: Callable[[str], Outcome],
) -> None:
    outcome = outcome_of("zero")

    assert outcome.steps[Step.RAISED] == 2
    assert len(outcome.falls) >= 2, "at rest before the task of later was published, and at the end"
    assert outcome.early is not None
    assert outcome.early > 0
    assert outcome.verdict == Verdict(finished=2, lost=(), killed=(), repeated=(), unpublished=())


def test_a_worker_that_takes_nothing_while_work_is_due_is_replaced(
    outcome_of: Callable[[str], Outcome],
) -> None:
    """Its pod is evicted: no scale-in takes part in it."""
    outcome = outcome_of("deaf worker")

    assert not outcome.falls
    assert len(outcome.consuming) == 2
    assert all(outcome.consuming.values()), outcome.consuming
    assert outcome.verdict.clean, outcome.verdict


def test_a_pool_with_tasks_is_not_removed_until_it_has_none(outcome_of: Callable[[str], Outcome]) -> None:
    """Its last workers stop with nothing to do, and the other pool's tasks run on."""
    outcome = outcome_of("removed pool")

    (refused,) = outcome.refused
    assert refused.startswith("pool leaving would vanish from namespace ")
    assert " with tasks left: " in refused
    assert outcome.verdict.clean, outcome.verdict
    assert outcome.verdict.finished > 2 * Load().high


def test_without_the_handshake_the_ledger_shows_killed_tasks(outcome_of: Callable[[str], Outcome]) -> None:
    outcome = outcome_of("no handshake")

    assert outcome.falls
    assert outcome.verdict.lost or outcome.verdict.killed or outcome.verdict.repeated
