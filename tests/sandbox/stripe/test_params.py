import pytest

from sandbox.stripe.errors import InvalidRequest
from sandbox.stripe.params import decode_form, encode_form, nothing, spec


def check(name: str, form: str):
    return spec(name)(decode_form(form), "")


def test_nested_form_becomes_objects_and_lists():
    form = "items[0][price]=p1&items[1][price]=p2&metadata[a]=1&expand[]=customer&expand[]=x"
    assert decode_form(form) == {
        "items": [{"price": "p1"}, {"price": "p2"}],
        "metadata": {"a": "1"},
        "expand": ["customer", "x"],
    }


def test_list_with_more_than_ten_entries_keeps_its_order():
    form = "&".join(f"v[{n}]=x{n}" for n in range(12))
    assert decode_form(form)["v"] == [f"x{n}" for n in range(12)]


def test_encoding_and_decoding_agree():
    params = {"items": [{"price": "p", "quantity": 2}], "flag": True, "none": None}
    text = "&".join(f"{name}={value}" for name, value in encode_form(params))
    assert decode_form(text) == {
        "items": [{"price": "p", "quantity": "2"}],
        "flag": "true",
        "none": "",
    }


def test_values_get_their_types():
    given = check("SubscriptionUpdateParams", "cancel_at_period_end=true&items[0][quantity]=3")
    assert given == {"cancel_at_period_end": True, "items": [{"quantity": 3}]}


@pytest.mark.parametrize(
    ("form", "value"),
    [("trial_end=now", "now"), ("trial_end=1800000000", 1_800_000_000)],
)
def test_either_a_word_or_a_number(form: str, value: object):
    assert check("SubscriptionUpdateParams", form) == {"trial_end": value}


def test_empty_value_unsets_where_that_is_possible():
    assert check("SubscriptionUpdateParams", "pause_collection=&metadata[x]=") == {
        "pause_collection": None,
        "metadata": {"x": None},
    }


@pytest.mark.parametrize(
    ("name", "form", "param", "code"),
    [
        ("CustomerCreateParams", "colour=red", "colour", "parameter_unknown"),
        ("CustomerCreateParams", "address[moon]=1", "address[moon]", "parameter_unknown"),
        ("SubscriptionUpdateParams", "trial_end=soon", "trial_end", "parameter_invalid_integer"),
        ("SubscriptionUpdateParams", "cancel_at_period_end=1", "cancel_at_period_end", None),
        ("SubscriptionUpdateParams", "proration_behavior=maybe", "proration_behavior", None),
        ("CustomerCreateParams", "email=", "email", "parameter_invalid_empty"),
        ("PriceCreateParams", "product=prod_1", "currency", "parameter_missing"),
    ],
)
def test_what_stripe_refuses_is_refused(name: str, form: str, param: str, code: str | None):
    with pytest.raises(InvalidRequest) as refusal:
        check(name, form)
    assert (refusal.value.param, refusal.value.code) == (param, code)


def test_endpoint_without_parameters_takes_only_expand():
    assert nothing({"expand": ["customer"]}) == {"expand": ["customer"]}
    with pytest.raises(InvalidRequest):
        nothing({"limit": "3"})
