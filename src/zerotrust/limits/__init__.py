"""Rate limiter, traffic shaper and bounded cache, sans-I/O: what other rooms count and bound with."""
