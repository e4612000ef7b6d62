"""Configuration files: YAML text to checked models, with every problem's line and column."""
