"""Failed checks shall show their values: pytest rewrites assertions of test modules only, unless told."""

import pytest

pytest.register_assert_rewrite("tests.conformance.checks")
