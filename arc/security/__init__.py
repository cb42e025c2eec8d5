"""Who is asking: tokens, later signatures and TLS."""
