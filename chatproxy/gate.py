"""Who may ask what: from a request's body to the bytes that the gateway gets, in pure steps.

    read      body -> Call, or a 400 that names the field
    admit     Call + Caller + Catalogue -> the plan's terms, or the rule that says no
    compose   Call + terms + prompts -> payload for the gateway

Nothing here waits, queries or sends, so every rule is tested as a table.
"""

from dataclasses import dataclass
from typing import Any

import orjson

from chatproxy.callers import Caller
from chatproxy.catalogue import Catalogue, PlanTerms
from chatproxy.errors import (
    BadJson,
    KeyOutOfStep,
    MessagesTooLarge,
    ModelDisabled,
    ModelNotInPlan,
    SystemMessageRefused,
    UnknownModel,
)
from chatproxy.prompts import Rendered
from plans.models import Plan
from tesslate.lib.errors import InvalidRequest

MOST_MESSAGES = 10_000
# Characters of text in all messages together; images travel as other parts.
MOST_TEXT = 2_000_000
MOST_CHOICES = 16
LONGEST_MODEL_NAME = 200
ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
SYSTEM_ROLES = frozenset({"system", "developer"})
# The gateway would open connections on a caller's behalf for any other kind of tool.
TOOL_TYPES = frozenset({"function", "custom"})

# Fields that LiteLLM obeys but no caller may set: whose request it is, which credentials and
# addresses it uses, what it costs, how often it is tried, what is logged. Everything not named
# here or by a prefix passes through, so that new parameters of models work without us.
DENIED = frozenset(
    """
    user metadata tags safety_identifier end_user customer organization user_id team_id agent_id
    api_key api_base base_url api_version api_type credentials credential_name provider
    custom_llm_provider client ssl_verify proxy headers extra_headers extra_body extra_query
    default_headers mock_response mock_tool_calls mock_timeout mock_delay
    mock_testing_fallbacks mock_testing_context_fallbacks mock_testing_content_policy_fallbacks
    mock_testing_rate_limit_error guardrails guardrail_config policies disable_global_guardrails
    fallbacks context_window_fallbacks content_policy_fallbacks default_fallbacks
    disable_fallbacks model_list model_info model_group router_settings specific_deployment
    deployment_id num_retries max_retries max_fallbacks retry_policy retry_after timeout
    request_timeout stream_timeout force_timeout cooldown_time allowed_model_region region_name
    cache caching cache_key preset_cache_key no-log no_log
    secret_fields proxy_server_request preprocessing router allowed_openai_params drop_params
    additional_drop_params enforced_params input_cost_per_token output_cost_per_token
    input_cost_per_second output_cost_per_second rpm tpm budget_id max_budget budget_duration
    weight order configurable_clientside_auth_params use_in_pass_through use_litellm_proxy
    merge_reasoning_content_in_choices logger_fn verbose success_callback failure_callback
    callbacks service_callback turn_off_message_logging prompt_id prompt_variables prompt_label
    prompt_version initial_prompt_value roles final_prompt_value bos_token eos_token
    hf_model_name vector_store_ids no_log ttl namespace s-maxage id text_completion acompletion
    call_type function_id shared_session
    """.split()  # noqa: SIM905 - a hundred quoted names would not read better
)
DENIED_PREFIXES = ("litellm", "aws_", "azure_", "vertex_", "watsonx_", "langfuse", "mock_", "_")


@dataclass(slots=True)
class Call:
    """A request that makes sense. ``body`` is the parsed object, to be changed freely."""

    body: dict[str, Any]
    model: str
    # What the caller names the model in.
    model_field: str
    messages: list[dict[str, Any]]
    stream: bool
    # The caller asked for the usage chunk itself.
    wants_usage: bool
    has_system: bool
    n: int


def read_front_end(body: bytes) -> Call:
    """``/api/proxy/chat``: the model is ``selectedModelId``, and answers stream unless refused."""
    content = _object(body)
    selected = content.pop("selectedModelId", None)
    if selected is not None:
        content["model"] = selected
    return _call(content, model_field="selectedModelId", streams=True)


def read_openai(body: bytes) -> Call:
    """``/api/proxy/v1/chat/completions``: OpenAI's request, which streams only when told to."""
    return _call(_object(body), model_field="model", streams=False)


def _object(body: bytes) -> dict[str, Any]:
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise BadJson from None
    if not isinstance(content, dict):
        raise BadJson
    return content


def _call(content: dict[str, Any], *, model_field: str, streams: bool) -> Call:
    model = content.get("model")
    if not isinstance(model, str) or not model:
        raise InvalidRequest("Name the model.", param=model_field)
    messages = content.get("messages")
    if not isinstance(messages, list) or not messages:
        raise InvalidRequest("Send at least one message.", param="messages")
    stream = content.get("stream", streams)
    if stream is None:
        stream = streams
    if not isinstance(stream, bool):
        raise InvalidRequest("True or false.", param="stream")
    options = content.get("stream_options")
    _check_numbers(content)
    _check_tools(content.get("tools"))
    return Call(
        body=content,
        model=model[:LONGEST_MODEL_NAME].replace("\x00", ""),
        model_field=model_field,
        messages=messages,
        stream=stream,
        wants_usage=isinstance(options, dict) and options.get("include_usage") is True,
        has_system=_check_messages(messages),
        n=content.get("n") or 1,
    )


def _check_messages(messages: list[Any]) -> bool:
    """Raise for what is no message; say whether any of them is a system message."""
    if len(messages) > MOST_MESSAGES:
        raise MessagesTooLarge(f"More than {MOST_MESSAGES} messages.", param="messages")
    has_system = False
    size = 0
    for n, message in enumerate(messages):
        role = message.get("role") if isinstance(message, dict) else None
        if not isinstance(role, str) or role not in ROLES:
            raise InvalidRequest("Not a message with a known role.", param=f"messages[{n}]")
        if role in SYSTEM_ROLES:
            has_system = True
        content = message.get("content")
        if role == "user" and not content:
            raise InvalidRequest("An empty message.", param=f"messages[{n}].content")
        size += _text_size(content, n)
    if size > MOST_TEXT:
        raise MessagesTooLarge(f"More than {MOST_TEXT} characters of text.", param="messages")
    return has_system


def _text_size(content: object, n: int) -> int:
    if isinstance(content, str):
        return len(content)
    if content is None:  # an assistant's message that only calls tools
        return 0
    if not isinstance(content, list):
        raise InvalidRequest("Neither text nor a list of parts.", param=f"messages[{n}].content")
    size = 0
    for part in content:
        if not isinstance(part, dict):
            raise InvalidRequest("Holds something else than parts.", param=f"messages[{n}].content")
        text = part.get("text")
        if isinstance(text, str):
            size += len(text)
    return size


def _check_numbers(content: dict[str, Any]) -> None:
    for name in ("max_tokens", "max_completion_tokens"):
        value = content.get(name)
        if value is not None and (type(value) is not int or value < 1):
            raise InvalidRequest("A whole number, at least 1.", param=name)
    temperature = content.get("temperature")
    if temperature is not None and (
        type(temperature) not in (int, float) or not 0 <= temperature <= 2
    ):
        raise InvalidRequest("A number from 0 to 2.", param="temperature")
    n = content.get("n")
    if n is not None and (type(n) is not int or not 1 <= n <= MOST_CHOICES):
        raise InvalidRequest(f"A whole number from 1 to {MOST_CHOICES}.", param="n")


def _check_tools(tools: object) -> None:
    if tools is None:
        return
    if not isinstance(tools, list):
        raise InvalidRequest("A list of tools.", param="tools")
    for n, tool in enumerate(tools):
        if not isinstance(tool, dict) or tool.get("type") not in TOOL_TYPES:
            raise InvalidRequest("Only function and custom tools.", param=f"tools[{n}]")


def admit(call: Call, caller: Caller, catalogue: Catalogue) -> PlanTerms:
    """The plan under which this request may go ahead. Raises the rule that says no."""
    if caller.refusal is not None:
        raise caller.refusal
    plan = catalogue.plans.get(caller.plan_id)
    if plan is None:  # a plan made a moment ago
        raise KeyOutOfStep(retry_after=1)
    if call.model not in plan.models:
        raise refuse_model(call.model, plan, catalogue, field=call.model_field)
    if call.has_system and plan.client_system_messages == Plan.ClientSystemMessages.REFUSE:
        raise SystemMessageRefused(param="messages", details={"plan": plan.code})
    return plan


def refuse_model(
    model: str, plan: PlanTerms, catalogue: Catalogue, *, field: str
) -> UnknownModel | ModelDisabled | ModelNotInPlan:
    """Why this plan does not give that model. ``field`` is what the caller names it in."""
    if model not in catalogue.models:
        return UnknownModel(param=field)
    if model in catalogue.disabled:
        return ModelDisabled(param=field)
    upgrade = catalogue.upgrade_for(plan, model)
    return ModelNotInPlan(
        param=field,
        details={"rule": "models", "plan": plan.code, "upgrade_to": upgrade},
    )


def compose(call: Call, plan: PlanTerms, prompts: Rendered) -> bytes:
    """The gateway's request: what the caller asked, without what only we may say."""
    body = call.body
    payload = {
        name: value
        for name, value in body.items()
        if name not in DENIED and not name.startswith(DENIED_PREFIXES)
    }
    payload["model"] = call.model
    payload["stream"] = call.stream
    if call.stream:
        options = body.get("stream_options")
        kept = options if isinstance(options, dict) else {}
        payload["stream_options"] = {**kept, "include_usage": True}
    else:
        payload.pop("stream_options", None)
    _set_limits(payload, plan)
    payload["messages"] = _with_prompts(call, plan, prompts)
    try:
        return orjson.dumps(payload)
    except orjson.JSONEncodeError:  # nested deeper than any real request
        raise BadJson from None


def _set_limits(payload: dict[str, Any], plan: PlanTerms) -> None:
    named = False
    for name in ("max_tokens", "max_completion_tokens"):
        value = payload.get(name)
        if value is None:
            payload.pop(name, None)
        else:
            named = True
            payload[name] = min(value, plan.max_tokens_ceiling)
    if not named:
        payload["max_tokens"] = min(plan.default_max_tokens, plan.max_tokens_ceiling)
    temperature = payload.get("temperature")
    payload["temperature"] = (
        plan.default_temperature
        if temperature is None
        else min(temperature, plan.temperature_ceiling)
    )


def _with_prompts(call: Call, plan: PlanTerms, prompts: Rendered) -> list[Any]:
    """Ours first; the caller's own system messages stay where they are or are joined to ours."""
    if not prompts.text:
        return call.messages
    if not (call.has_system and plan.client_system_messages == Plan.ClientSystemMessages.APPEND):
        return [{"role": "system", "content": orjson.Fragment(prompts.json)}, *call.messages]
    texts = [prompts.text]
    others = []
    for message in call.messages:
        if message["role"] in SYSTEM_ROLES:
            texts.append(_text_of(message.get("content")))
        else:
            others.append(message)
    return [{"role": "system", "content": "\n\n".join(filter(None, texts))}, *others]


def _text_of(content: object) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return "\n".join(part["text"] for part in content if isinstance(part.get("text"), str))
