"""Messages of every schema version that was ever published still decode, and encode to the same bytes."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from fraud.alert import Alert
from fraud.control import ControlRequest
from fraud.disposition import Disposition
from fraud.labels import Label, parse_label
from fraud.transaction import Transaction, parse_transaction
from fraud.truth import Truth

MESSAGES = Path(__file__).parent / "messages"
TYPES = {
    "transaction": Transaction,
    "label": Label,
    "alert": Alert,
    "control": ControlRequest,
    "truth": Truth,
    "disposition": Disposition,
}


@pytest.mark.parametrize("path", sorted(MESSAGES.glob("*.json")), ids=lambda path: path.stem)
def test_a_published_message_decodes_and_encodes_to_the_same_bytes(path: Path) -> None:
    raw = path.read_bytes().strip()
    message = msgspec.json.decode(raw, type=TYPES[path.stem.split("-")[0]])
    assert message.to_json() == raw


def test_the_published_transaction_passes_the_strict_reader() -> None:
    transaction = parse_transaction((MESSAGES / "transaction-v1.json").read_bytes().strip(), b"c596")
    assert (transaction.transaction_id, transaction.amount_minor) == ("h0-17", 5716)


def test_the_published_transaction_with_its_place_passes_the_strict_reader() -> None:
    transaction = parse_transaction((MESSAGES / "transaction-v2.json").read_bytes().strip(), b"c596")
    assert (transaction.mcc, transaction.device_id, transaction.longitude_cdeg) == ("5411", None, 1340)


def test_the_published_label_passes_the_strict_reader() -> None:
    assert parse_label((MESSAGES / "label-v1.json").read_bytes().strip(), b"t3156").is_fraud is False


def test_every_public_type_has_a_published_message() -> None:
    assert {path.stem.split("-")[0] for path in MESSAGES.glob("*.json")} == set(TYPES)
