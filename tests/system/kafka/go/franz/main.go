// franz-go: `franz BOOTSTRAP PREFIX [STEP…]`.
package main

import (
	"context"
	"os"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"weir-system-tests/steps"
)

var ctx = context.Background()

type client struct {
	seed string
	cl   *kgo.Client
	a    *kadm.Client
}

func must[T any](v T, err error) T {
	steps.Must(err)
	return v
}

func (c client) new(opts ...kgo.Opt) *kgo.Client {
	return must(kgo.NewClient(append(opts, kgo.SeedBrokers(c.seed))...))
}

func (client) Name() string { return "franz" }

func (c client) Create(topic string, n int) error {
	_, err := c.a.CreateTopic(ctx, int32(n), 1, nil, topic)
	return err
}

func (c client) Delete(topic string) { must(c.a.DeleteTopic(ctx, topic)) }

func (c client) Topics() []string { return must(c.a.ListTopics(ctx)).Names() }

func (c client) Partitions(topic string) int {
	return len(must(c.a.ListTopics(ctx, topic))[topic].Partitions)
}

func (c client) AddPartitions(topic string, n int) {
	steps.Must(must(c.a.UpdatePartitions(ctx, n, topic)).Error())
}

func (c client) Send(topic, codec string, records []steps.Record) {
	codecs := map[string]kgo.CompressionCodec{"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(),
		"snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression()}
	p := c.new(kgo.ProducerBatchCompression(codecs[codec]), kgo.ProducerLinger(5*time.Millisecond))
	defer p.Close()
	var out []*kgo.Record
	for _, r := range records {
		rec := &kgo.Record{Topic: topic, Key: []byte(r.Key), Value: []byte(r.Value)}
		if r.Headers != "" {
			rec.Headers = []kgo.RecordHeader{{Key: "codec", Value: []byte(codec)}}
		}
		out = append(out, rec)
	}
	steps.Must(p.ProduceSync(ctx, out...).FirstErr())
}

type consumer struct {
	cl    *kgo.Client
	topic string
	parts chan map[string][]int32
	mine  map[int32]bool
}

func (c *consumer) Take() []steps.Record {
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	var out []steps.Record
	fetches := c.cl.PollFetches(short)
	for _, e := range fetches.Errors() {
		if short.Err() == nil {
			panic(e.Err)
		}
	}
	fetches.EachRecord(func(r *kgo.Record) {
		h := ""
		for _, x := range r.Headers {
			h += x.Key + "=" + string(x.Value) + ";"
		}
		out = append(out, steps.Record{Partition: r.Partition, Offset: r.Offset, Key: string(r.Key),
			Value: string(r.Value), Headers: h})
	})
	c.cl.AllowRebalance()
	return out
}

func (c *consumer) Commit() { steps.Must(c.cl.CommitUncommittedOffsets(ctx)) }

func (c *consumer) CommitAt(p int32, offset int64, note string) {
	noted := kgo.PreCommitFnContext(ctx, func(r *kmsg.OffsetCommitRequest) error {
		r.Topics[0].Partitions[0].Metadata = &note
		return nil
	})
	c.cl.CommitOffsetsSync(noted, map[string]map[int32]kgo.EpochOffset{c.topic: {p: {Epoch: -1, Offset: offset}}},
		func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, r *kmsg.OffsetCommitResponse, err error) {
			steps.Must(err)
			steps.Must(kerr.ErrorForCode(r.Topics[0].Partitions[0].ErrorCode))
		})
}

func (c *consumer) Parts() []int32 {
	for {
		select {
		case m := <-c.parts:
			for _, p := range m["+"] {
				c.mine[p] = true
			}
			for _, p := range m["-"] {
				delete(c.mine, p)
			}
			continue
		default:
		}
		break
	}
	var out []int32
	for p := range c.mine {
		out = append(out, p)
	}
	return out
}

func (c *consumer) Close() {
	c.cl.Close()
}

func (c client) Group(group, topic, strategy string) steps.Consumer {
	balancers := map[string]kgo.GroupBalancer{"range": kgo.RangeBalancer(), "sticky": kgo.StickyBalancer(),
		"cooperative": kgo.CooperativeStickyBalancer()}
	k := &consumer{topic: topic, parts: make(chan map[string][]int32, 1000), mine: map[int32]bool{}}
	note := func(sign string) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, m map[string][]int32) {
			k.parts <- map[string][]int32{sign: slices.Clone(m[topic])}
		}
	}
	k.cl = c.new(kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(),
		kgo.Balancers(balancers[strategy]), kgo.HeartbeatInterval(300*time.Millisecond),
		kgo.SessionTimeout(10*time.Second), kgo.BlockRebalanceOnPoll(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.OnPartitionsAssigned(note("+")), kgo.OnPartitionsRevoked(note("-")), kgo.OnPartitionsLost(note("-")))
	return k
}

func (c client) Read(topic string, offset int64, committed bool) steps.Consumer {
	level := kgo.ReadUncommitted()
	if committed {
		level = kgo.ReadCommitted()
	}
	return &consumer{topic: topic, parts: make(chan map[string][]int32), cl: c.new(kgo.FetchIsolationLevel(level),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().At(offset)}}))}
}

func (c client) Committed(group, topic string) (int64, string) {
	o, _ := must(c.a.FetchOffsets(ctx, group)).Lookup(topic, 0)
	steps.Must(o.Err)
	return o.At, o.Metadata
}

func (c client) Bounds(topic string) (int64, int64) {
	low, _ := must(c.a.ListStartOffsets(ctx, topic)).Lookup(topic, 0)
	high, _ := must(c.a.ListEndOffsets(ctx, topic)).Lookup(topic, 0)
	return low.Offset, high.Offset
}

func (c client) OffsetAt(topic string, t time.Time) int64 {
	o, _ := must(c.a.ListOffsetsAfterMilli(ctx, t.UnixMilli(), topic)).Lookup(topic, 0)
	return o.Offset
}

func (c client) SetConfig(topic, key, value string) {
	r := must(c.a.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: key, Value: &value}}, topic))
	steps.Must(r[0].Err)
}

func (c client) Config(topic, key string) string {
	r := must(must(c.a.DescribeTopicConfigs(ctx, topic)).On(topic, nil))
	for _, x := range r.Configs {
		if x.Key == key {
			return x.MaybeValue()
		}
	}
	return ""
}

func (c client) DeleteRecords(topic string, before int64) {
	o := kadm.Offsets{}
	o.AddOffset(topic, 0, before, -1)
	steps.Must(must(c.a.DeleteRecords(ctx, o)).Error())
}

func (c client) Groups() []string { return must(c.a.ListGroups(ctx)).Groups() }

func (c client) Describe(group string) (string, int) {
	g := must(c.a.DescribeGroups(ctx, group))[group]
	steps.Must(g.Err)
	return g.State, len(g.Members)
}

func (c client) DeleteGroup(group string) { must(c.a.DeleteGroup(ctx, group)) }

type txn struct {
	cl *kgo.Client
	id string
}

func (c client) Txn(id string) steps.Txn {
	cl := c.new(kgo.TransactionalID(id), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	must2(cl.ProducerID(ctx))
	return txn{cl, id}
}

func must2(_ int64, _ int16, err error) { steps.Must(err) }

func (t txn) Begin() { steps.Must(t.cl.BeginTransaction()) }

func (t txn) Send(topic, value string) {
	steps.Must(t.cl.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte(value)}).FirstErr())
}

func (t txn) Offsets(c steps.Consumer, group, topic string, offset int64) {
	id, epoch, err := t.cl.ProducerID(ctx)
	steps.Must(err)
	add := kmsg.NewPtrAddOffsetsToTxnRequest()
	add.TransactionalID, add.ProducerID, add.ProducerEpoch, add.Group = t.id, id, epoch, group
	steps.Must(kerr.ErrorForCode(must(add.RequestWith(ctx, t.cl)).ErrorCode))
	r := kmsg.NewPtrTxnOffsetCommitRequest()
	r.TransactionalID, r.ProducerID, r.ProducerEpoch, r.Group = t.id, id, epoch, group
	r.MemberID, r.Generation = c.(*consumer).cl.GroupMetadata()
	part := kmsg.NewTxnOffsetCommitRequestTopicPartition()
	part.Partition, part.Offset = 0, offset
	r.Topics = []kmsg.TxnOffsetCommitRequestTopic{{Topic: topic, Partitions: []kmsg.TxnOffsetCommitRequestTopicPartition{part}}}
	steps.Must(kerr.ErrorForCode(must(r.RequestWith(ctx, t.cl)).Topics[0].Partitions[0].ErrorCode))
}

func (t txn) End(commit bool) error {
	return t.cl.EndTransaction(ctx, kgo.TransactionEndTry(commit))
}

func (t txn) Close() { t.cl.Close() }

func main() {
	c := client{seed: os.Args[1]}
	c.cl = c.new()
	c.a = kadm.NewClient(c.cl)
	steps.Run(c, os.Args[2], "sticky", "cooperative")
}
