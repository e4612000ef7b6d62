"""Pages of the server: sign-in, sessions of a user, share links; OpenID Connect and passkeys."""
