"""The deployments that DataRobot's exchanges and odd requests are asked of, as `[deployments.<id>]` has them."""

from __future__ import annotations

DEPLOYMENTS: dict[str, dict[str, object]] = {
    "sales": {"target": "sales", "date": "date", "window_end": 7},
    "stores": {
        "target": "sales",
        "date": "day",
        "series_id": "store",
        "known_in_advance": ["promo"],
        "window_end": 14,
        "label": "Sales by store",
    },
    "temperatures": {
        "target": "sales",
        "date": "Time",
        "date_format": "%m/%d/%y",
        "window_end": 7,
        "history": 35,
        "model": "seasonal-naive",
    },
    "churn": {"target": "sales", "date": "date", "binary": True},
    "plain": {"target": "sales", "date": "date", "time_series": False},
}
