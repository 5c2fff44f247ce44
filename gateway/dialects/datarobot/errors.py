"""The errors of DataRobot's prediction API, with its statuses and its words."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.errors import Code, Fault, GatewayError

ARGUMENT = "query"  # the place of a fault that the body names by its argument


def no_output() -> GatewayError:
    """400: nothing is known of the past."""
    return bad_rows("No valid output rows")


def not_time_series() -> GatewayError:
    """422"""
    return GatewayError(
        Code.INVALID_ARGUMENT,
        "Predictions on models that are not time series models are not supported on this endpoint. "
        "Please use the predict endpoint instead.",
    )


def binary() -> GatewayError:
    """422"""
    sentence = "Binary classification deployments are not served here: this gateway forecasts numbers."
    return GatewayError(Code.INVALID_ARGUMENT, sentence)


def bad_rows(sentence: str) -> GatewayError:
    """400: rows that cannot be read or do not fit together."""
    return GatewayError(Code.MALFORMED, sentence)


def several(*sentences: str) -> GatewayError:
    """400, as a list."""
    return bad_rows("The following errors are found:\n" + "\n".join(f" • {s}" for s in sentences))


def unreadable_argument(name: str, told: str) -> GatewayError:
    """400 for a query argument that cannot be read."""
    return GatewayError(Code.MALFORMED, told, faults=(Fault((ARGUMENT, name), told),))


def refused_argument(name: str, told: str) -> GatewayError:
    """422 for a query argument that can be read and is not taken."""
    return GatewayError(Code.INVALID_ARGUMENT, told, faults=(Fault((ARGUMENT, name), told),))


def no_history(series: str) -> GatewayError:
    """422: of one series nothing is known, while others can be predicted."""
    sentence = f"The series {series[:64]!r} has rows to predict and no known target before them."
    return GatewayError(Code.INVALID_ARGUMENT, sentence)


def no_deployment(deployment: str, user: str) -> GatewayError:
    """404"""
    return GatewayError(Code.NOT_FOUND, f"Deployment {deployment[:64]} cannot be found for user {user}")


def no_rows_to_predict(point: str, first: str, last: str) -> GatewayError:
    """400: nothing to predict; all three are dates as the table writes them."""
    return bad_rows(
        f"Based on the forecast point ({point}), there are no rows to predict that fall inside of the forecast window "
        f"({first} to {last}). Try adjusting the forecast point to an earlier date or appending new future rows to "
        "the data."
    )


def other_format(column: str, value: str, form: str, example: str) -> GatewayError:
    """400: a time that is not written as the others are."""
    return bad_rows(
        f'The "{column}" feature contains the value {value!r}, which does not match the original format {form} '
        f"(e.g., {example!r}). To upload this data, first correct the format in your prediction dataset and then try "
        "the import again. Because some software automatically converts the format for display, it is best to check "
        "the actual format using a text editor."
    )


def short_history(steps: int, unit: str) -> GatewayError:
    """400: fewer rows than the deployment needs."""
    return several(
        f"The prediction data must contain historical values spanning more than {steps} {unit} into the past. In "
        "addition, the target cannot have missing values or missing rows which are used for differencing"
    )


def not_known_in_advance(columns: Sequence[str]) -> GatewayError:
    """400: values that should be known over the forecast window are not there."""
    named = ", ".join(f'"{c}"' for c in columns)
    return several(
        f"The known in advance features {named} have missing values in the forecast window. Send them, or send "
        "relaxKnownInAdvanceFeaturesCheck=true to predict without them"
    )
