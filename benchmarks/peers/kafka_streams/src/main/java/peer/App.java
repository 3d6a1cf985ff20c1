package peer;

import java.time.Duration;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.CloseOptions;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.Repartitioned;

/**
 * Fraud scoring as a Kafka Streams application: histories of cards, repartitioned to those of terminals, scored by xgboost4j.
 *
 * <p>Rule 1. Settings are the library's defaults; each that is not has its reason beside it.
 */
public final class App {
    private App() {}

    /** Score until the process is ended. */
    public static void main(String[] arguments) {
        Map<String, String> environment = System.getenv();
        KafkaStreams streams = new KafkaStreams(topology(environment), settings(environment));
        CloseOptions leaving = // at once: the next start does not wait for a session to time out
                CloseOptions.groupMembershipOperation(CloseOptions.GroupMembershipOperation.LEAVE_GROUP)
                        .withTimeout(Duration.ofSeconds(8));
        Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(leaving)));
        streams.start();
    }

    private static Topology topology(Map<String, String> environment) {
        boolean showFeatures = !environment.getOrDefault("PEER_SHOW_FEATURES", "").isEmpty();
        String model = environment.get("PEER_MODEL");
        StreamsBuilder builder = new StreamsBuilder();
        builder.stream(environment.get("PEER_INPUT"), Consumed.with(Serdes.String(), JsonSerde.of(Transaction.class)))
                .process(new CardProcessor.Supplier())
                .repartition(Repartitioned.with(Serdes.String(), new CardFeaturesSerde()).withName("by-terminal"))
                .process(new TerminalProcessor.Supplier(model, showFeatures))
                .to(environment.get("PEER_OUTPUT"), Produced.with(Serdes.String(), JsonSerde.of(Answer.class)));
        return builder.build();
    }

    private static Properties settings(Map<String, String> environment) {
        Properties settings = new Properties();
        // State is kept under the application's id: the check, which shows its features, has its own.
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, "peer-kafka-streams" + environment.getOrDefault("PEER_RUN", ""));
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, environment.get("PEER_BOOTSTRAP"));
        settings.put(StreamsConfig.STATE_DIR_CONFIG, environment.get("PEER_FOLDER"));
        // A thread for each CPU, as its documentation advises: the two stages run side by side.
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, Runtime.getRuntime().availableProcessors());
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
        // Streams waits 100 ms for a batch, in both hops; 5 ms as the other peers, with room for batches under load.
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.LINGER_MS_CONFIG), 5);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), 64 * 1024);
        return settings;
    }
}
