import java.time.Duration;
import java.util.*;

import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.serialization.*;

/**
 * A share consumer for kafka_share.py, which says what it is to do:
 *
 *   BOOTSTRAP setup TOPIC GROUP RECORDS [CONFIG=VALUE...]   makes the topic, sets the group, produces v0, v1, ...
 *   BOOTSTRAP hold TOPIC GROUP RECORDS                      takes records, and does nothing with them
 *   BOOTSTRAP work TOPIC GROUP RECORDS ACTION MS            settles so many records, or what comes in that time
 *   BOOTSTRAP dead TOPIC RECORDS                            prints dead letters with their headers
 *   BOOTSTRAP start TOPIC GROUP                             prints where the group begins in partition 0
 *
 * Prints a line `VALUE DELIVERIES` for each record, and `holds` when it has them all.
 */
public class Share {
    static String bootstrap;

    static KafkaShareConsumer<String, String> consumer(String group, String topic) {
        var c = new KafkaShareConsumer<>(Map.<String, Object>of("bootstrap.servers", bootstrap, "group.id", group,
            "share.acknowledgement.mode", "explicit"), new StringDeserializer(), new StringDeserializer());
        c.subscribe(List.of(topic));
        return c;
    }

    static void print(ConsumerRecord<String, String> r) {
        System.out.println(r.value() + " " + r.deliveryCount().get());
        System.out.flush();
    }

    static void setup(String topic, String group, int records, List<String> configs) throws Exception {
        try (var admin = Admin.create(Map.of("bootstrap.servers", bootstrap));
             var p = new KafkaProducer<>(Map.<String, Object>of("bootstrap.servers", bootstrap), new StringSerializer(),
                 new StringSerializer())) {
            admin.createTopics(List.of(new NewTopic(topic, 1, (short) 1))).all().get();
            var ops = configs.stream().map(c -> c.split("=", 2))
                .map(c -> new AlterConfigOp(new ConfigEntry(c[0], c[1]), AlterConfigOp.OpType.SET)).toList();
            if (!ops.isEmpty())
                admin.incrementalAlterConfigs(Map.of(new ConfigResource(ConfigResource.Type.GROUP, group), ops)).all().get();
            for (int i = 0; i < records; i++)
                p.send(new ProducerRecord<>(topic, "k" + i, "v" + i)).get();
        }
    }

    static void hold(String topic, String group, int records) throws Exception {
        var c = consumer(group, topic);
        int n = 0;
        while (n < records)
            for (var r : c.poll(Duration.ofMillis(200))) {
                print(r);
                n++;
            }
        System.out.println("holds");
        System.out.flush();
        Thread.sleep(600000);
    }

    static void work(String topic, String group, int records, AcknowledgeType action, long ms) {
        try (var c = consumer(group, topic)) {
            int n = 0;
            for (long end = System.currentTimeMillis() + ms; n < records && System.currentTimeMillis() < end;) {
                for (var r : c.poll(Duration.ofMillis(200))) {
                    if (n == records) /* the rest is given back when it closes */
                        break;
                    print(r);
                    c.acknowledge(r, action);
                    n++;
                }
                if (n < records)
                    c.commitSync(Duration.ofSeconds(10)).forEach((tp, e) -> e.ifPresent(x -> {
                        throw x;
                    }));
            }
        }
    }

    static void dead(String topic, int records) {
        try (var c = new KafkaConsumer<>(Map.<String, Object>of("bootstrap.servers", bootstrap, "auto.offset.reset",
            "earliest", "group.id", "dead"), new StringDeserializer(), new StringDeserializer())) {
            var parts = c.partitionsFor(topic).stream()
                .map(p -> new org.apache.kafka.common.TopicPartition(topic, p.partition())).toList();
            c.assign(parts);
            int n = 0;
            for (long end = System.currentTimeMillis() + 20000; n < records && System.currentTimeMillis() < end;)
                for (var r : c.poll(Duration.ofMillis(200))) {
                    var line = new StringBuilder(r.key() + " " + r.value());
                    for (var h : r.headers())
                        line.append(" ").append(h.key()).append("=").append(new String(h.value()).replace(' ', '_'));
                    System.out.println(line);
                    n++;
                }
        }
    }

    static void start(String topic, String group) throws Exception {
        try (var admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            var o = admin.listShareGroupOffsets(Map.of(group, new ListShareGroupOffsetsSpec()))
                .partitionsToOffsetInfo(group).get();
            System.out.println(o.get(new org.apache.kafka.common.TopicPartition(topic, 0)).startOffset());
        }
    }

    public static void main(String[] a) throws Exception {
        bootstrap = a[0];
        switch (a[1]) {
        case "setup" -> setup(a[2], a[3], Integer.parseInt(a[4]), List.of(a).subList(5, a.length));
        case "hold" -> hold(a[2], a[3], Integer.parseInt(a[4]));
        case "work" -> work(a[2], a[3], Integer.parseInt(a[4]), AcknowledgeType.valueOf(a[5]), Long.parseLong(a[6]));
        case "dead" -> dead(a[2], Integer.parseInt(a[3]));
        case "start" -> start(a[2], a[3]);
        default -> throw new IllegalArgumentException(a[1]);
        }
    }
}
