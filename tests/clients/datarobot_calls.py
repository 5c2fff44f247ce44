"""What `datarobot` and `datarobot-predict` make of a gateway, call by call.

Run in the environment of `datarobot-nixtla-boto3.txt`: `python datarobot_calls.py URL DEPLOYMENT [TOKEN]`, where the
deployment has the columns day, store, sales and promo; prints JSON.
"""

import datetime
import json
import sys
import warnings

import datarobot as dr
import numpy as np
import pandas as pd
from datarobot.errors import ClientError
from datarobot_predict import TimeSeriesType
from datarobot_predict.deployment import predict

warnings.simplefilter("ignore")

ROWS, AHEAD = 56, 5


def table():
    days = pd.date_range("2024-01-01", periods=ROWS + AHEAD, freq="D")
    steps = np.arange(ROWS + AHEAD)
    parts = []
    for k, store in enumerate(("north", "south")):
        sales = np.where(steps < ROWS, 10 + steps % 7 + 5 * k, np.nan)
        parts.append(pd.DataFrame({"day": days, "store": store, "sales": sales, "promo": steps % 2}))
    return pd.concat(parts)


def shown(result):
    return json.loads(result.dataframe.to_json(orient="split", double_precision=15))


def refusal(call):
    try:
        call()
    except ClientError as error:
        return [error.status_code, str(error)]
    return None


def main(url, name, token="any"):
    dr.Client(token=token, endpoint=f"{url}/api/v2")
    deployment = dr.Deployment.get(name)
    rows = table()
    print(
        json.dumps(
            {
                "deployment": [deployment.id, deployment.label, deployment.default_prediction_server],
                "listed": [d.id for d in dr.Deployment.list()],
                "servers": [s.datarobot_key for s in dr.PredictionServer.list()],
                "forecast": shown(predict(deployment, rows)),
                "passthrough": shown(
                    predict(
                        deployment,
                        rows,
                        passthrough_columns="all",
                        forecast_point=datetime.datetime(2024, 2, 25),
                        relax_known_in_advance_features_check=True,
                    )
                ),
                "some": shown(predict(deployment, rows, passthrough_columns={"promo"})),
                "range": shown(
                    predict(
                        deployment,
                        rows,
                        time_series_type=TimeSeriesType.HISTORICAL,
                        predictions_start_date=datetime.datetime(2024, 2, 20),
                        predictions_end_date=datetime.datetime(2024, 2, 22),
                    )
                ),
                "whole": len(predict(deployment, rows, time_series_type=TimeSeriesType.HISTORICAL).dataframe),
                "by_endpoint": shown(predict(name, rows, prediction_endpoint=f"{url}/predApi/v1.0")),
                "explained": refusal(lambda: predict(deployment, rows, max_explanations=3)),
                "gone": refusal(lambda: dr.Deployment.get("gone")),
            }
        )
    )


main(*sys.argv[1:])
