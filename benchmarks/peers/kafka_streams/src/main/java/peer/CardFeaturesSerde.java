package peer;

import static java.nio.charset.StandardCharsets.UTF_8;

import java.nio.ByteBuffer;
import org.apache.kafka.common.serialization.Serdes;

/**
 * Packed bytes between the two stages: event time, features, id.
 *
 * <p>Rule 1. Nobody else reads them, so they need no JSON.
 */
final class CardFeaturesSerde extends Serdes.WrapperSerde<CardFeatures> {
    CardFeaturesSerde() {
        super((topic, value) -> packed(value), (topic, bytes) -> unpacked(bytes));
    }

    private static byte[] packed(CardFeatures value) {
        byte[] id = value.transactionId().getBytes(UTF_8);
        ByteBuffer buffer = ByteBuffer.allocate(Long.BYTES + Windows.CARD_FEATURES * Float.BYTES + id.length);
        buffer.putLong(value.occurredAtMs());
        for (float one : value.values()) {
            buffer.putFloat(one);
        }
        return buffer.put(id).array();
    }

    private static CardFeatures unpacked(byte[] bytes) {
        ByteBuffer buffer = ByteBuffer.wrap(bytes);
        long occurredAtMs = buffer.getLong();
        float[] values = new float[Windows.CARD_FEATURES];
        for (int place = 0; place < values.length; place++) {
            values[place] = buffer.getFloat();
        }
        return new CardFeatures(new String(bytes, buffer.position(), buffer.remaining(), UTF_8), occurredAtMs, values);
    }
}
