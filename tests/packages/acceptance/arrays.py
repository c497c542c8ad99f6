"""A task that gives back what it is given."""

from pydra.cluster.tasks import Task


class Same(Task):
    """Answers its arguments."""

    def work(self, array, names=None):
        return [array, names]
