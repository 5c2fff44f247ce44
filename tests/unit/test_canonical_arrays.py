"""Arrays of a JSON body: the quick way and the general way read the same numbers and refuse the same texts."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from msgspec import Raw

from gateway.dialects.canonical import arrays
from gateway.dialects.canonical.media import Format
from gateway.pacing import at_once

LARGEST = "1.7976931348623157e308"

MATRICES = {
    "[[1.5],[-2],[3e2]]": [[1.5], [-2], [300]],
    "[ [ 1 , null ] ,\n\t[ 0.1 , -4 ] ]": [[1, np.nan], [0.1, -4]],
    "[[null]]": [[np.nan]],
    f"[[-{LARGEST}],[{LARGEST}]]": [[-float(LARGEST)], [float(LARGEST)]],
    f"[[null],[-{LARGEST}]]": [[np.nan], [-float(LARGEST)]],
    "[[18446744073709551615],[18446744073709551616],[-9223372036854775809]]": [[2**64], [2**64], [-(2**63)]],
    "[[5e-324],[2.2250738585072011e-308],[9007199254740993],[1e-400]]": [
        [5e-324],
        [2.225073858507201e-308],
        [2**53],
        [0],
    ],
}
# fmt: off
NO_MATRICES = (
    "[[],[1,2]]", "[[1],2,[]]", "1[[],[2]]", "[1[],[2]]", "[[]1,[2]]", "[[1 2]]", "[[1,],[2,3]]", "[[1],[2,3]]",
    "[[[1]]]", "[]", "[[]]", "[1]", "[[1]", "[[1]]]", '[["1"]]', "[[true]]", "[[nul]]", "[[nullnull]]", "[[01]]",
    "[[1e999]]", "[[NaN]]",
)
# fmt: on


@pytest.fixture(
    params=sorted({arrays.HAS_SIMDJSON, False}), ids=lambda has: "simdjson" if has else "general", autouse=True
)
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "HAS_SIMDJSON", request.param)


@pytest.mark.parametrize("text", MATRICES)
def test_a_matrix_is_read_to_the_last_bit(text: str) -> None:
    found = at_once(arrays.matrix(Raw(text.encode()), Format.JSON))
    np.testing.assert_array_equal(found, np.array(MATRICES[text], dtype=np.float64))


@pytest.mark.parametrize("text", NO_MATRICES)
def test_what_is_no_matrix_is_refused(text: str) -> None:
    with pytest.raises(msgspec.DecodeError):
        at_once(arrays.matrix(Raw(text.encode()), Format.JSON))


@pytest.mark.parametrize(
    ("text", "values"),
    [("[1,null,2.5]", [1, np.nan, 2.5]), ("[ 0 ]", [0]), ("[]", []), (f"[null,-{LARGEST}]", [np.nan, -float(LARGEST)])],
)
def test_a_covariate_of_numbers_is_read(text: str, values: list[float]) -> None:
    found = at_once(arrays.values(Raw(text.encode()), Format.JSON))
    assert isinstance(found, np.ndarray)
    np.testing.assert_array_equal(found, np.array(values, dtype=np.float64))


def test_words_are_no_numbers() -> None:
    assert at_once(arrays.values(Raw(b'["1",null]'), Format.JSON)) == ("1", None)
