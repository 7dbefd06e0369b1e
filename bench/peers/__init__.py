"""What we are measured against: programs that run in an environment of their own, never imported from here."""
