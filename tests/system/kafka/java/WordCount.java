import java.util.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.*;
import org.apache.kafka.streams.kstream.*;

/**
 * Counts words with Kafka Streams, exactly once: {@code WordCount BOOTSTRAP IN OUT STATE PROTOCOL}. Every word of IN
 * becomes one record of OUT, with the word and how often it has come; ends on SIGTERM, and leaves its group. PROTOCOL
 * is that of the group: classic, or streams with one standby of each task.
 */
class WordCount {
    static final String GROUP = "word-count";

    /** What members of the classic protocol say by themselves. */
    static void groupConfigure(String bootstrap) throws Exception {
        Map<String, String> items = Map.of("streams.session.timeout.ms", "6000", "streams.heartbeat.interval.ms", "300",
            "streams.initial.rebalance.delay.ms", "300", "streams.num.standby.replicas", "1");
        Collection<AlterConfigOp> ops = new ArrayList<>();
        items.forEach((name, value) -> ops.add(new AlterConfigOp(new ConfigEntry(name, value), AlterConfigOp.OpType.SET)));
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            admin.incrementalAlterConfigs(Map.of(new ConfigResource(ConfigResource.Type.GROUP, GROUP), ops)).all().get();
        }
    }

    public static void main(String[] args) throws Exception {
        boolean streams = args[4].equals("streams");
        Properties p = new Properties();
        p.put(StreamsConfig.APPLICATION_ID_CONFIG, GROUP);
        p.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, args[0]);
        p.put(StreamsConfig.STATE_DIR_CONFIG, args[3]);
        p.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        p.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 100);
        p.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 0); // every count is told
        p.put(StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
        p.put(StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
        p.put(StreamsConfig.GROUP_PROTOCOL_CONFIG, args[4]);
        if (streams) {
            groupConfigure(args[0]);
        } else {
            p.put(StreamsConfig.consumerPrefix("session.timeout.ms"), 6000);
            p.put(StreamsConfig.consumerPrefix("heartbeat.interval.ms"), 300);
        }
        p.put(StreamsConfig.producerPrefix("transaction.timeout.ms"), 8000);
        StreamsBuilder b = new StreamsBuilder();
        b.<String, String>stream(args[1])
            .flatMapValues(line -> Arrays.asList(line.split(" ")))
            .groupBy((key, word) -> word)
            .count(Materialized.as("counts"))
            .toStream()
            .mapValues(n -> Long.toString(n))
            .to(args[2]);
        KafkaStreams s = new KafkaStreams(b.build(), p);
        Runtime.getRuntime().addShutdownHook(new Thread(() ->
            s.close(CloseOptions.groupMembershipOperation(CloseOptions.GroupMembershipOperation.LEAVE_GROUP))));
        s.setStateListener((now, before) -> {
            System.out.println(now);
            if (now == KafkaStreams.State.ERROR)
                Runtime.getRuntime().halt(1);
        });
        s.start();
    }
}
