"""Pytest-xdist scheduler: whole groups per process, and to the end if a process dies."""

from xdist.scheduler import LoadGroupScheduling
from xdist.workermanage import WorkerController

READY = 2
"""Tests that a process has in hand: it starts one only when it knows the next."""


class GroupsToTheEnd(LoadGroupScheduling):  # type: ignore[misc]
    """As `--dist loadgroup`, without its ways to wait for ever once a process died (pytest-xdist
    #1189, #1323, #1327).

    A test that is over its time ends its process. pytest-xdist 3.8 then queues also what that
    process had finished, which the next one takes for work and never reports; gives the next one a
    single test, which it holds until it knows the one after; and runs the deadly test again. Here
    only what was not run is queued, without the deadly one.
    """

    def remove_node(self, node: WorkerController) -> str | None:
        deadly: str | None = None
        for scope, unit in self.assigned_work.pop(node).items():
            left = [test for test, finished in unit.items() if not finished]
            if left and deadly is None:
                deadly = left.pop(0)
            if left:
                self.workqueue[scope] = dict.fromkeys(left, False)
        for other in self.nodes:
            self._reschedule(other)
        return deadly

    def _reschedule(self, node: WorkerController) -> None:
        if node not in self.registered_collections:
            return  # it is asked again when it has collected the tests
        while not node.shutting_down and self._pending_of(self.assigned_work[node]) < READY:
            if self.workqueue:
                self._assign_work_unit(node)
            else:
                node.shutdown()
