from tesslate.site.picker import model_groups
from tests.site.ledger import chat_request


def test_asks_strangers_to_sign_in(client, db):
    assert client.get("/playground")["Location"] == "/sign-in?next=/playground"


def test_offers_own_models_first_and_says_what_unlocks_the_rest(pro_plan, free_plan):
    mine, locked = model_groups(free_plan)
    assert [model.name for model in mine.models] == ["small"]
    assert mine.plan is None
    assert [model.name for model in locked.models] == ["large"]
    assert locked.plan == pro_plan


def test_the_largest_plan_has_nothing_locked(pro_plan):
    (mine,) = model_groups(pro_plan)
    assert len(mine.models) == 2


def test_a_plan_without_models_still_has_a_page(signed_in, free_plan):
    free_plan.gateway_models.clear()
    response = signed_in.get("/playground")
    assert response.status_code == 200


def test_opens_with_a_model_of_the_plan(signed_in):
    assert signed_in.get("/playground").context["selected"] == "small"


def test_says_what_is_used_up_before_any_script_runs(signed_in, user):
    chat_request(user, cost="0.40")
    page = signed_in.get("/playground").content.decode()
    assert "$0.40 of $" in page
    assert "1 request ·" in page
