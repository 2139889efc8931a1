"""The HTTP interface as Stripe's own: keys, errors, idempotency, versions, paging."""

import base64
from urllib.parse import urlencode

import httpx
import orjson
import pytest

from sandbox.stripe.api import Api, Reply, Request
from sandbox.stripe.engine import StripeEngine
from sandbox.stripe.params import encode_form
from sandbox.stripe.testing import RunningStripe, stripe_sandbox

KEY = "sk_test_1234567890abcdefghij"


class Caller:
    def __init__(self) -> None:
        self.engine = StripeEngine(seed=1)
        self.api = Api(self.engine.world, KEY)

    def __call__(self, method: str, path: str, params=None, **headers: str) -> Reply:
        text = urlencode(encode_form(params or {}))
        given = {"authorization": f"Bearer {KEY}"}
        given |= {name.replace("_", "-").lower(): value for name, value in headers.items()}
        path, _, query = path.partition("?")
        return self.api.handle(
            Request(
                method,
                path,
                query if method == "POST" else text or query,
                given,
                text.encode() if method == "POST" else b"",
            )
        )

    def json(self, method: str, path: str, params=None, **headers: str):
        reply = self(method, path, params, **headers)
        assert reply.status == 200, reply.body
        return orjson.loads(reply.body)


@pytest.fixture
def call() -> Caller:
    return Caller()


def error(reply: Reply):
    return orjson.loads(reply.body)["error"]


def test_without_a_key_401(call: Caller):
    reply = call("GET", "/v1/customers", authorization="")
    assert (reply.status, error(reply)["type"]) == (401, "invalid_request_error")


def test_with_another_key_401_and_it_is_not_repeated(call: Caller):
    reply = call("GET", "/v1/customers", authorization="Bearer sk_test_wrong_0123456789_secret")
    assert reply.status == 401
    assert "0123456789" not in reply.body.decode()


def test_key_as_basic_user_name(call: Caller):
    basic = "Basic " + base64.b64encode(f"{KEY}:".encode()).decode()
    assert call("GET", "/v1/customers", authorization=basic).status == 200


def test_unknown_address_404(call: Caller):
    reply = call("GET", "/v1/moons")
    assert reply.status == 404
    assert error(reply)["message"].startswith("Unrecognized request URL (GET: /v1/moons)")


def test_unknown_object_404(call: Caller):
    reply = call("GET", "/v1/subscriptions/sub_nope")
    said = error(reply)
    assert (reply.status, said["code"], said["param"]) == (404, "resource_missing", "id")
    assert said["message"] == "No such subscription: 'sub_nope'"


def test_every_answer_has_a_request_id(call: Caller):
    for reply in (call("GET", "/v1/customers"), call("GET", "/v1/moons")):
        assert reply.headers["Request-Id"].startswith("req_")


def test_events_name_the_request_and_its_idempotency_key(call: Caller):
    reply = call("POST", "/v1/customers", {"email": "a@b.c"}, idempotency_key="k1")
    event = call.engine.events()[-1]
    assert (event.request, event.idempotency_key) == (reply.headers["Request-Id"], "k1")
    call.engine.advance(days=1)
    sub = call.engine.subscribe(
        call.engine.create_customer()["id"], call.engine.create_price(unit_amount=1)["id"]
    )
    call.engine.advance_past_renewal(sub["id"])
    assert call.engine.events()[-1].request is None


# --- idempotency


def test_same_key_and_parameters_one_effect_and_the_same_answer(call: Caller):
    first = call("POST", "/v1/customers", {"email": "a@b.c"}, idempotency_key="k")
    again = call("POST", "/v1/customers", {"email": "a@b.c"}, idempotency_key="k")
    assert again.body == first.body
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["Original-Request"] == first.headers["Request-Id"]
    assert "Idempotent-Replayed" not in first.headers
    assert len(call.engine.objects("customer")) == 1


def test_same_key_with_other_parameters_is_refused(call: Caller):
    call("POST", "/v1/customers", {"email": "a@b.c"}, idempotency_key="k")
    reply = call("POST", "/v1/customers", {"email": "other@b.c"}, idempotency_key="k")
    assert (reply.status, error(reply)["type"]) == (400, "idempotency_error")
    assert len(call.engine.objects("customer")) == 1


def test_request_refused_for_its_parameters_does_not_use_up_the_key(call: Caller):
    assert call("POST", "/v1/customers", {"moon": "x"}, idempotency_key="k").status == 400
    assert call("POST", "/v1/customers", {"email": "a@b.c"}, idempotency_key="k").status == 200


def test_declined_charge_is_remembered_under_its_key(call: Caller):
    customer = call.engine.create_customer()["id"]
    sub = call.engine.subscribe(customer, call.engine.create_price(unit_amount=500)["id"])
    call.engine.fail_payments(customer, 2)
    call.engine.advance_past_renewal(sub["id"])
    path = f"/v1/invoices/{call.engine.object(sub['id'])['latest_invoice']}/pay"
    first = call("POST", path, idempotency_key="pay")
    assert (first.status, error(first)["type"]) == (402, "card_error")
    again = call("POST", path, idempotency_key="pay")
    assert (again.status, again.headers.get("Idempotent-Replayed")) == (402, "true")
    assert call("POST", path, idempotency_key="pay-2").status == 200


def test_key_is_forgotten_after_a_day(call: Caller):
    call("POST", "/v1/customers", {"email": "a@b.c"}, idempotency_key="k")
    call.engine.advance(days=1, seconds=1)
    call("POST", "/v1/customers", {"email": "a@b.c"}, idempotency_key="k")
    assert len(call.engine.objects("customer")) == 2


# --- paging


@pytest.fixture
def many(call: Caller) -> Caller:
    for number in range(25):
        call.engine.create_customer(method=None, email=f"c{number}@x.test")
    return call


def emails(page) -> list[str]:
    return [customer["email"].split("@")[0] for customer in page["data"]]


def test_lists_come_newest_first_ten_at_a_time(many: Caller):
    page = many.json("GET", "/v1/customers")
    assert emails(page) == [f"c{n}" for n in range(24, 14, -1)]
    assert (page["has_more"], page["object"], page["url"]) == (True, "list", "/v1/customers")


def test_pages_follow_each_other_without_gap_or_overlap(many: Caller):
    seen: list[str] = []
    params: dict[str, object] = {"limit": 7}
    while True:
        page = many.json("GET", "/v1/customers", params)
        seen += emails(page)
        if not page["has_more"]:
            break
        params["starting_after"] = page["data"][-1]["id"]
    assert seen == [f"c{n}" for n in range(24, -1, -1)]


def test_pages_backwards(many: Caller):
    oldest = many.json("GET", "/v1/customers", {"limit": 100})["data"][-1]["id"]
    page = many.json("GET", "/v1/customers", {"limit": 3, "ending_before": oldest})
    assert emails(page) == ["c3", "c2", "c1"]
    assert page["has_more"] is True


def test_objects_made_while_paging_do_not_shift_the_pages(many: Caller):
    first = many.json("GET", "/v1/customers", {"limit": 5})
    many.engine.create_customer(method=None, email="late@x.test")
    after = first["data"][-1]["id"]
    second = many.json("GET", "/v1/customers", {"limit": 5, "starting_after": after})
    assert emails(second) == [f"c{n}" for n in range(19, 14, -1)]


@pytest.mark.parametrize("limit", [0, 101])
def test_limit_has_bounds(many: Caller, limit: int):
    reply = many("GET", "/v1/customers", {"limit": limit})
    assert (reply.status, error(reply)["param"]) == (400, "limit")


def test_unknown_cursor_is_refused(many: Caller):
    reply = many("GET", "/v1/customers", {"starting_after": "cus_nope"})
    assert (reply.status, error(reply)["param"]) == (404, "starting_after")


def test_filter_by_time(many: Caller):
    moment = many.engine.now()
    many.engine.advance(100)
    many.engine.create_customer(method=None, email="late@x.test")
    assert len(many.json("GET", "/v1/customers", {"created": {"gt": moment}})["data"]) == 1
    old = many.json("GET", "/v1/customers", {"created": {"lte": moment}, "limit": 100})
    assert len(old["data"]) == 25


# --- events


def test_events_are_kept_for_thirty_days(call: Caller):
    call.engine.create_customer(method=None)
    old = call.engine.events()[-1].id
    call.engine.advance(days=29)
    assert [e["id"] for e in call.json("GET", "/v1/events")["data"]] == [old]
    call.engine.advance(days=2)
    assert call.json("GET", "/v1/events")["data"] == []
    assert call("GET", f"/v1/events/{old}").status == 404


def test_events_are_filtered_by_type_types_and_time(call: Caller):
    call.engine.create_price(unit_amount=1)
    call.engine.create_customer()
    listed = call.json("GET", "/v1/events", {"type": "customer.*"})["data"]
    assert {event["type"] for event in listed} == {"customer.created", "customer.updated"}
    listed = call.json("GET", "/v1/events", {"types": ["price.created", "plan.created"]})["data"]
    assert [event["type"] for event in listed] == ["price.created", "plan.created"]
    later = {"created": {"gte": call.engine.now() + 1}}
    assert call.json("GET", "/v1/events", later)["data"] == []
    reply = call("GET", "/v1/events", {"type": "a", "types": ["b"]})
    assert reply.status == 400


# --- expanding, versions


def test_expansion_reaches_through_several_objects(call: Caller):
    customer = call.engine.create_customer()["id"]
    sub = call.engine.subscribe(customer, call.engine.create_price(unit_amount=500)["id"])
    paths = ["customer", "latest_invoice.payments", "items.data.price.product"]
    shown = call.json("GET", f"/v1/subscriptions/{sub['id']}", {"expand": paths})
    assert shown["customer"]["id"] == customer
    assert shown["latest_invoice"]["payments"]["data"][0]["status"] == "paid"
    assert shown["items"]["data"][0]["price"]["product"]["name"] == "Plan"


def test_expansion_in_lists(call: Caller):
    customer = call.engine.create_customer()["id"]
    call.engine.subscribe(customer, call.engine.create_price(unit_amount=500)["id"])
    page = call.json("GET", "/v1/subscriptions", {"expand": ["data.customer"]})
    assert page["data"][0]["customer"]["id"] == customer


@pytest.mark.parametrize("path", ["email", "moon", "metadata"])
def test_what_cannot_be_expanded_is_refused(call: Caller, path: str):
    customer = call.engine.create_customer(email="a@b.c")["id"]
    reply = call("GET", f"/v1/customers/{customer}", {"expand": [path]})
    assert (reply.status, error(reply)["param"]) == (400, "expand")


def test_answer_follows_the_version_header(call: Caller):
    customer = call.engine.create_customer()["id"]
    sub = call.engine.subscribe(customer, call.engine.create_price(unit_amount=500)["id"])
    path = f"/v1/subscriptions/{sub['id']}"
    assert "current_period_end" not in call.json("GET", path)
    old = call("GET", path, stripe_version="2025-02-24.acacia")
    assert "current_period_end" in orjson.loads(old.body)
    assert old.headers["Stripe-Version"] == "2025-02-24.acacia"
    assert call("GET", path, stripe_version="tomorrow").status == 400


# --- served


@pytest.fixture(scope="module")
def running():
    with stripe_sandbox() as running:
        yield running


def test_faults_come_in_stripes_words(running: RunningStripe):
    fault = {"route": "GET /v1/customers", "kind": "status", "status": 429, "times": 1}
    running.control("POST", "faults", fault)
    reply = running.http.get("/v1/customers")
    assert reply.status_code == 429
    assert reply.json()["error"]["code"] == "rate_limit"
    assert running.http.get("/v1/customers").status_code == 200


def test_lost_answer_is_replayed_for_the_same_key(running: RunningStripe):
    fault = {"route": "POST /v1/customers", "kind": "reset", "after_effect": True, "times": 1}
    running.control("POST", "faults", fault)
    headers = {"Idempotency-Key": "lost"}
    with pytest.raises(httpx.TransportError):
        running.http.post("/v1/customers", data={"email": "lost@b.c"}, headers=headers)
    reply = running.http.post("/v1/customers", data={"email": "lost@b.c"}, headers=headers)
    assert reply.headers["Idempotent-Replayed"] == "true"
    assert len(running.http.get("/v1/customers?email=lost@b.c").json()["data"]) == 1


def test_controls_need_the_key(running: RunningStripe):
    for path in ("clock", "deliveries", "faults"):
        assert httpx.get(f"{running.url}/sandbox/{path}").status_code == 401


def test_healthcheck_needs_none(running: RunningStripe):
    assert httpx.get(f"{running.url}/healthcheck").status_code == 200
