import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.ByteBuffer;
import java.util.Arrays;
import java.util.HexFormat;
import org.apache.kafka.common.protocol.ApiMessage;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.ObjectSerializationCache;

/**
 * Has Kafka's own classes read and write the messages of vectors.txt: each line is a message, a version and its
 * bytes, which must come out as they went in. With kafka-clients 4.2 and slf4j-api in the class path:
 *
 *     test_kafka_codec print >vectors.txt          (or `print SEED` for any others)
 *     java -cp kafka-clients.jar:slf4j-api.jar Vectors.java <vectors.txt
 */
public class Vectors {
    static final String PACKAGE = "org.apache.kafka.common.message.";

    static Class<?> messageClass(String name) throws ClassNotFoundException {
        try {
            return Class.forName(PACKAGE + name + "Data"); // requests, responses and headers
        } catch (ClassNotFoundException e) {
            return Class.forName(PACKAGE + name);
        }
    }

    /** What is wrong, null if nothing is. */
    static String check(String name, short version, byte[] bytes) throws Exception {
        ByteBuffer in = ByteBuffer.wrap(bytes);
        ApiMessage m = (ApiMessage) messageClass(name)
            .getConstructor(org.apache.kafka.common.protocol.Readable.class, short.class)
            .newInstance(new ByteBufferAccessor(in), version);
        if (in.hasRemaining()) {
            return in.remaining() + " bytes are left";
        }
        ObjectSerializationCache cache = new ObjectSerializationCache();
        ByteBuffer out = ByteBuffer.allocate(m.size(cache, version));
        m.write(new ByteBufferAccessor(out), cache, version);
        return Arrays.equals(out.array(), bytes) ? null : "is written as " + HexFormat.of().formatHex(out.array());
    }

    public static void main(String[] args) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        int passed = 0, failed = 0;
        for (String line; (line = in.readLine()) != null; ) {
            String[] col = line.split(",", -1);
            String wrong;
            try {
                wrong = check(col[0], Short.parseShort(col[1]), HexFormat.of().parseHex(col[2]));
            } catch (ReflectiveOperationException e) {
                wrong = String.valueOf(e.getCause() != null ? e.getCause() : e);
            }
            if (wrong == null) {
                passed++;
            } else {
                failed++;
                System.out.println(col[0] + " " + col[1] + ": " + wrong);
            }
        }
        System.out.println(passed + " passed, " + failed + " failed");
        System.exit(failed == 0 && passed > 0 ? 0 : 1);
    }
}
