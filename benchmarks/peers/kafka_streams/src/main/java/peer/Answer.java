package peer;

import com.fasterxml.jackson.annotation.JsonInclude;
import com.fasterxml.jackson.annotation.JsonProperty;

/** A transaction's score; features only where the harness compares them, null for no value. */
@JsonInclude(JsonInclude.Include.NON_NULL)
public record Answer(
        @JsonProperty("transaction_id") String transactionId,
        @JsonProperty("score") float score,
        @JsonProperty("features") Float[] features) {}
