"""What Gradio's Python client makes of the Kronos space: the seed's own lines, and what they do not show.

Run in the environment of `gradio.txt`: `python gradio_calls.py URL < asked.json`, with
`{"printed": "<python>", "candles": {...}}`; prints JSON on the last line.
"""

import json
import sys

from gradio_client import Client
from gradio_client.exceptions import AppError

URL = sys.argv[1]
ASKED = json.load(sys.stdin)


def as_printed():
    """Run the printed lines against the gateway; what every call of `predict` gave."""
    given = []

    class Spy(Client):
        def predict(self, *args, **kwargs):
            answer = super().predict(*args, **kwargs)
            given.append(answer)
            return answer

    source = ASKED["printed"].replace('"xianqiu/qlang"', repr(URL)).replace("from gradio_client import Client", "")
    exec(source, {"Client": lambda url: Spy(url, verbose=False)})
    return given


def refused(client, *args, **kwargs):
    try:
        client.predict(*args, **kwargs)
    except AppError as exc:
        return str(exc)
    return None


def at_once(client):
    """Three events of one session, whose messages share a stream."""
    jobs = [client.submit(hour_idx=i, api_name="/predict_api") for i in (1, 2, 3)]
    return [job.result(timeout=60)["upside_probability_all_hours"][0] >= 0 for job in jobs]


def main():
    client = Client(URL, verbose=False)
    custom = {"ohlcv_data": ASKED["candles"], "pred_len": 3, "sample_count": 5, "hour_idx": 2}
    found = {
        "printed": as_printed(),
        "endpoints": {
            name: [p["parameter_name"] for p in endpoint["parameters"]]
            for name, endpoint in client.view_api(return_format="dict", print_info=False)["named_endpoints"].items()
        },
        "defaults": client.predict(api_name="/predict_api"),
        "custom": client.predict(**custom, temperature=0.7, api_name="/predict_custom"),
        "custom_text": client.predict(json.dumps(ASKED["candles"]), 3, 5, 1.0, 0.95, 2, api_name="/predict_custom"),
        "by_index": client.predict(True, 5, fn_index=1),
        "too_far": refused(client, hour_idx=25, api_name="/predict_api"),
        "no_candles": refused(client, ohlcv_data={"open": [1]}, api_name="/predict_custom"),
        "at_once": at_once(client),
    }
    print(json.dumps(found))
    sys.stdout.flush()


main()
