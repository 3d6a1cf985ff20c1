package peer;

import java.time.Duration;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;
import org.apache.kafka.streams.state.WindowStore;

/**
 * The windows of the agreed features, and the stores that hold what falls into them.
 *
 * <p>Rule 1. A window of length w at t is (t - w, t], without the transaction itself: it is read before it is added.
 */
final class Windows {
    static final long HOUR_MS = Duration.ofHours(1).toMillis();
    static final long DAY_MS = Duration.ofDays(1).toMillis();
    static final long[] CARD_MS = {HOUR_MS, DAY_MS, 7 * DAY_MS, 30 * DAY_MS};
    static final long[] TERMINAL_MS = {HOUR_MS, DAY_MS, 7 * DAY_MS};
    static final long CARD_KEPT_MS = CARD_MS[CARD_MS.length - 1];
    static final long TERMINAL_KEPT_MS = TERMINAL_MS[TERMINAL_MS.length - 1];
    /** Of each card window: count, sum, mean, maximum. */
    static final int PER_CARD_WINDOW = 4;
    /** The amount, then those of the card's windows. */
    static final int CARD_FEATURES = 1 + PER_CARD_WINDOW * CARD_MS.length;

    private Windows() {}

    /** A store by key and event time that keeps all of one moment. The day more is for those that come late. */
    static <V> StoreBuilder<WindowStore<String, V>> store(String name, long keptMs, Serde<V> values) {
        Duration kept = Duration.ofMillis(keptMs + DAY_MS);
        return Stores.windowStoreBuilder(
                Stores.persistentWindowStore(name, kept, Duration.ofMillis(1), true), Serdes.String(), values);
    }
}
