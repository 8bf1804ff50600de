"""Models that several tests of this folder load."""

import pytest
import torch
from tiny_models import make_gpt2, make_llama, make_tokenizer, save

from one_step_trap.sampling import models


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Matrices as small as these only lose by threads, the more so where tests run side by side."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tokenizer():
    return make_tokenizer()


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory, tokenizer):
    return save(tmp_path_factory.mktemp("models") / "llama", make_llama(), tokenizer)


@pytest.fixture(scope="session")
def gpt2_folder(tmp_path_factory, tokenizer):
    return save(tmp_path_factory.mktemp("models") / "gpt2", make_gpt2(), tokenizer)


@pytest.fixture(scope="session")
def llama(llama_folder):
    return models.load(str(llama_folder))


@pytest.fixture(scope="session")
def gpt2(gpt2_folder):
    return models.load(str(gpt2_folder))


@pytest.fixture(scope="session")
def smollm2():
    """The packaged model: half a second from the cache, about 15 s and 1.1 GB of memory where it must be unpacked first."""
    return models.load("smollm2")
