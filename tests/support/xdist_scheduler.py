"""Pytest-xdist scheduler: whole groups per process, and to the end if a process dies."""

from collections.abc import Sequence

import pytest
from xdist.scheduler import LoadGroupScheduling
from xdist.workermanage import WorkerController

READY = 2
"""Tests queued per process: it starts one only when it knows the next."""


class CrashTolerantScheduling(LoadGroupScheduling):  # type: ignore[misc]
    """`--dist loadgroup` without its hangs after a crash (pytest-xdist #1189, #1323, #1327).

    A test that exceeds its timeout ends its process. pytest-xdist 3.8 then also queues the tests
    that this process had finished, which the next one takes for work and never reports; gives the
    next one a single test, which it holds until it knows the one after; and runs the crashing test
    again. This scheduler queues only the tests that have not run, without the crashing one.

    It also forgets the units that are finished, and looks tests up in a dict: pytest-xdist counts
    and searches all tests after each one, a third of its time with ten thousand tests.
    """

    def __init__(self, config: pytest.Config, log: object | None = None) -> None:
        super().__init__(config, log)
        self._indexes: dict[WorkerController, dict[str, int]] = {}

    def add_node_collection(self, node: WorkerController, collection: Sequence[str]) -> None:
        super().add_node_collection(node, collection)
        self._indexes[node] = {test: index for index, test in enumerate(collection)}

    def mark_test_complete(
        self, node: WorkerController, item_index: int, duration: float = 0
    ) -> None:
        test = self.registered_collections[node][item_index]
        scope = self._split_scope(test)
        units = self.assigned_work[node]
        units[scope][test] = True
        if all(units[scope].values()):
            del units[scope]
        self._reschedule(node)

    def _assign_work_unit(self, node: WorkerController) -> None:
        scope, unit = self.workqueue.popitem(last=False)
        self.assigned_work[node][scope] = unit
        indexes = self._indexes[node]
        node.send_runtest_some([indexes[test] for test, finished in unit.items() if not finished])

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
