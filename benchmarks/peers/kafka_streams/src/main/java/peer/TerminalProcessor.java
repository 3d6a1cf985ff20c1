package peer;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Set;
import ml.dmlc.xgboost4j.java.Booster;
import ml.dmlc.xgboost4j.java.XGBoost;
import ml.dmlc.xgboost4j.java.XGBoostError;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.ProcessorSupplier;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.WindowStore;
import org.apache.kafka.streams.state.WindowStoreIterator;

/** Counts a terminal's last 7 days in one scan, adds the transaction to them, and scores it. */
final class TerminalProcessor implements Processor<String, CardFeatures, String, Answer> {
    private static final String STORE = "terminal-history";
    private static final byte[] NOTHING = {1}; // a window store deletes what is empty

    private final String model;
    private final boolean showFeatures;
    private ProcessorContext<String, Answer> context;
    private WindowStore<String, byte[]> moments;
    private Booster booster;

    private TerminalProcessor(String model, boolean showFeatures) {
        this.model = model;
        this.showFeatures = showFeatures;
    }

    @Override
    public void init(ProcessorContext<String, Answer> given) {
        context = given;
        moments = given.getStateStore(STORE);
        try {
            booster = XGBoost.loadModel(Files.readAllBytes(Path.of(model)));
            booster.setParam("nthread", 1);
        } catch (IOException | XGBoostError error) {
            throw new IllegalStateException("PEER_MODEL=" + model + " cannot be loaded", error);
        }
    }

    @Override
    public void process(Record<String, CardFeatures> record) {
        CardFeatures card = record.value();
        float[] features = Arrays.copyOf(card.values(), Windows.CARD_FEATURES + Windows.TERMINAL_MS.length);
        count(record.key(), card.occurredAtMs(), features);
        moments.put(record.key(), NOTHING, card.occurredAtMs());
        Answer answer = new Answer(card.transactionId(), score(features), showFeatures ? shown(features) : null);
        context.forward(record.withValue(answer));
    }

    private void count(String terminalId, long atMs, float[] features) {
        try (WindowStoreIterator<byte[]> history =
                moments.fetch(terminalId, atMs - Windows.TERMINAL_KEPT_MS + 1, atMs)) {
            while (history.hasNext()) {
                long momentMs = history.next().key;
                for (int window = 0; window < Windows.TERMINAL_MS.length; window++) {
                    if (momentMs > atMs - Windows.TERMINAL_MS[window]) {
                        features[Windows.CARD_FEATURES + window]++;
                    }
                }
            }
        }
    }

    private float score(float[] features) {
        try {
            return booster.inplace_predict(features, 1, features.length, Float.NaN)[0][0];
        } catch (XGBoostError error) {
            throw new IllegalStateException("the forest cannot score", error);
        }
    }

    private static Float[] shown(float[] features) {
        Float[] told = new Float[features.length];
        for (int place = 0; place < told.length; place++) {
            told[place] = Float.isNaN(features[place]) ? null : features[place];
        }
        return told;
    }

    @Override
    public void close() {
        if (booster != null) {
            booster.dispose();
        }
    }

    /** Makes it with its store. model: the forest's file. */
    record Supplier(String model, boolean showFeatures)
            implements ProcessorSupplier<String, CardFeatures, String, Answer> {
        @Override
        public Processor<String, CardFeatures, String, Answer> get() {
            return new TerminalProcessor(model, showFeatures);
        }

        @Override
        public Set<StoreBuilder<?>> stores() {
            return Set.of(Windows.store(STORE, Windows.TERMINAL_KEPT_MS, Serdes.ByteArray()));
        }
    }
}
