"""The browser of the tests: Debian's Chromium.

Rule 1. Without /usr/bin/chromium the tests are skipped with the reason; FRAUD_REQUIRE=browser makes that a failure.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser.chromium import CHROMIUM_ARGUMENTS
from tests.conftest import missing


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    chromium = os.environ.get("FRAUD_TEST_CHROMIUM", "/usr/bin/chromium")
    if importlib.util.find_spec("playwright") is None:
        missing("browser", "the package playwright is not installed: make setup")
    if shutil.which(chromium) is None:
        missing("browser", f"there is no {chromium}: install Debian's chromium, or name one in FRAUD_TEST_CHROMIUM")
    from playwright.sync_api import sync_playwright

    # Its event loop runs in this thread until the module's tests have ended: nothing here may use asyncio.run.
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=list(CHROMIUM_ARGUMENTS))
        yield started
        started.close()
