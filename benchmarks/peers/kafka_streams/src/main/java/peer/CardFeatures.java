package peer;

/** A transaction on its way to its terminal. values: {@link Windows#CARD_FEATURES} features. */
public record CardFeatures(String transactionId, long occurredAtMs, float[] values) {}
