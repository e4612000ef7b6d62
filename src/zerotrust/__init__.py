"""0Trust: private services behind one outbound mTLS tunnel, with Caddy at the edge."""

__version__ = "0.1.0"
