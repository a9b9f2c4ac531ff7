from __future__ import annotations

import pytest

from tests.report.examples import make_suite, make_verdict
from ticketguard.evidence import Verdict
from ticketguard.suite.results import SuiteResult


@pytest.fixture
def verdict() -> Verdict:
    return make_verdict()


@pytest.fixture
def suite() -> SuiteResult:
    return make_suite()
