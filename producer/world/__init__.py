"""The world: people, habits and fraud, as a pure function of a seed and a day."""
