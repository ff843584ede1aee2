"""From which expected gain on the strong tier is asked, so that a share of the quality gap is recovered."""

import numpy as np

from headrace_router.cascade.curve import curve
from headrace_router.cascade.file import Threshold
from headrace_router.cascade.linear import Floats


def choose(predicted: Floats, gains: Floats, target: float) -> Threshold:
    """Return the threshold with the fewest strong calls that recovers `target` of the gap on these rows.

    Args:
        predicted: (n,) expected gains, of rows that the model has not seen.
        gains: (n,) what the strong answer gained.
        target: share of the gap, above 0, up to 1.
    """
    needed = int(np.ceil(curve(predicted, gains).calls_at(target) * len(gains) - 1e-9))
    order = np.sort(predicted)[::-1]
    gain = float(order[max(0, needed - 1)])
    return Threshold(target, gain, calls=float((predicted >= gain).mean()), rows=len(gains))
