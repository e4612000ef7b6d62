"""The certificate authority: keys, certificates and their files."""
