# SPDX-License-Identifier: MIT
"""Work units, and the branches that they are of."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("pydra_store", "0003_instance_options")]

    operations = [
        migrations.CreateModel(
            name="BranchRow",
            fields=[
                ("id", models.BigAutoField(help_text="Order of arrival.", primary_key=True, serialize=False)),
                ("instance", models.BigIntegerField(help_text="Id of the instance.")),
                ("branch", models.TextField(help_text="The text of the branch; see pydra.model.unit.")),
            ],
            options={
                "db_table": "pydra_branch",
                "constraints": [
                    models.UniqueConstraint(fields=("instance", "branch"), name="pydra_branch_text")
                ],
            },
        ),
        migrations.CreateModel(
            name="WorkUnitRow",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "branch",
                        "unit_index",
                        blank=True,
                        editable=False,
                        help_text="A unit is there once.",
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("branch", models.BigIntegerField(help_text="Id of its branch.")),
                ("unit_index", models.BigIntegerField(help_text="Its index in the branch.")),
                (
                    "status",
                    models.SmallIntegerField(
                        help_text="QUEUED, COMPLETE or FAILED: a pydra.model.status.Status."
                    ),
                ),
                ("digest", models.BinaryField(help_text="Digest of its arguments.")),
                (
                    "payload",
                    models.BinaryField(
                        help_text="Arguments of a queued unit, result of a complete one (empty if that is a "
                        "blob), or a Failure."
                    ),
                ),
                (
                    "size",
                    models.BigIntegerField(help_text="Bytes of the result, if it is a blob.", null=True),
                ),
                (
                    "sha256",
                    models.TextField(help_text="SHA-256 (hex) of the result, if it is a blob.", null=True),
                ),
                (
                    "attempt_epoch",
                    models.BigIntegerField(help_text="Epoch of the batch that it ran in.", null=True),
                ),
                (
                    "attempt_number",
                    models.BigIntegerField(help_text="Number of the batch that it ran in.", null=True),
                ),
                ("node", models.BigIntegerField(help_text="Id of the node that it ran on.", null=True)),
                ("ended", models.FloatField(help_text="When its end was recorded.", null=True)),
            ],
            options={
                "db_table": "pydra_unit",
                "indexes": [
                    models.Index(
                        condition=models.Q(("status__lt", 3)),
                        fields=["branch", "unit_index"],
                        name="pydra_unit_not_complete",
                    ),
                    models.Index(
                        condition=models.Q(("sha256__isnull", False)),
                        fields=["sha256"],
                        name="pydra_unit_blob",
                    ),
                ],
            },
        ),
    ]
