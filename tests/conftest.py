"""What all tests share."""

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Two threads of torch on a busy machine wait for each other; one does not."""
    torch.set_num_threads(1)
