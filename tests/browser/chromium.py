"""The browser that the tests look with, and what they ask of every page.

Rule 1. Whatever a page complains about is noted: errors, and what its policy has refused.
Rule 2. A fault of access counts when axe-core calls it serious or critical.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

AXE = Path(__file__).parent / "vendor" / "axe.js"
WAIT_MS = 90_000
# --no-sandbox: CI runs as root. The others keep Chromium from looking for its maker's hosts.
CHROMIUM_ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
WIDE, NARROW = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
LOOKS = {
    f"{scheme}-{name}": (scheme, size)
    for scheme in ("light", "dark")
    for name, size in (("wide", WIDE), ("narrow", NARROW))
}


def complaints_of(page: Any) -> list[str]:
    """What the page says went wrong, from now on: errors, and what the policy has refused."""
    found: list[str] = []
    page.on("pageerror", lambda error: found.append(f"error: {error}"))

    def told(message: Any) -> None:
        # A console that is away on purpose is no fault of the page.
        if message.type == "error" and "net::ERR" not in message.text:
            found.append(f"console: {message.text}")

    page.on("console", told)
    return found


def faults_of_access(page: Any) -> list[str]:
    """What axe-core finds that is serious or critical."""
    page.evaluate(AXE.read_text())
    found = page.evaluate("async () => (await axe.run(document, {resultTypes: ['violations']})).violations")
    return [
        f"{each['id']}: {each['nodes'][0]['html'][:160]}" for each in found if each["impact"] in ("serious", "critical")
    ]


def faults_of_page(page: Any) -> list[str]:
    """Faults of access, and how far the page hangs over its edge."""
    beyond = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    return [*faults_of_access(page), *([f"{beyond} px beyond the edge"] if beyond > 0 else [])]
