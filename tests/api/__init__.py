"""What the tests of the synchronous API have in common."""
