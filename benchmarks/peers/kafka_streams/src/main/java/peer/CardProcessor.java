package peer;

import java.util.Set;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.ProcessorSupplier;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.WindowStore;
import org.apache.kafka.streams.state.WindowStoreIterator;

/** Reads a card's last 30 days in one scan, adds the transaction to them, and sends its features to the terminal. */
final class CardProcessor implements Processor<String, Transaction, String, CardFeatures> {
    private static final String STORE = "card-history";

    private ProcessorContext<String, CardFeatures> context;
    private WindowStore<String, Long> amounts;

    @Override
    public void init(ProcessorContext<String, CardFeatures> given) {
        context = given;
        amounts = given.getStateStore(STORE);
    }

    @Override
    public void process(Record<String, Transaction> record) {
        Transaction transaction = record.value();
        float[] values = features(transaction);
        amounts.put(transaction.cardId(), transaction.amountMinor(), transaction.occurredAtMs());
        CardFeatures told = new CardFeatures(transaction.transactionId(), transaction.occurredAtMs(), values);
        context.forward(record.withKey(transaction.terminalId()).withValue(told));
    }

    private float[] features(Transaction transaction) {
        int windows = Windows.CARD_MS.length;
        long[] counts = new long[windows];
        long[] sums = new long[windows];
        long[] most = new long[windows];
        long atMs = transaction.occurredAtMs();
        try (WindowStoreIterator<Long> history =
                amounts.fetch(transaction.cardId(), atMs - Windows.CARD_KEPT_MS + 1, atMs)) {
            while (history.hasNext()) {
                KeyValue<Long, Long> one = history.next();
                for (int window = windows - 1; window >= 0 && one.key > atMs - Windows.CARD_MS[window]; window--) {
                    counts[window]++;
                    sums[window] += one.value;
                    most[window] = Math.max(most[window], one.value);
                }
            }
        }
        float[] told = new float[Windows.CARD_FEATURES];
        int place = 0;
        told[place++] = transaction.amountMinor();
        for (int window = 0; window < windows; window++) {
            boolean empty = counts[window] == 0;
            told[place++] = counts[window];
            told[place++] = sums[window];
            told[place++] = empty ? Float.NaN : (float) ((double) sums[window] / counts[window]);
            told[place++] = empty ? Float.NaN : most[window];
        }
        return told;
    }

    /** Makes it with its store. */
    static final class Supplier implements ProcessorSupplier<String, Transaction, String, CardFeatures> {
        @Override
        public Processor<String, Transaction, String, CardFeatures> get() {
            return new CardProcessor();
        }

        @Override
        public Set<StoreBuilder<?>> stores() {
            return Set.of(Windows.store(STORE, Windows.CARD_KEPT_MS, Serdes.Long()));
        }
    }
}
