from pathlib import Path

import pytest

from chatproxy import errors
from tesslate.lib.errors import ApiError

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "chat.md").read_text()
OWN = [
    error for error in vars(errors).values() if getattr(error, "__module__", "") == errors.__name__
]
CODES = sorted(
    error.code for error in OWN if isinstance(error, type) and issubclass(error, ApiError)
)


@pytest.mark.parametrize("code", CODES)
def test_every_code_that_a_caller_may_meet_is_documented(code):
    assert f"`{code}`" in DOCUMENT
