"""litellm.config.yaml, the gateway's production configuration, against its own rules."""

from typing import Any

import pytest
import yaml

from sandbox.litellm.catalogue import CatalogueError, read_catalogue
from tests.sandbox.litellm.conftest import CONFIG

FREE = {"groq-llama-3.1-8b", "basic-chat"}
PLUS = FREE | {"groq-llama-3.1-70b", "advanced-chat"}
PRO = PLUS | {"groq-llama-3.1-405b", "tesslate-uigen-v1", "llama-4-maverick"}
PROVIDERS = {"groq", "featherless_ai", "meta_llama"}


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    return dict(yaml.safe_load(CONFIG.read_text()))


def test_access_groups_are_the_plans_each_containing_the_smaller() -> None:
    groups = read_catalogue(CONFIG).groups
    assert groups == {"plan-free": FREE, "plan-plus": PLUS, "plan-pro": PRO}


def test_every_model_is_priced_limited_and_keyed_from_the_environment(
    config: dict[str, Any],
) -> None:
    for entry in config["model_list"]:
        params = entry["litellm_params"]
        assert params["model"].partition("/")[0] in PROVIDERS
        assert 0 < params["input_cost_per_token"] < 0.0001
        assert 0 < params["output_cost_per_token"] < 0.0001
        assert params["rpm"] > 0
        assert params["tpm"] > 0
        assert params["api_key"].startswith("os.environ/")


def test_every_model_of_a_plan_falls_back_to_a_backup_at_another_provider(
    config: dict[str, Any],
) -> None:
    models = read_catalogue(CONFIG).models
    fallbacks = {
        name: backups
        for entry in config["router_settings"]["fallbacks"]
        for name, backups in entry.items()
    }
    assert set(fallbacks) == PRO
    for name, backups in fallbacks.items():
        assert backups
        for backup in backups:
            assert models[backup].provider != models[name].provider
            assert models[backup].groups == ()


def test_router_and_database_are_as_designed(config: dict[str, Any]) -> None:
    router, general = config["router_settings"], config["general_settings"]
    expected = {
        "routing_strategy": "latency-based-routing",
        "allowed_fails": 3,
        "cooldown_time": 60,
        "num_retries": 2,
        "timeout": 600,
        "enable_pre_call_checks": True,
    }
    assert {name: router[name] for name in expected} == expected
    assert general["store_model_in_db"] is True
    assert general["store_prompts_in_spend_logs"] is True
    assert general["database_connection_pool_limit"] == 20
    for secret in ("master_key", "database_url"):
        assert general[secret].startswith("os.environ/")
    # Without it every process counts on its own (GATEWAY.md).
    assert general["coordination_redis"]["host"] == router["redis_host"] == "os.environ/REDIS_HOST"


def test_prices_come_from_the_configuration_or_a_default(tmp_path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        "model_list:\n"
        "- {model_name: a, litellm_params: {model: x/a, input_cost_per_token: 1e-6}}\n"
        "- {model_name: a, litellm_params: {model: y/a}, model_info: {access_groups: [g]}}\n"
    )
    catalogue = read_catalogue(path)
    model = catalogue.models["a"]
    assert (model.target, model.input_cost, model.output_cost) == ("x/a", 1e-6, 2e-6)
    assert catalogue.groups == {"g": {"a"}}
    assert catalogue.metrics_need_a_key


@pytest.mark.parametrize("text", ["", "[]", "model_list: {}", "model_list: [{model_name: a}]", "{"])
def test_nonsense_is_refused_by_name(tmp_path, text: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(CatalogueError, match=r"config\.yaml"):
        read_catalogue(path)
    with pytest.raises(CatalogueError):
        read_catalogue(tmp_path / "none.yaml")
