from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('llmkeys', '0005_gateway_in_use_and_compared'),
        ('plans', '0010_temperature_ceiling'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AlterModelOptions(
            name='killswitch',
            options={'ordering': ['-id'], 'verbose_name_plural': 'kill switches'},
        ),
        # Of another form; the next comparison fills it.
        migrations.RemoveField(model_name='gatewaystate', name='comparison'),
        migrations.AddField(
            model_name='gatewaystate',
            name='comparison',
            field=models.JSONField(blank=True, default=list),
        ),
        migrations.AlterConstraint(
            model_name='killswitch',
            name='switch_names_what_its_scope_says',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('gateway_model__isnull', False), ('plan', None), ('scope', 'model'), ('user', None)), models.Q(('gateway_model', None), ('plan__isnull', False), ('scope', 'plan'), ('user', None)), models.Q(('gateway_model', None), ('plan', None), ('scope', 'user'), ('user__isnull', False)), models.Q(('gateway_model', None), ('plan', None), ('scope', 'everyone'), ('user', None)), _connector='OR'), name='switch_names_what_its_scope_says', violation_error_message='Name what the scope says, and nothing else.'),
        ),
    ]
