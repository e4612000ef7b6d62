"""Rate limiter, traffic shaper and bounded cache, sans-I/O."""
