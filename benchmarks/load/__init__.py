"""Load generator: a separate program, so that it takes no time of the measured processes."""
