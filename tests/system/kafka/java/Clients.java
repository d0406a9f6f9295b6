import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.BooleanSupplier;
import java.util.stream.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.*;
import org.apache.kafka.common.serialization.*;

/** The Java client: {@code Clients BOOTSTRAP PREFIX [STEP…]}. */
class Clients {
    interface Step {
        void run() throws Exception;
    }

    static String bootstrap, prefix;
    static Admin admin;

    static String named(String name) {
        return prefix + "-java-" + name;
    }

    static void check(boolean ok, String what) {
        if (!ok)
            throw new AssertionError(what);
    }

    static void equal(Object got, Object want, String what) {
        check(Objects.equals(got, want), what + ": " + got + " instead of " + want);
    }

    static void until(String what, BooleanSupplier ready) throws InterruptedException {
        for (long end = System.currentTimeMillis() + 30000; !ready.getAsBoolean(); Thread.sleep(20))
            check(System.currentTimeMillis() < end, "waited for " + what);
    }

    static String made(String name, int partitions) throws Exception {
        admin.createTopics(List.of(new NewTopic(named(name), partitions, (short) 1))).all().get();
        return named(name);
    }

    static KafkaProducer<String, String> producer(Map<String, Object> more) {
        Map<String, Object> conf = new HashMap<>(Map.of("bootstrap.servers", bootstrap, "linger.ms", 5));
        conf.putAll(more);
        return new KafkaProducer<>(conf, new StringSerializer(), new StringSerializer());
    }

    static KafkaConsumer<String, String> consumer(String group, Map<String, Object> more) {
        Map<String, Object> conf = new HashMap<>(Map.of("bootstrap.servers", bootstrap, "auto.offset.reset", "earliest",
            "enable.auto.commit", false, "fetch.max.wait.ms", 100));
        if (group != null)
            conf.put("group.id", group);
        if (!"consumer".equals(more.get("group.protocol")))
            conf.putAll(Map.of("heartbeat.interval.ms", 300, "session.timeout.ms", 10000));
        conf.putAll(more);
        return new KafkaConsumer<>(conf, new StringDeserializer(), new StringDeserializer());
    }

    static void many(String topic, int from, int to) throws Exception {
        try (var p = producer(Map.of("compression.type", "zstd"))) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (int i = from; i < to; i++)
                sent.add(p.send(new ProducerRecord<>(topic, "k" + i % 50, "v" + i)));
            for (var f : sent)
                f.get();
        }
    }

    /** n records, and then none for a while. */
    static List<ConsumerRecord<String, String>> take(Consumer<String, String> c, int n, int quietMs) {
        List<ConsumerRecord<String, String>> got = new ArrayList<>();
        for (long end = System.currentTimeMillis() + 30000; got.size() < n;) {
            c.poll(Duration.ofMillis(100)).forEach(got::add);
            check(System.currentTimeMillis() < end, got.size() + " records of " + n);
        }
        for (long end = System.currentTimeMillis() + quietMs; System.currentTimeMillis() < end;)
            c.poll(Duration.ofMillis(50)).forEach(got::add);
        equal(got.size(), n, "records");
        return got;
    }

    static KafkaConsumer<String, String> reader(String topic, long offset, String isolation) {
        var c = consumer(null, Map.of("isolation.level", isolation));
        c.assign(List.of(new TopicPartition(topic, 0)));
        c.seek(new TopicPartition(topic, 0), offset);
        return c;
    }

    static KafkaConsumer<String, String> subscribed(String group, String topic) {
        var c = consumer(group, Map.of());
        c.subscribe(List.of(topic));
        return c;
    }

    static void topics() throws Exception {
        String topic = made("topics", 3);
        check(admin.listTopics().names().get().contains(topic), "the topic is listed");
        var d = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic);
        equal(d.partitions().size(), 3, "partitions");
        var byId = admin.describeTopics(TopicCollection.ofTopicIds(List.of(d.topicId()))).allTopicIds().get();
        equal(byId.get(d.topicId()).name(), topic, "the topic by its id");
        try {
            made("topics", 3);
            check(false, "the topic could be made twice");
        } catch (ExecutionException e) {
            check(e.getCause() instanceof TopicExistsException, "made twice: " + e);
        }
    }

    static void codecs() throws Exception {
        String topic = made("codecs", 1);
        List<String> want = new ArrayList<>();
        long then = System.currentTimeMillis() - 100000;
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd"))
            try (var p = producer(Map.of("compression.type", codec, "acks", codec.equals("lz4") ? "1" : "all",
                                         "enable.idempotence", !codec.equals("lz4")))) {
                for (int i = 0; i < 500; i++) {
                    String value = codec + " " + i + " " + "x".repeat(i % 90);
                    var r = new ProducerRecord<>(topic, 0, then + i, "k" + i, value);
                    r.headers().add("codec", codec.getBytes());
                    p.send(r);
                    want.add("k" + i + " " + value + " " + codec + " " + (then + i));
                }
            }
        try (var c = reader(topic, 0, "read_uncommitted")) {
            var got = take(c, want.size(), 0).stream().map(r -> r.key() + " " + r.value() + " " +
                new String(r.headers().lastHeader("codec").value()) + " " + r.timestamp()).toList();
            for (int i = 0; i < want.size(); i++)
                equal(got.get(i), want.get(i), "record " + i);
        }
    }

    /** A consumer on a thread of its own, which commits what it took. */
    static class Member extends Thread {
        final Queue<String> got = new ConcurrentLinkedQueue<>();
        final AtomicBoolean ending = new AtomicBoolean();
        final KafkaConsumer<String, String> c;
        volatile Set<TopicPartition> parts = Set.of();
        volatile Throwable error;

        Member(String group, String topic, Map<String, Object> more) {
            c = consumer(group, more);
            c.subscribe(List.of(topic));
            start();
        }

        public void run() {
            try (c) {
                while (!ending.get()) {
                    var records = c.poll(Duration.ofMillis(50));
                    records.forEach(r -> got.add(r.value()));
                    if (!records.isEmpty())
                        c.commitSync();
                    parts = Set.copyOf(c.assignment());
                }
            } catch (Throwable e) {
                e.printStackTrace();
                error = e;
            }
        }

        void end() throws Exception {
            ending.set(true);
            join(40000);
            check(!isAlive() && error == null, "a member ended with " + error);
        }
    }

    static void group(String name, Map<String, Object> more) throws Exception {
        String topic = made(name, 6);
        List<Member> all = new ArrayList<>();
        for (int i = 0; i < 3; i++)
            all.add(new Member(named(name), topic, more));
        List<Member> now = new ArrayList<>(all);
        for (int phase = 0; phase < 3; phase++) {
            if (phase == 1)
                now.remove(0).end();
            if (phase == 2) {
                all.add(new Member(named(name), topic, more));
                now.add(all.get(3));
            }
            until("the partitions to be shared", () -> now.stream().allMatch(m -> m.parts.size() == 6 / now.size()) &&
                now.stream().flatMap(m -> m.parts.stream()).distinct().count() == 6);
            many(topic, phase * 600, phase * 600 + 600);
            int sent = phase * 600 + 600;
            until("the records", () -> all.stream().mapToInt(m -> m.got.size()).sum() >= sent);
            Thread.sleep(500); // for their commits
        }
        for (Member m : now)
            m.end();
        var values = all.stream().flatMap(m -> m.got.stream()).sorted().toList();
        equal(values, IntStream.range(0, 1800).mapToObj(i -> "v" + i).sorted().toList(), "each record once");
    }

    static void resume() throws Exception {
        String topic = made("resume", 1), group = named("resume");
        var tp = new TopicPartition(topic, 0);
        many(topic, 0, 100);
        try (var c = subscribed(group, topic)) {
            take(c, 100, 0);
            c.commitSync(Map.of(tp, new OffsetAndMetadata(40, "note")));
        }
        var o = admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().get(tp);
        equal(o.offset() + o.metadata(), "40note", "committed");
        try (var c = subscribed(group, topic)) {
            var got = take(c, 60, 400);
            equal(got.get(0).value() + got.get(59).value(), "v40v99", "resumed");
        }
        admin.alterConsumerGroupOffsets(group, Map.of(tp, new OffsetAndMetadata(90))).all().get();
        try (var c = subscribed(group, topic)) {
            equal(take(c, 10, 200).get(0).value(), "v90", "resumed where the admin says");
        }
    }

    static void seek() throws Exception {
        String topic = made("seek", 1);
        var tp = new TopicPartition(topic, 0);
        many(topic, 0, 200);
        Thread.sleep(30);
        long then = System.currentTimeMillis();
        Thread.sleep(30);
        many(topic, 200, 300);
        try (var c = reader(topic, 150, "read_uncommitted")) {
            equal(take(c, 150, 0).get(0).value(), "v150", "first");
            c.seek(tp, 10);
            equal(take(c, 290, 0).get(0).value(), "v10", "first after seeking");
            c.seekToEnd(List.of(tp));
            equal(c.position(tp), 300L, "end");
            c.seekToBeginning(List.of(tp));
            equal(c.position(tp), 0L, "beginning");
            equal(c.offsetsForTimes(Map.of(tp, then)).get(tp).offset(), 200L, "offset of a time");
        }
        var max = admin.listOffsets(Map.of(tp, OffsetSpec.maxTimestamp())).partitionResult(tp).get();
        check(max.offset() >= 200 && max.timestamp() >= then, "the latest time is at " + max.offset());
        try (var c = reader(topic, 1000, "read_uncommitted")) {
            equal(take(c, 300, 0).get(0).value(), "v0", "first after an offset out of range");
        }
    }

    static List<String> read(String topic, String isolation, int n) {
        try (var c = reader(topic, 0, isolation)) {
            return take(c, n, 300).stream().map(ConsumerRecord::value).toList();
        }
    }

    static void transactions() throws Exception {
        String topic = made("txn", 1), source = made("txn-in", 1), group = named("txn");
        many(source, 0, 10);
        Map<String, Object> conf = Map.of("transactional.id", named("txn"));
        var p = producer(conf);
        p.initTransactions();
        for (String value : List.of("one", "two", "three")) {
            p.beginTransaction();
            p.send(new ProducerRecord<>(topic, value)).get();
            if (value.equals("three"))
                try (var c = subscribed(group, source)) {
                    take(c, 10, 0);
                    p.sendOffsetsToTransaction(Map.of(new TopicPartition(source, 0), new OffsetAndMetadata(7)), c.groupMetadata());
                }
            if (value.equals("two"))
                p.abortTransaction();
            else
                p.commitTransaction();
        }
        equal(read(topic, "read_committed", 2), List.of("one", "three"), "read_committed");
        equal(read(topic, "read_uncommitted", 3), List.of("one", "two", "three"), "read_uncommitted");
        try (var c = subscribed(group, source)) {
            equal(take(c, 3, 200).get(0).value(), "v7", "from the transaction's offset");
        }
        p.beginTransaction();
        p.send(new ProducerRecord<>(topic, "fenced")).get();
        equal(admin.describeTransactions(List.of(named("txn"))).description(named("txn")).get().state(),
              TransactionState.ONGOING, "state of the transaction");
        equal(admin.describeProducers(List.of(new TopicPartition(topic, 0))).all().get().values().iterator().next()
              .activeProducers().size(), 1, "producers of the partition");
        try (var other = producer(conf)) {
            other.initTransactions();
            try {
                p.commitTransaction();
                check(false, "a producer whose place was taken could commit");
            } catch (ProducerFencedException | InvalidProducerEpochException e) {
                p.close(Duration.ZERO);
            }
            other.beginTransaction();
            other.send(new ProducerRecord<>(topic, "four"));
            other.commitTransaction();
        }
        equal(read(topic, "read_committed", 3), List.of("one", "three", "four"), "after fencing");
        check(admin.listTransactions().all().get().stream().anyMatch(t -> t.transactionalId().equals(named("txn"))),
              "the transaction is listed");
    }

    static void adminStep() throws Exception {
        String topic = made("admin", 1), group = named("admin");
        var tp = new TopicPartition(topic, 0);
        var resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        many(topic, 0, 20);
        var set = new AlterConfigOp(new ConfigEntry("retention.ms", "123456789"), AlterConfigOp.OpType.SET);
        admin.incrementalAlterConfigs(Map.of(resource, List.of(set))).all().get();
        var entry = admin.describeConfigs(List.of(resource)).all().get().get(resource).get("retention.ms");
        equal(entry.value() + " " + entry.source(), "123456789 DYNAMIC_TOPIC_CONFIG", "retention.ms");
        var bad = new AlterConfigOp(new ConfigEntry("no.such", "1"), AlterConfigOp.OpType.SET);
        try {
            admin.incrementalAlterConfigs(Map.of(resource, List.of(bad))).all().get();
            check(false, "an unknown configuration was taken");
        } catch (ExecutionException e) {
            check(e.getCause() instanceof InvalidConfigurationException, "an unknown configuration: " + e);
        }
        admin.deleteRecords(Map.of(tp, RecordsToDelete.beforeOffset(5))).all().get();
        equal(admin.listOffsets(Map.of(tp, OffsetSpec.earliest())).partitionResult(tp).get().offset(), 5L, "earliest");
        admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(4))).all().get();
        equal(admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().size(), 4, "partitions");
        equal(admin.describeCluster().nodes().get().size(), 1, "nodes");
        check(admin.describeFeatures().featureMetadata().get().finalizedFeatures().containsKey("transaction.version"),
              "features");
        try (var c = subscribed(group, topic)) {
            equal(take(c, 15, 0).get(0).value(), "v5", "first");
            c.commitSync();
            var d = admin.describeConsumerGroups(List.of(group)).all().get().get(group);
            equal(d.groupState() + " " + d.members().size(), "Stable 1", "group");
        }
        check(admin.listGroups().all().get().stream().anyMatch(g -> g.groupId().equals(group)), "the group is listed");
        admin.deleteConsumerGroupOffsets(group, Set.of(tp)).all().get();
        admin.deleteConsumerGroups(List.of(group)).all().get();
        check(admin.listGroups().all().get().stream().noneMatch(g -> g.groupId().equals(group)), "the group is gone");
        admin.deleteTopics(List.of(topic)).all().get();
        check(!admin.listTopics().names().get().contains(topic), "the topic is gone");
    }

    static KafkaShareConsumer<String, String> sharing(String group, String topic) {
        var c = new KafkaShareConsumer<>(Map.of("bootstrap.servers", bootstrap, "group.id", group,
            "share.acknowledgement.mode", "explicit"), new StringDeserializer(), new StringDeserializer());
        c.subscribe(List.of(topic));
        return c;
    }

    /** A share group: two members work on one partition; what one gives back or leaves behind comes again. */
    static void share() throws Exception {
        String topic = made("share", 1), group = named("share");
        var early = new AlterConfigOp(new ConfigEntry("share.auto.offset.reset", "earliest"), AlterConfigOp.OpType.SET);
        admin.incrementalAlterConfigs(Map.of(new ConfigResource(ConfigResource.Type.GROUP, group), List.of(early))).all().get();
        many(topic, 0, 200);
        Map<String, Integer> accepted = new TreeMap<>();
        Set<String> released = new HashSet<>();
        boolean rejected = false;
        try (var one = sharing(group, topic); var two = sharing(group, topic)) {
            var members = List.of(one, two);
            for (long end = System.currentTimeMillis() + 60000; accepted.size() < 199;) {
                check(System.currentTimeMillis() < end, accepted.size() + " records accepted");
                for (var c : members) {
                    for (var r : c.poll(Duration.ofMillis(100))) {
                        int n = Integer.parseInt(r.value().substring(1));
                        if (n == 13) {
                            check(!rejected, "a rejected record came again");
                            rejected = true;
                            c.acknowledge(r, AcknowledgeType.REJECT);
                        } else if (n % 10 == 0 && released.add(r.value())) {
                            equal((int) r.deliveryCount().get(), 1, "first delivery");
                            c.acknowledge(r, AcknowledgeType.RELEASE);
                        } else {
                            equal((int) r.deliveryCount().get(), released.contains(r.value()) ? 2 : 1, "deliveries of " + n);
                            c.acknowledge(r, AcknowledgeType.ACCEPT);
                            accepted.merge(r.value(), 1, Integer::sum);
                        }
                    }
                    for (var e : c.commitSync(Duration.ofSeconds(10)).entrySet())
                        check(e.getValue().isEmpty(), "acknowledging: " + e);
                }
            }
            var d = admin.describeShareGroups(List.of(group)).all().get().get(group);
            equal(d.members().size() + " " + d.groupState(), "2 Stable", "group");
        }
        equal(accepted.values().stream().distinct().toList(), List.of(1), "each record is accepted once");
        check(rejected && released.size() == 20, "what was rejected and given back");
        try (var c = sharing(group, topic)) {
            many(topic, 200, 201);
            List<String> got = new ArrayList<>();
            for (long end = System.currentTimeMillis() + 30000; got.isEmpty();) {
                check(System.currentTimeMillis() < end, "nothing came");
                for (var r : c.poll(Duration.ofMillis(100))) {
                    got.add(r.value());
                    c.acknowledge(r);
                }
                c.commitSync();
            }
            equal(got, List.of("v200"), "after all was accepted");
        }
    }

    public static void main(String[] args) throws Exception {
        bootstrap = args[0];
        prefix = args[1];
        admin = Admin.create(Map.of("bootstrap.servers", bootstrap));
        Map<String, Step> steps = new LinkedHashMap<>();
        steps.put("topics", Clients::topics);
        steps.put("codecs", Clients::codecs);
        steps.put("group", () -> group("group", Map.of("partition.assignment.strategy",
            "org.apache.kafka.clients.consumer.RangeAssignor")));
        steps.put("cooperative", () -> group("cooperative", Map.of("partition.assignment.strategy",
            "org.apache.kafka.clients.consumer.CooperativeStickyAssignor")));
        steps.put("group_848", () -> group("group-848", Map.of("group.protocol", "consumer")));
        steps.put("share", Clients::share);
        steps.put("resume", Clients::resume);
        steps.put("seek", Clients::seek);
        steps.put("transactions", Clients::transactions);
        steps.put("admin", Clients::adminStep);
        boolean failed = false;
        for (var s : steps.entrySet()) {
            if (args.length > 2 && !List.of(args).subList(2, args.length).contains(s.getKey()))
                continue;
            try {
                s.getValue().run();
                System.out.println("ok " + s.getKey());
            } catch (Throwable e) {
                failed = true;
                e.printStackTrace();
                System.out.println("fail " + s.getKey() + ": " + String.valueOf(e).replaceAll("\\s+", " "));
            }
        }
        admin.close(Duration.ofSeconds(5));
        System.exit(failed ? 1 : 0);
    }
}
