import pytest

from deepblur_live.acquisition.restarts import RestartPlan


@pytest.fixture
def now() -> list[float]:
    return [0.0]


@pytest.fixture
def plan(now: list[float]) -> RestartPlan:
    return RestartPlan((0.5, 2.0), clock=lambda: now[0])


def test_pauses_grow_and_the_last_restart_is_the_last(plan, now) -> None:
    plan.came_up()
    for pause, said in ((0.5, "restart 1 of 2"), (2.0, "restart 2 of 2")):
        assert said in plan.went_down()
        now[0] += pause - 0.01
        assert not plan.due
        now[0] += 0.02
        assert plan.due
        plan.started()
        assert not plan.due
        plan.came_up()
    assert plan.went_down() == "it stays down"
    now[0] += 1e6
    assert not plan.due


def test_a_worker_that_was_never_ready_is_not_restarted(plan, now) -> None:
    assert plan.went_down() == "it stays down"
    now[0] += 10
    assert not plan.due


def test_a_restart_that_fails_counts(plan, now) -> None:
    plan.came_up()
    plan.went_down()
    plan.started()
    assert "restart 2 of 2" in plan.went_down()


def test_after_a_minute_of_operation_the_count_starts_again(plan, now) -> None:
    plan.came_up()
    plan.went_down()
    plan.came_up()
    now[0] += 61
    assert "restart 1 of 2" in plan.went_down()
