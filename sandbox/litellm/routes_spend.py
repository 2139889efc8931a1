"""What was spent: /spend/logs, /spend/logs/v2, /user/daily/activity."""

import calendar
import time
from typing import Any

from sandbox.litellm import activity, errors
from sandbox.litellm.durations import iso
from sandbox.litellm.records import token_of
from sandbox.litellm.requests import Request
from sandbox.litellm.schema import query_int
from sandbox.litellm.spend import Call, Wanted

DATE = "%Y-%m-%d"
MOMENT = "%Y-%m-%d %H:%M:%S"
METADATA_NULLS = [
    *["batch_models", "actor_agent_id", "azure_spillover", "router_metadata", "target_agent_id"],
    *["billing_agent_id", "eval_information", "routing_decision", "autorouter_savings"],
    *["compression_savings", "spend_logs_metadata", "user_api_key_org_id", "agent_execution_mode"],
    *["internal_call_origin", "proxy_server_request", "guardrail_information"],
    *["mcp_tool_call_metadata", "cold_storage_object_key", "user_api_key_project_id"],
    *["user_api_key_team_alias", "litellm_overhead_time_ms"],
]


def logs(request: Request) -> Any:
    """Not by pages. With dates alone it gives a sum a day instead of rows."""
    query, log = request.query, request.gateway.store.spend
    first, last = query.get("start_date"), query.get("end_date")
    api_key = query.get("api_key")
    wanted = Wanted(
        since=_moment(first) if first else None,
        until=_moment(last, end_of_day=True) if last else None,
        api_key=token_of(api_key) if api_key else None,
        user_id=query.get("user_id"),
        request_id=query.get("request_id"),
    )
    calls = log.calls(wanted)
    if first and last and query.get("summarize", "true").lower() == "true":
        return _per_day(calls)
    return [{**shown(call, zone="Z"), "messages": {}, "response": {}} for call in calls]


def logs_by_page(request: Request) -> Any:
    query, log = request.query, request.gateway.store.spend
    page = query_int(query, "page", 1)
    size = query_int(query, "page_size", 50, high=1000)
    if not query.get("start_date") or not query.get("end_date"):
        raise errors.error(400, "Start date and end date are required", "bad_request")
    wanted = Wanted(
        since=_moment(query["start_date"]),
        until=_moment(query["end_date"]),
        api_key=query.get("api_key"),
        user_id=query.get("user_id"),
        request_id=query.get("request_id"),
        status=query.get("status_filter"),
    )
    total = log.count(wanted)
    calls = log.calls(wanted, limit=size, offset=(page - 1) * size)
    return {
        "data": [shown(call, zone="+00:00") for call in calls],
        "total": total,
        "page": page,
        "page_size": size,
        "total_pages": -(-total // size),
        "total_is_capped": False,
    }


def daily_activity(request: Request) -> Any:
    """Pages count rows of the daily table, and the metadata's totals are of the page alone."""
    query, store = request.query, request.gateway.store
    page = query_int(query, "page", 1)
    size = query_int(query, "page_size", 50, high=1000)
    rows = _daily_rows(request)
    part = rows[(page - 1) * size : page * size]
    pages = -(-len(rows) // size)
    metadata = {
        **activity.totals(part),
        "page": page,
        "total_pages": pages,
        "has_more": page < pages,
        "api_key_limit": None,
        "total_api_keys": None,
    }
    return {"results": activity.days(store, part), "metadata": metadata}


def daily_activity_aggregated(request: Request) -> Any:
    rows = _daily_rows(request)
    metadata = {
        **activity.totals(rows),
        "page": 1,
        "total_pages": 1,
        "has_more": False,
        "api_key_limit": 100,
        "total_api_keys": len({row[1] for row in rows}),
    }
    return {"results": activity.days(request.gateway.store, rows), "metadata": metadata}


def _daily_rows(request: Request) -> list[activity.Row]:
    query = request.query
    first, last = query.get("start_date"), query.get("end_date")
    if not first or not last:
        raise errors.detail_error(400, "Please provide start_date and end_date")
    for day in (first, last):
        try:
            time.strptime(day, DATE)
        except ValueError:
            text = "start_date and end_date must be valid YYYY-MM-DD dates"
            raise errors.detail_error(400, text) from None
    user_id = query.get("user_id")
    if request.view is not None:
        user_id = request.view.key.user_id
        if user_id is None:
            text = (
                "Service-account keys cannot query user analytics. "
                "Use a user-bound key, or call as a proxy admin."
            )
            raise errors.detail_error(403, text)
    return request.gateway.store.spend.days(
        first, last, api_key=query.get("api_key"), user_id=user_id, model=query.get("model")
    )


def shown(call: Call, *, zone: str) -> dict[str, Any]:
    """A row of the log. `model` is what the provider calls it, `model_group` our name for it."""
    good = call.status == "success"
    return {
        "request_id": call.request_id,
        "call_type": "acompletion",
        "api_key": call.api_key,
        "spend": call.spend,
        "total_tokens": call.prompt_tokens + call.completion_tokens,
        "prompt_tokens": call.prompt_tokens,
        "completion_tokens": call.completion_tokens,
        "startTime": iso(call.started, zone=zone),
        "endTime": iso(call.ended, zone=zone),
        "request_duration_ms": round((call.ended - call.started) * 1000),
        "completionStartTime": iso(call.first or call.ended, zone=zone),
        "model": call.model,
        "model_id": call.model_id,
        "model_group": call.model_group,
        "custom_llm_provider": call.provider,
        "api_base": "",
        "user": call.user_id or "",
        "metadata": {
            **dict.fromkeys(METADATA_NULLS),
            "status": None if good else "failure",
            "user_api_key": call.api_key,
            "user_api_key_alias": call.key_alias,
            "user_api_key_team_id": call.team_id,
            "user_api_key_user_id": call.user_id,
            "litellm_call_id": call.call_id,
            "usage_object": _usage(call) if good else {},
            "cost_breakdown": _costs(call) if good else None,
            "error_information": _error(call) if call.error_code else None,
            "original_model_group": call.model_group if good else None,
            "attempted_retries": 0 if good else None,
            "attempted_fallbacks": 0 if good else None,
        },
        "cache_hit": "None",
        "cache_key": "Cache OFF",
        "request_tags": [],
        "team_id": call.team_id or "",
        "organization_id": "",
        "end_user": call.end_user or "",
        "requester_ip_address": "127.0.0.1",
        "session_id": call.call_id,
        "status": call.status,
        "mcp_namespaced_tool_name": None,
        "agent_id": None,
        "litellm_call_id": call.call_id,
    }


def _usage(call: Call) -> dict[str, Any]:
    return {
        "total_tokens": call.prompt_tokens + call.completion_tokens,
        "prompt_tokens": call.prompt_tokens,
        "completion_tokens": call.completion_tokens,
        "prompt_tokens_details": None,
        "completion_tokens_details": None,
    }


def _costs(call: Call) -> dict[str, Any]:
    return {
        "input_cost": call.input_cost,
        "output_cost": call.output_cost,
        "total_cost": call.spend,
        "original_cost": call.spend,
        "tool_usage_cost": 0.0,
    }


def _error(call: Call) -> dict[str, Any]:
    return {
        "traceback": "",
        "error_code": str(call.error_code),
        "error_class": call.error_class,
        "error_message": call.error_message,
        "error_rate_limit_type": call.rate_type,
    }


def _per_day(calls: list[Call]) -> list[dict[str, Any]]:
    result: dict[str, dict[str, Any]] = {}
    for call in calls:
        date = time.strftime(DATE, time.gmtime(call.started))
        empty: dict[str, Any] = {"startTime": date, "spend": 0.0, "users": {}, "models": {}}
        day = result.setdefault(date, empty)
        day["spend"] += call.spend
        day[call.api_key] = day.get(call.api_key, 0.0) + call.spend
        for table, name in (("users", call.user_id or ""), ("models", call.model)):
            day[table][name] = day[table].get(name, 0.0) + call.spend
    return list(result.values())


def _moment(text: str, *, end_of_day: bool = False) -> float:
    for shape in (MOMENT, DATE):
        try:
            moment = calendar.timegm(time.strptime(text, shape))
        except ValueError:
            continue
        return moment + (86400 if end_of_day and shape == DATE else 0)
    wanted = "'YYYY-MM-DD' or 'YYYY-MM-DD HH:MM:SS'"
    raise errors.error(
        400,
        f"Invalid date format: {text}. Expected: {wanted}",
        "internal_server_error",
        None,
    )
