# SPDX-License-Identifier: MIT
"""Instances keep how they are run, and what came of their retries."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("pydra_store", "0002_instance_needs")]

    operations = [
        migrations.AddField(
            model_name="instancerow",
            name="options",
            field=models.BinaryField(
                default=b"",
                help_text="How it is run: RunOptions as MessagePack; empty if nothing was asked for.",
            ),
        ),
        migrations.AddField(
            model_name="instancerow",
            name="retried",
            field=models.IntegerField(
                default=0, help_text="Attempts that failed and were followed by a retry."
            ),
        ),
        migrations.AddField(
            model_name="instancerow",
            name="not_before",
            field=models.FloatField(null=True, help_text="A queued retry does not begin earlier."),
        ),
    ]
