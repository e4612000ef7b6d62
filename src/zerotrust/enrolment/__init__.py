"""Who is let in: invitations, joining, renewal, grants and revocation, each decision with its record."""
