# SPDX-License-Identifier: MIT
"""Instances keep what their package version runs with."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("pydra_store", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name="instancerow",
            name="needs",
            field=models.BinaryField(
                default=b"",
                help_text="What the package version runs with: a Needs as MessagePack; empty if nothing.",
            ),
        ),
    ]
