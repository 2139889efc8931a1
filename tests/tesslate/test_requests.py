"""Each request has an id, in its answer and in its log lines."""

import logging

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client, RequestFactory

from tesslate.lib.logcontext import current_fields
from tesslate.requests import request_log

pytestmark = pytest.mark.django_db


def test_answer_carries_a_request_id(client: Client):
    first, second = (client.get("/api/nowhere").headers["X-Request-ID"] for _ in range(2))

    assert len(first) == 32
    assert first != second


def test_well_formed_id_of_a_proxy_is_kept(client: Client):
    response = client.get("/api/nowhere", headers={"X-Request-ID": "proxy-1234.abc"})

    assert response.headers["X-Request-ID"] == "proxy-1234.abc"


@pytest.mark.parametrize("header", ["", "short", "a" * 65, "a b c d e f", "id\twith\ttab", "ü" * 9])
def test_id_that_does_not_belong_in_a_log_is_replaced(client: Client, header):
    response = client.get("/api/nowhere", headers={"X-Request-ID": header})

    assert response.headers["X-Request-ID"] != header


async def test_answer_carries_a_request_id_under_asgi(async_client: AsyncClient):
    response = await async_client.get("/api/nowhere", headers={"X-Request-ID": "proxy-1234"})

    assert response.headers["X-Request-ID"] == "proxy-1234"


def test_id_is_bound_while_the_request_runs():
    seen = []

    def view(request: HttpRequest) -> HttpResponse:
        seen.append(current_fields()["request_id"])
        return HttpResponse()

    response = request_log(view)(RequestFactory().get("/"))

    assert seen == [response.headers["X-Request-ID"]]
    assert "request_id" not in current_fields()


async def test_id_is_bound_while_an_asynchronous_request_runs():
    seen = []

    async def view(request: HttpRequest) -> HttpResponse:
        seen.append(current_fields()["request_id"])
        return HttpResponse()

    response = await request_log(view)(RequestFactory().get("/"))

    assert seen == [response.headers["X-Request-ID"]]


def test_each_request_is_one_line_without_its_query(client: Client, caplog):
    with caplog.at_level(logging.INFO, logger="tesslate.requests"):
        client.get("/api/nowhere?token=secret")

    lines = [record for record in caplog.records if record.name == "tesslate.requests"]
    assert [line.getMessage() for line in lines] == ["GET /api/nowhere 404"]
    assert lines[0].__dict__["duration_ms"] >= 0
