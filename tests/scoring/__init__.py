"""What the scorer's unit and integration tests have in common: models and vectors."""
