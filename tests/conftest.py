"""Fixtures of all tests."""

import multiprocessing
import os
import signal
import tempfile

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

# No test needs a screen. Before Qt is imported, and for child processes too.
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

# Without a card Triton's kernels run in its interpreter. Before Triton is imported.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

# Windows of child processes remember their layout, but not among the user's settings.
_settings = tempfile.TemporaryDirectory(prefix="deepblur-live-settings-")
os.environ["XDG_CONFIG_HOME"] = _settings.name
# As on Windows, where most microscopes are: nothing is inherited by a fork.
multiprocessing.set_start_method("spawn", force=True)

# A shell that runs the tests in the background makes them and their child processes
# ignore interrupts, which some of them send.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """On a busy machine, several torch threads wait for each other."""
    torch.set_num_threads(1)


class _Operations(TorchDispatchMode):
    """Records the names of the operations that torch runs within a ``with``."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.add(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))


@pytest.fixture
def operations():
    return _Operations()


@pytest.fixture
def no_pictures(monkeypatch):
    """Sessions end without pictures, which take a second of CPU: for other tests."""
    record = "deepblur_live.session.record.SessionRecord"
    monkeypatch.setattr(f"{record}._pictures", lambda record, samples: ())


@pytest.fixture
def quick_search(monkeypatch):
    """A global search from few starts, for tests of what becomes of its result.

    How well the whole search finds blurs is tested with the room of identification.
    """
    from deepblur_live.identification import identifier

    few = identifier.WIDE._replace(
        stride=3, tried=10, kept=2, hops=2, hops_kept=1, phase_starts=1
    )
    monkeypatch.setattr(identifier, "WIDE", few)
