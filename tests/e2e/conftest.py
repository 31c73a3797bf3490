import pytest

from tests.support.interpreters import VERSIONS, required


@pytest.fixture(params=VERSIONS, ids=lambda version: f"python{version}")
def python(request):
    """An interpreter to run the service with: each that its end is tested on."""
    return required(request.param)
