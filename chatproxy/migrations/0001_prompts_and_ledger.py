import django.core.validators
import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models

# Partitioned by month, which Django cannot declare. PostgreSQL wants the partition key in every
# unique constraint; ids carry their time, so (id, started_at) is as unique as id.
# The default partition takes rows that no month's partition is there for: nothing is ever refused.
LEDGER = """
CREATE TABLE chatproxy_chatrequest (
    id uuid NOT NULL,
    started_at timestamptz NOT NULL,
    user_id bigint NOT NULL,
    organization_id bigint,
    virtual_key_id bigint,
    api_token_id bigint,
    plan_code varchar(50) NOT NULL,
    model varchar(200) NOT NULL,
    served_model varchar(200) NOT NULL,
    client varchar(10) NOT NULL,
    is_stream boolean NOT NULL,
    idempotency_key varchar(255) NOT NULL,
    outcome varchar(10) NOT NULL,
    status smallint NOT NULL CHECK (status >= 0),
    error_code varchar(60) NOT NULL,
    decision jsonb,
    prompt_tokens integer NOT NULL CHECK (prompt_tokens >= 0),
    completion_tokens integer NOT NULL CHECK (completion_tokens >= 0),
    cost numeric(18, 10),
    is_estimated boolean NOT NULL,
    ttfb_ms integer CHECK (ttfb_ms >= 0),
    duration_ms integer NOT NULL CHECK (duration_ms >= 0),
    gateway_call_id varchar(64) NOT NULL,
    gateway_response_id varchar(128) NOT NULL,
    prompt_versions jsonb NOT NULL,
    PRIMARY KEY (id, started_at)
) PARTITION BY RANGE (started_at);
CREATE TABLE chatproxy_chatrequest_default PARTITION OF chatproxy_chatrequest DEFAULT;
CREATE INDEX chatrequest_by_user ON chatproxy_chatrequest (user_id, started_at DESC)
    INCLUDE (model, outcome, prompt_tokens, completion_tokens, cost);
CREATE INDEX chatrequest_by_model ON chatproxy_chatrequest (model, started_at DESC)
    INCLUDE (outcome, prompt_tokens, completion_tokens, cost);
CREATE INDEX chatrequest_by_response ON chatproxy_chatrequest (gateway_response_id);
CREATE INDEX chatrequest_by_time ON chatproxy_chatrequest USING brin (started_at);
"""


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
        ("accounts", "0001_initial"),
        ("plans", "0001_initial"),
    ]

    operations = [
        migrations.CreateModel(
            name="SystemPrompt",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=100, unique=True)),
                ("category", models.CharField(choices=[("base", "Base"), ("code", "Code"), ("ui", "UI")], max_length=10)),
                ("position", models.PositiveSmallIntegerField(default=100)),
                ("is_enabled", models.BooleanField(default=True, verbose_name="enabled")),
                ("starts_at", models.DateTimeField(blank=True, null=True)),
                ("ends_at", models.DateTimeField(blank=True, null=True)),
                ("challenger_percent", models.PositiveSmallIntegerField(default=0, validators=[django.core.validators.MaxValueValidator(100)])),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("updated_at", models.DateTimeField(auto_now=True)),
                ("gateway_models", models.ManyToManyField(blank=True, related_name="system_prompts", to="plans.gatewaymodel", verbose_name="models")),
                ("plans", models.ManyToManyField(blank=True, related_name="system_prompts", to="plans.plan")),
            ],
            options={"ordering": ["category", "position", "id"]},
        ),
        migrations.CreateModel(
            name="PromptVersion",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("number", models.PositiveIntegerField()),
                ("text", models.TextField()),
                ("note", models.CharField(blank=True, max_length=500)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("created_by", models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name="+", to=settings.AUTH_USER_MODEL)),
                ("prompt", models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name="versions", to="chatproxy.systemprompt")),
            ],
            options={
                "ordering": ["-number"],
                "constraints": [models.UniqueConstraint(fields=("prompt", "number"), name="prompt_version_number_once")],
            },
        ),
        migrations.AddField(
            model_name="systemprompt",
            name="published",
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="chatproxy.promptversion"),
        ),
        migrations.AddField(
            model_name="systemprompt",
            name="challenger",
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="chatproxy.promptversion"),
        ),
        migrations.AddConstraint(
            model_name="systemprompt",
            constraint=models.CheckConstraint(condition=models.Q(("challenger_percent__lte", 100)), name="prompt_split_is_a_percentage"),
        ),
        migrations.AddConstraint(
            model_name="systemprompt",
            constraint=models.CheckConstraint(condition=models.Q(("challenger__isnull", False), ("challenger_percent", 0), _connector="OR"), name="prompt_split_needs_a_challenger"),
        ),
        migrations.AddConstraint(
            model_name="systemprompt",
            constraint=models.CheckConstraint(condition=models.Q(("starts_at", None), ("ends_at", None), ("ends_at__gt", models.F("starts_at")), _connector="OR"), name="prompt_window_ends_after_it_starts"),
        ),
        migrations.CreateModel(
            name="ChatContent",
            fields=[
                ("request_id", models.UUIDField(editable=False, primary_key=True, serialize=False)),
                ("created_at", models.DateTimeField(db_index=True)),
                ("encrypted", models.TextField()),
                ("user", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name="+", to=settings.AUTH_USER_MODEL)),
            ],
        ),
        migrations.SeparateDatabaseAndState(
            database_operations=[
                migrations.RunSQL(LEDGER, "DROP TABLE chatproxy_chatrequest"),
            ],
            state_operations=[
                migrations.CreateModel(
                    name="ChatRequest",
                    fields=[
                        ("id", models.UUIDField(editable=False, primary_key=True, serialize=False)),
                        ("started_at", models.DateTimeField()),
                        ("virtual_key_id", models.BigIntegerField(null=True)),
                        ("api_token_id", models.BigIntegerField(null=True)),
                        ("plan_code", models.CharField(max_length=50, verbose_name="plan")),
                        ("model", models.CharField(max_length=200)),
                        ("served_model", models.CharField(blank=True, max_length=200)),
                        ("client", models.CharField(choices=[("chat", "Front end"), ("openai", "OpenAI-compatible")], max_length=10)),
                        ("is_stream", models.BooleanField(default=True, verbose_name="stream")),
                        ("idempotency_key", models.CharField(blank=True, max_length=255)),
                        ("outcome", models.CharField(choices=[("completed", "Completed"), ("refused", "Refused"), ("failed", "Failed"), ("broken", "Broken off"), ("abandoned", "Abandoned"), ("replayed", "Replayed")], max_length=10)),
                        ("status", models.PositiveSmallIntegerField()),
                        ("error_code", models.CharField(blank=True, max_length=60)),
                        ("decision", models.JSONField(null=True)),
                        ("prompt_tokens", models.PositiveIntegerField(default=0)),
                        ("completion_tokens", models.PositiveIntegerField(default=0)),
                        ("cost", models.DecimalField(decimal_places=10, max_digits=18, null=True)),
                        ("is_estimated", models.BooleanField(default=False, verbose_name="estimated")),
                        ("ttfb_ms", models.PositiveIntegerField(null=True)),
                        ("duration_ms", models.PositiveIntegerField()),
                        ("gateway_call_id", models.CharField(blank=True, max_length=64)),
                        ("gateway_response_id", models.CharField(blank=True, max_length=128)),
                        ("prompt_versions", models.JSONField(default=list)),
                        ("organization", models.ForeignKey(db_constraint=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name="chat_requests", to="accounts.organization")),
                        ("user", models.ForeignKey(db_constraint=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name="chat_requests", to=settings.AUTH_USER_MODEL)),
                    ],
                    options={
                        "ordering": ["-started_at"],
                        "indexes": [
                            models.Index(fields=["user", "-started_at"], include=("model", "outcome", "prompt_tokens", "completion_tokens", "cost"), name="chatrequest_by_user"),
                            models.Index(fields=["model", "-started_at"], include=("outcome", "prompt_tokens", "completion_tokens", "cost"), name="chatrequest_by_model"),
                            models.Index(fields=["gateway_response_id"], name="chatrequest_by_response"),
                        ],
                    },
                ),
            ],
        ),
    ]
