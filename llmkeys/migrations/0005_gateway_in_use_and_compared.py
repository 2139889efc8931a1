from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('llmkeys', '0004_usage'),
    ]

    operations = [
        migrations.RemoveField(model_name='gatewaystate', name='failures'),
        migrations.RemoveField(model_name='gatewaystate', name='last_ok_at'),
        migrations.AddField(
            model_name='gatewaystate',
            name='in_use_since',
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='gatewaystate',
            name='compared_at',
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='gatewaystate',
            name='comparison',
            field=models.JSONField(blank=True, default=dict),
        ),
        migrations.AddField(
            model_name='gatewaystate',
            name='differences',
            field=models.JSONField(blank=True, default=list),
        ),
        migrations.AddConstraint(
            model_name='gatewaystate',
            constraint=models.UniqueConstraint(models.Value(1), condition=models.Q(('in_use_since__isnull', False)), name='gateway_one_in_use'),
        ),
    ]
