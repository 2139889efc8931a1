"""Hours in which nothing but refusals was counted under a name that no model has: such names were
made up by whoever asked, and are one line from now on."""

from django.db import migrations

FOLD = """
    WITH folded AS (
        DELETE FROM staffroom_hourlytraffic
        WHERE requests = refused AND model <> 'unknown'
            AND model NOT IN (SELECT name FROM plans_gatewaymodel)
        RETURNING hour, plan_code, requests, refused
    )
    INSERT INTO staffroom_hourlytraffic (hour, model, plan_code, requests, errors, refused,
        abandoned, prompt_tokens, completion_tokens, cost)
    SELECT hour, 'unknown', plan_code, sum(requests), 0, sum(refused), 0, 0, 0, 0
    FROM folded GROUP BY hour, plan_code
    ON CONFLICT (hour, model, plan_code) DO UPDATE SET
        requests = staffroom_hourlytraffic.requests + EXCLUDED.requests,
        refused = staffroom_hourlytraffic.refused + EXCLUDED.refused
"""


class Migration(migrations.Migration):

    dependencies = [
        ("staffroom", "0003_forget_closed_accounts"),
        ("plans", "0001_initial"),
    ]

    operations = [
        migrations.RunSQL(FOLD, migrations.RunSQL.noop, elidable=True),
    ]
