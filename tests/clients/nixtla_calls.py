"""What NixtlaClient makes of a gateway, call by call.

Run in the environment of `datarobot-nixtla-boto3.txt`: `python nixtla_calls.py URL`; prints JSON.
"""

import json
import logging
import sys
import warnings

import numpy as np
import pandas as pd
from nixtla import NixtlaClient

logging.disable(logging.INFO)
warnings.simplefilter("ignore", FutureWarning)

ROWS, H = 120, 7
STAMPS = pd.date_range("2024-01-01", periods=ROWS, freq="D")
AHEAD = pd.date_range(STAMPS[-1] + pd.Timedelta("1D"), periods=H)


def series(name, level):
    steps = np.arange(ROWS)
    values = np.round(level + 10 * np.sin(steps / 7 * 2 * np.pi) + 0.1 * steps, 3).astype(np.float32)
    return pd.DataFrame({"unique_id": name, "ds": STAMPS, "y": values})


def shown(table):
    return {
        name: [str(v) for v in column] if name in ("ds", "cutoff", "unique_id") else column.tolist()
        for name, column in table.items()
    }


def refusal(call):
    try:
        call()
    except Exception as error:
        return [type(error).__name__, getattr(error, "status_code", None), getattr(error, "body", str(error))]
    return None


def main(url):
    client = NixtlaClient(api_key="any", base_url=url, max_retries=1)
    table = pd.concat([series("b", 80), series("a", 50)])
    steps = np.tile(np.arange(ROWS), 2)
    features = table.assign(promo=(steps % 2).astype(float), temperature=steps * 0.1)
    future = pd.concat(
        [pd.DataFrame({"unique_id": u, "ds": AHEAD, "promo": [1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0]}) for u in "ab"]
    )
    outlier = table.assign(y=np.where(steps == ROWS - 3, 500.0, table["y"]))
    with_holes = table.assign(y=np.where(steps % 9 == 4, np.nan, table["y"]))
    long = pd.concat([series(f"s{i:04}", 50 + i) for i in range(1200)])
    print(
        json.dumps(
            {
                "levels": shown(client.forecast(table, h=H, freq="D", level=[80, 90.5])),
                "quantiles": shown(client.forecast(table, h=H, freq="D", quantiles=[0.1, 0.5, 0.9])),
                "point": shown(client.forecast(table, h=H, freq="D", model="seasonal-naive")),
                "exogenous": shown(
                    client.forecast(features, h=H, freq="D", X_df=future, hist_exog_list=["temperature"], level=[80])
                ),
                "dates": shown(client.forecast(table, h=H, freq="D", date_features=["month"])),
                "history": shown(client.forecast(table, h=H, freq="D", add_history=True, level=[80])),
                "parts": shown(client.forecast(table, h=H, freq="D", num_partitions=2)),
                "holes": shown(client.forecast(with_holes, h=H, freq="D")),
                "folds": shown(client.cross_validation(table, h=H, freq="D", n_windows=3, step_size=5, level=[80])),
                "folds_exogenous": shown(client.cross_validation(features, h=H, freq="D", n_windows=2)),
                "anomalies": shown(client.detect_anomalies(outlier, freq="D", level=99)),
                "compressed": len(client.forecast(long, h=1, freq="D", model="seasonal-naive")),
                "valid": client.validate_api_key(log=True),
                "usage": client.usage(),
                "models": client.list_models(),
                "unknown": refusal(lambda: client.forecast(table, h=H, freq="D", model="nope")),
                "too_far": refusal(lambda: client.forecast(table, h=2000, freq="D")),
            }
        )
    )


main(sys.argv[1])
