"""Runs independent tasks in worker processes, and shows how many are done."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["parallel"]

Task = TypeVar("Task")
Result = TypeVar("Result")


def parallel(
    work: Callable[[Task], Result],
    tasks: Sequence[Task],
    jobs: int,
    unit: str,
    chunk: int = 1,
) -> Iterator[Result]:
    """Yield the results of `work`, a function of a module, in the order of the tasks.

    `unit` names the tasks in the line of progress; `chunk` go to a worker at once.
    """
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        results = pool.map(work, tasks, chunksize=chunk)
        for done, result in enumerate(results, 1):
            print(f"\r{done} of {len(tasks)} {unit}", end="", flush=True)
            yield result
    print()
