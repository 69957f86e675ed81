"""The how-to page on protocols: its contracts load, and its client's order becomes a line."""

import json
from pathlib import Path

from sampan.log.check import Checker
from sampan.log.contracts import Contracts
from sampan.log.from_ga4 import Ga4Messages
from sampan.log.from_segment import SegmentMessages
from sampan.log.translate import Translator
from tests.docs.test_how_to import blocks


def test_the_contracts_of_the_page_on_protocols_do_what_it_says(tmp_path: Path) -> None:
    path = tmp_path / "contracts.py"
    path.write_text(next(text for text in blocks("protocols", "python") if text.startswith("# contracts.py")), "utf-8")
    contracts = Contracts.load(path)
    translator, checker = Translator(contracts), Checker(contracts)
    order = {"order_id": "o1", "products": [{"product_id": "tea", "quantity": 2, "price": 3.5}]}
    call = {"type": "track", "event": "Order Completed", "userId": "customer-17", "properties": order}
    batch = translator.batch(SegmentMessages("track", json.dumps(call).encode(), "site", 0), checker)
    line = {"invoice": "o1", "sku": "tea", "quantity": 2, "price": 3.5}
    assert [json.loads(raw)["data"] for raw in batch.raws] == [{**line, "quantity": 2}]
    item = {"item_id": "tea", "quantity": 2, "price": 3.5}
    back = {"client_id": "c", "events": [{"name": "refund", "params": {"transaction_id": "o1", "items": [item]}}]}
    batch = translator.batch(Ga4Messages(json.dumps(back).encode(), "G-1", "site", 0), checker)
    assert [json.loads(raw)["data"] for raw in batch.raws] == [line | {"quantity": -2}]
