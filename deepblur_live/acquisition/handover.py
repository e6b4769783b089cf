"""A frame in the ring as a task for the worker, and its reply as a result."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

from deepblur_live.acquisition.worker import Reply, Task
from deepblur_live.runtime.frame import Frame, FrameResult

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from deepblur_live.acquisition.block import Ticket

__all__ = ["rebuild", "task_bytes"]


def task_bytes(ticket: Ticket, report: Callable[[str], None]) -> bytes:
    """Return the pickled `Task` of a taken frame.

    Metadata that cannot be pickled stay behind, which `report` is told.
    """
    header, block = ticket.header, ticket.block
    task = Task(
        header.number,
        header.time,
        header.source,
        header.metadata,
        header.dtype,
        header.shape,
        block.name,
        block.frame_offset(ticket.slot),
        block.result_offset(ticket.result),
        block.result_bytes,
    )
    try:
        return pickle.dumps(task)
    except Exception as error:
        report(
            f"the metadata of frames from {header.source!r} stay behind, they cannot "
            f"be pickled: {error}"
        )
        fields = {**task.__dict__, "metadata": {}}
        return pickle.dumps(Task(**fields))


def rebuild(ticket: Ticket, reply: Reply) -> FrameResult:
    """Return the result of a frame, with arrays of its own."""
    header = ticket.header
    deblurred: NDArray[np.float32] | None
    if isinstance(reply.deblurred, tuple):
        deblurred = ticket.deblurred(reply.deblurred)
    else:
        deblurred = reply.deblurred
    frame = Frame(
        ticket.pixels(), header.number, header.time, header.source, header.metadata
    )
    return FrameResult(
        frame,
        reply.state,
        reply.reason,
        deblurred,
        reply.estimate,
        reply.track,
        reply.psf,
        reply.timings,
        reply.notes,
        reply.executor,
    )
