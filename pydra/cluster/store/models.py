# SPDX-License-Identifier: MIT
"""
The schema of the store.

Instants are UTC seconds since the epoch. Daemons never hold these models: ``rows`` makes values of
``pydra.model`` from them.
"""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q

from pydra.model.status import Status

COMPLETE = int(Status.COMPLETE)


class StoreState(models.Model):
    """What is true of the store as a whole; one row."""

    id = models.SmallIntegerField(primary_key=True, help_text="Always 1.")
    epoch = models.BigIntegerField(help_text="Raised by one each time a master opens the store.")

    class Meta:
        """The table."""

        db_table = "pydra_store_state"


class InstanceRow(models.Model):
    """A task instance."""

    id = models.BigAutoField(primary_key=True, help_text="Number of the instance, given by the master.")
    task_key = models.TextField(help_text="package.module.Class")
    package = models.TextField(help_text="Name of the package that the task is in.")
    version = models.TextField(help_text="SHA-256 (hex) of the package version that it was submitted with.")
    args_size = models.BigIntegerField(help_text="Bytes of the arguments.")
    args_inline = models.BinaryField(help_text="The arguments as MessagePack; empty if they are a blob.")
    args_sha256 = models.TextField(help_text="SHA-256 (hex) that names the blob of the arguments, or empty.")
    status = models.SmallIntegerField(help_text="A pydra.model.status.Status.")
    queued = models.FloatField(help_text="When it was accepted.")
    priority = models.IntegerField(help_text="Smaller runs first.")
    request_key = models.TextField(help_text="Made by the client, once for each submission; empty if none.")
    started = models.FloatField(null=True, help_text="When its first attempt was sent.")
    completed = models.FloatField(null=True, help_text="When it became final.")
    attempt_epoch = models.BigIntegerField(null=True, help_text="Epoch of the latest attempt.")
    attempt_number = models.BigIntegerField(null=True, help_text="Number of the latest attempt.")
    node = models.BigIntegerField(null=True, help_text="Id of the node of the latest attempt.")
    worker = models.TextField(null=True, help_text="Worker key of the latest attempt.")
    losses = models.IntegerField(help_text="Attempts that ended by losing the worker or the node.")
    result_size = models.BigIntegerField(null=True, help_text="Bytes of the result; null if there is none.")
    result_inline = models.BinaryField(null=True, help_text="The result as MessagePack; empty if a blob.")
    result_sha256 = models.TextField(null=True, help_text="SHA-256 (hex) of the result's blob, or empty.")
    failure_code = models.TextField(null=True, help_text="A code of pydra.errors; null if it did not fail.")
    failure_message = models.TextField(null=True, help_text="Why it failed, in a sentence.")
    failure_traceback = models.TextField(null=True, help_text="The task's own traceback, or empty.")
    needs = models.BinaryField(
        default=b"", help_text="What the package version runs with: a Needs as MessagePack; empty if nothing."
    )
    options = models.BinaryField(
        default=b"", help_text="How it is run: RunOptions as MessagePack; empty if nothing was asked for."
    )
    retried = models.IntegerField(default=0, help_text="Attempts that failed and were followed by a retry.")
    not_before = models.FloatField(null=True, help_text="A queued retry does not begin earlier.")

    class Meta:
        """The table, and an index for each question that is asked often."""

        db_table = "pydra_instance"
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["request_key"], condition=~Q(request_key=""), name="pydra_instance_request_key"
            ),
        ]
        indexes: ClassVar[list[models.Index]] = [
            # History of a task, newest first.
            models.Index(fields=["task_key", "id"], name="pydra_instance_history"),
            # What a master has to take up again when it starts.
            models.Index(fields=["status"], name="pydra_instance_status"),
            # Last run of each task.
            models.Index(
                fields=["task_key", "completed"],
                condition=Q(status=COMPLETE),
                name="pydra_instance_last_run",
            ),
        ]


class NodeRow(models.Model):
    """A node that the master is, or was, paired with."""

    id = models.BigAutoField(primary_key=True, help_text="Number of the node, given by the master.")
    host = models.TextField(help_text="Host name or address that the master connects to.")
    port = models.IntegerField(help_text="Port that the master connects to.")
    fingerprint = models.TextField(help_text="SHA-256 of its public key, as its daemon prints it.")
    slots = models.IntegerField(help_text="Worker slots that it offers; 0 until it was seen.")
    information = models.BinaryField(
        null=True, help_text="What it says of its machine: a NodeInformation as MessagePack."
    )
    seen = models.FloatField(null=True, help_text="When it was connected last.")
    deleted = models.BooleanField(help_text="Removed by a person; kept because history names it.")

    class Meta:
        """The table."""

        db_table = "pydra_node"


class PackageRow(models.Model):
    """A version of a package of tasks, as it was described last: anew when a dependency changed."""

    id = models.BigAutoField(primary_key=True, help_text="Order of arrival.")
    package = models.TextField(help_text="Name of the package.")
    version = models.TextField(help_text="SHA-256 (hex) of its files.")
    described = models.FloatField(help_text="When it was described.")
    description = models.BinaryField(help_text="A PackageDescription as MessagePack.")

    class Meta:
        """The table."""

        db_table = "pydra_package"
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["package", "version"], name="pydra_package_version"),
        ]


class BranchRow(models.Model):
    """A branch of an instance: where units of one asker and one subtask are."""

    id = models.BigAutoField(primary_key=True, help_text="Order of arrival.")
    instance = models.BigIntegerField(help_text="Id of the instance.")
    branch = models.TextField(help_text="The text of the branch; see pydra.model.unit.")

    class Meta:
        """The table."""

        db_table = "pydra_branch"
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["instance", "branch"], name="pydra_branch_text"),
        ]


class WorkUnitRow(models.Model):
    """
    A work unit that ended, or that the client of a session submitted.

    Tens of thousands are written a second, so it has no column and no index that can be spared: what all
    units of a branch have in common is in the row of the branch, which no foreign key looks up.
    """

    pk = models.CompositePrimaryKey("branch", "unit_index", help_text="A unit is there once.")
    branch = models.BigIntegerField(help_text="Id of its branch.")
    unit_index = models.BigIntegerField(help_text="Its index in the branch.")
    status = models.SmallIntegerField(help_text="QUEUED, COMPLETE or FAILED: a pydra.model.status.Status.")
    digest = models.BinaryField(help_text="Digest of its arguments.")
    payload = models.BinaryField(
        help_text="Arguments of a queued unit, result of a complete one (empty if that is a "
        "blob), or a Failure."
    )
    size = models.BigIntegerField(null=True, help_text="Bytes of the result, if it is a blob.")
    sha256 = models.TextField(null=True, help_text="SHA-256 (hex) of the result, if it is a blob.")
    attempt_epoch = models.BigIntegerField(null=True, help_text="Epoch of the batch that it ran in.")
    attempt_number = models.BigIntegerField(null=True, help_text="Number of the batch that it ran in.")
    node = models.BigIntegerField(null=True, help_text="Id of the node that it ran on.")
    ended = models.FloatField(null=True, help_text="When its end was recorded.")

    class Meta:
        """The table; its indexes hold the few units that are not complete, or have a blob."""

        db_table = "pydra_unit"
        indexes: ClassVar[list[models.Index]] = [
            # What a master has to take up again when it starts; failed units.
            models.Index(
                fields=["branch", "unit_index"],
                condition=Q(status__lt=COMPLETE),
                name="pydra_unit_not_complete",
            ),
            models.Index(fields=["sha256"], condition=Q(sha256__isnull=False), name="pydra_unit_blob"),
        ]
