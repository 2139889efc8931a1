import pytest

from sandbox.stripe.state import State


@pytest.fixture
def state() -> State:
    state = State()
    for number in range(3):
        state.add({"object": "invoice", "id": f"in_{number}", "customer": "cus_1", "n": number})
    state.commit()
    return state


def test_objects_are_found_by_kind_age_and_owner(state: State):
    assert state.of_kind("invoice") == ["in_0", "in_1", "in_2"]
    assert state.where("invoice", "customer", "cus_1") == ["in_0", "in_1", "in_2"]
    assert state.where("invoice", "customer", "cus_2") == []
    assert state.find("customer", "in_0") is None


def test_rollback_restores_contents_in_place(state: State):
    held = state.objects["in_1"]
    state.edit(held)["n"] = 99
    held["customer"] = "cus_2"
    state.reindex(held)
    state.rollback()
    assert state.objects["in_1"] is held
    assert held["n"] == 1
    assert state.where("invoice", "customer", "cus_1") == ["in_0", "in_1", "in_2"]


def test_rollback_takes_out_what_was_added_and_puts_back_what_was_removed(state: State):
    state.add({"object": "invoice", "id": "in_9", "customer": "cus_1"})
    state.remove(state.objects["in_0"])
    state.rollback()
    assert state.of_kind("invoice") == ["in_0", "in_1", "in_2"]
    assert state.where("invoice", "customer", "cus_1") == ["in_0", "in_1", "in_2"]


def test_savepoint_undoes_only_what_came_after_it(state: State):
    held = state.objects["in_0"]
    state.edit(held)["n"] = 10
    mark = state.savepoint()
    state.edit(held)["n"] = 20
    state.rollback(mark)
    assert held["n"] == 10
    state.edit(held)["n"] = 30
    state.rollback()
    assert held["n"] == 0


def test_commit_names_each_changed_object_once(state: State):
    for _ in range(3):
        state.edit(state.objects["in_2"])["n"] += 1
    state.remove(state.objects["in_0"])
    assert state.commit() == ["in_2", "in_0"]
