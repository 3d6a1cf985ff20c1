package peer;

import com.fasterxml.jackson.annotation.JsonIgnoreProperties;
import com.fasterxml.jackson.annotation.JsonProperty;

/** One payment attempt; what a message has besides is not needed. */
@JsonIgnoreProperties(ignoreUnknown = true)
public record Transaction(
        @JsonProperty("transaction_id") String transactionId,
        @JsonProperty("card_id") String cardId,
        @JsonProperty("terminal_id") String terminalId,
        @JsonProperty("amount_minor") long amountMinor,
        @JsonProperty("occurred_at_ms") long occurredAtMs) {}
