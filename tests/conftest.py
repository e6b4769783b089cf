"""What all tests share."""

import signal

import pytest
import torch

# A shell that runs the tests in the background makes them, and what they start, deaf to
# interrupts, which some of them send.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Two threads of torch on a busy machine wait for each other; one does not."""
    torch.set_num_threads(1)
