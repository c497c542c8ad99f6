# SPDX-License-Identifier: MIT
"""The first schema of the store."""

from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="NodeRow",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        help_text="Number of the node, given by the master.",
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("host", models.TextField(help_text="Host name or address that the master connects to.")),
                ("port", models.IntegerField(help_text="Port that the master connects to.")),
                (
                    "fingerprint",
                    models.TextField(help_text="SHA-256 of its public key, as its daemon prints it."),
                ),
                ("slots", models.IntegerField(help_text="Worker slots that it offers; 0 until it was seen.")),
                (
                    "information",
                    models.BinaryField(
                        help_text="What it says of its machine: a NodeInformation as MessagePack.", null=True
                    ),
                ),
                ("seen", models.FloatField(help_text="When it was connected last.", null=True)),
                (
                    "deleted",
                    models.BooleanField(help_text="Removed by a person; kept because history names it."),
                ),
            ],
            options={
                "db_table": "pydra_node",
            },
        ),
        migrations.CreateModel(
            name="StoreState",
            fields=[
                ("id", models.SmallIntegerField(help_text="Always 1.", primary_key=True, serialize=False)),
                (
                    "epoch",
                    models.BigIntegerField(help_text="Raised by one each time a master opens the store."),
                ),
            ],
            options={
                "db_table": "pydra_store_state",
            },
        ),
        migrations.CreateModel(
            name="InstanceRow",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        help_text="Number of the instance, given by the master.",
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("task_key", models.TextField(help_text="package.module.Class")),
                ("package", models.TextField(help_text="Name of the package that the task is in.")),
                (
                    "version",
                    models.TextField(
                        help_text="SHA-256 (hex) of the package version that it was submitted with."
                    ),
                ),
                ("args_size", models.BigIntegerField(help_text="Bytes of the arguments.")),
                (
                    "args_inline",
                    models.BinaryField(help_text="The arguments as MessagePack; empty if they are a blob."),
                ),
                (
                    "args_sha256",
                    models.TextField(
                        help_text="SHA-256 (hex) that names the blob of the arguments, or empty."
                    ),
                ),
                ("status", models.SmallIntegerField(help_text="A pydra.model.status.Status.")),
                ("queued", models.FloatField(help_text="When it was accepted.")),
                ("priority", models.IntegerField(help_text="Smaller runs first.")),
                (
                    "request_key",
                    models.TextField(
                        help_text="Made by the client, once for each submission; empty if none."
                    ),
                ),
                ("started", models.FloatField(help_text="When its first attempt was sent.", null=True)),
                ("completed", models.FloatField(help_text="When it became final.", null=True)),
                (
                    "attempt_epoch",
                    models.BigIntegerField(help_text="Epoch of the latest attempt.", null=True),
                ),
                (
                    "attempt_number",
                    models.BigIntegerField(help_text="Number of the latest attempt.", null=True),
                ),
                (
                    "node",
                    models.BigIntegerField(help_text="Id of the node of the latest attempt.", null=True),
                ),
                ("worker", models.TextField(help_text="Worker key of the latest attempt.", null=True)),
                (
                    "losses",
                    models.IntegerField(help_text="Attempts that ended by losing the worker or the node."),
                ),
                (
                    "result_size",
                    models.BigIntegerField(
                        help_text="Bytes of the result; null if there is none.", null=True
                    ),
                ),
                (
                    "result_inline",
                    models.BinaryField(help_text="The result as MessagePack; empty if a blob.", null=True),
                ),
                (
                    "result_sha256",
                    models.TextField(help_text="SHA-256 (hex) of the result's blob, or empty.", null=True),
                ),
                (
                    "failure_code",
                    models.TextField(help_text="A code of pydra.errors; null if it did not fail.", null=True),
                ),
                ("failure_message", models.TextField(help_text="Why it failed, in a sentence.", null=True)),
                (
                    "failure_traceback",
                    models.TextField(help_text="The task's own traceback, or empty.", null=True),
                ),
            ],
            options={
                "db_table": "pydra_instance",
                "indexes": [
                    models.Index(fields=["task_key", "id"], name="pydra_instance_history"),
                    models.Index(fields=["status"], name="pydra_instance_status"),
                    models.Index(
                        condition=models.Q(("status", 3)),
                        fields=["task_key", "completed"],
                        name="pydra_instance_last_run",
                    ),
                ],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("request_key", ""), _negated=True),
                        fields=("request_key",),
                        name="pydra_instance_request_key",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="PackageRow",
            fields=[
                ("id", models.BigAutoField(help_text="Order of arrival.", primary_key=True, serialize=False)),
                ("package", models.TextField(help_text="Name of the package.")),
                ("version", models.TextField(help_text="SHA-256 (hex) of its files.")),
                ("described", models.FloatField(help_text="When it was described.")),
                ("description", models.BinaryField(help_text="A PackageDescription as MessagePack.")),
            ],
            options={
                "db_table": "pydra_package",
                "constraints": [
                    models.UniqueConstraint(fields=("package", "version"), name="pydra_package_version")
                ],
            },
        ),
    ]
