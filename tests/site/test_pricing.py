from django.utils import timezone

from tesslate.site.pricing import MONTH, YEAR, price_list
from tests.factories import CustomerFactory, PlanFactory, PriceFactory, SubscriptionFactory


def test_shows_public_plans_by_rank_with_both_intervals(client, pro_plan):
    PlanFactory.create(code="secret", name="Secret", is_public=False)
    response = client.get("/")
    assert response.status_code == 200
    html = response.content.decode()
    assert html.index("Free") < html.index("Pro")
    assert "$19" in html
    assert "$190 billed yearly" in html
    assert "save 16%" in html
    assert "Secret" not in html


def test_a_plan_lists_only_what_it_adds(pro_plan):
    free, pro = price_list(current_plan=None).offers
    assert [model.name for model in free.new_models] == ["small"]
    assert [model.name for model in pro.new_models] == ["large"]
    assert pro.previous_name == "Free"


def test_a_plan_that_lacks_a_smaller_ones_model_claims_nothing_of_it(pro_plan):
    pro_plan.gateway_models.remove(*pro_plan.gateway_models.filter(name="small"))
    _, pro = price_list(current_plan=None).offers
    assert pro.previous_name == ""
    assert [model.name for model in pro.new_models] == ["large"]


def test_withdrawn_models_are_not_promised(pro_plan):
    pro_plan.gateway_models.filter(name="large").update(disabled_at=timezone.now())
    html_models = [row.model.name for row in price_list(current_plan=None).matrix]
    assert html_models == ["small"]


def test_only_prices_on_sale_can_be_bought(pro_plan):
    pro_plan.prices.filter(interval="month").update(archived_at=timezone.now())
    pro_plan.prices.filter(interval="year").update(stripe_price_id=None)
    _, pro = price_list(current_plan=None).offers
    assert pro.terms[MONTH].price_id == ""
    assert pro.terms[YEAR].price_id == ""


def test_yearly_prices_are_shown_by_the_month(pro_plan):
    _, pro = price_list(current_plan=None).offers
    assert pro.terms[YEAR].amount == "$15.83"
    assert pro.terms[YEAR].note == "$190 billed yearly"


def test_the_current_plan_is_marked_and_not_sold_again(signed_in):
    html = signed_in.get("/").content.decode()
    assert html.count("Your plan") == 1
    assert html.count("data-checkout=") == 2


def test_visitors_are_led_through_sign_up_to_their_price(client, pro_plan):
    price = pro_plan.prices.get(interval="month")
    assert f"next=%2F%3Fbuy%3D{price.stripe_price_id}" in client.get("/").content.decode()


def test_a_price_to_buy_opens_its_interval(client, pro_plan):
    yearly = pro_plan.prices.get(interval="year")
    response = client.get("/", {"buy": yearly.stripe_price_id})
    assert response.context["config"] == {"interval": "year", "buy": yearly.stripe_price_id}


def test_without_plans_the_page_says_so(client, db):
    assert "No plan is for sale" in client.get("/").content.decode()


def test_number_of_queries_does_not_grow_with_plans(client, pro_plan, django_assert_num_queries):
    for rank in range(40, 45):
        PriceFactory.create(plan=PlanFactory.create(rank=rank))
    with django_assert_num_queries(3):
        client.get("/")


def test_whoever_pays_already_is_led_to_the_portal(signed_in, pro_plan, user):
    larger = PlanFactory.create(code="max", name="Max", rank=40)
    PriceFactory.create(plan=larger)
    SubscriptionFactory.create(
        customer=CustomerFactory.create(user=user), price=pro_plan.prices.get(interval="month")
    )
    html = signed_in.get("/").content.decode()
    assert "data-checkout" not in html
    assert "Switch to Max" in html
