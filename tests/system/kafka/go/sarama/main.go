// sarama: `sarama BOOTSTRAP PREFIX [STEP…]`.
package main

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"weir-system-tests/steps"
)

type client struct {
	seed []string
	cl   sarama.Client
	a    sarama.ClusterAdmin
}

func must[T any](v T, err error) T {
	steps.Must(err)
	return v
}

func config() *sarama.Config {
	c := sarama.NewConfig()
	c.Version = sarama.MaxVersion
	c.Producer.Return.Successes = true
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	c.Consumer.Offsets.AutoCommit.Enable = false
	c.Consumer.Group.Heartbeat.Interval = 300 * time.Millisecond
	c.Consumer.MaxWaitTime = 100 * time.Millisecond
	return c
}

func (client) Name() string { return "sarama" }

func (c client) Create(topic string, n int) error {
	return c.a.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: int32(n), ReplicationFactor: 1}, false)
}

func (c client) Delete(topic string) { steps.Must(c.a.DeleteTopic(topic)) }

func (c client) Topics() []string {
	var out []string
	for name := range must(c.a.ListTopics()) {
		out = append(out, name)
	}
	return out
}

func (c client) Partitions(topic string) int {
	return len(must(c.a.DescribeTopics([]string{topic}))[0].Partitions)
}

func (c client) AddPartitions(topic string, n int) {
	steps.Must(c.a.CreatePartitions(topic, int32(n), nil, false))
}

func (c client) Send(topic, codec string, records []steps.Record) {
	conf := config()
	conf.Producer.Compression = map[string]sarama.CompressionCodec{"none": sarama.CompressionNone, "gzip": sarama.CompressionGZIP,
		"snappy": sarama.CompressionSnappy, "lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD}[codec]
	conf.Producer.Idempotent, conf.Net.MaxOpenRequests = true, 1
	p := must(sarama.NewSyncProducer(c.seed, conf))
	defer p.Close()
	var out []*sarama.ProducerMessage
	for _, r := range records {
		m := &sarama.ProducerMessage{Topic: topic, Key: sarama.StringEncoder(r.Key), Value: sarama.StringEncoder(r.Value)}
		if r.Headers != "" {
			m.Headers = []sarama.RecordHeader{{Key: []byte("codec"), Value: []byte(codec)}}
		}
		out = append(out, m)
	}
	steps.Must(p.SendMessages(out))
}

// consumer is a group's member (g) or a reader of one partition (pc).
type consumer struct {
	messages chan *sarama.ConsumerMessage
	g        sarama.ConsumerGroup
	all      sarama.Consumer
	pc       sarama.PartitionConsumer
	topic    string
	mu       sync.Mutex
	session  sarama.ConsumerGroupSession
	parts    []int32
	taken    []*sarama.ConsumerMessage
	stop     context.CancelFunc
	ended    chan bool
}

func (c *consumer) Setup(s sarama.ConsumerGroupSession) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.session, c.parts = s, s.Claims()[c.topic]
	return nil
}

func (c *consumer) Cleanup(sarama.ConsumerGroupSession) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.session, c.parts = nil, nil
	return nil
}

func (c *consumer) ConsumeClaim(s sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case m, ok := <-claim.Messages():
			if !ok {
				return nil
			}
			select {
			case c.messages <- m:
			case <-s.Context().Done():
				return nil
			}
		case <-s.Context().Done():
			return nil
		}
	}
}

func (c *consumer) Take() []steps.Record {
	var out []steps.Record
	end := time.After(100 * time.Millisecond)
	for len(out) < 100 {
		select {
		case m := <-c.messages:
			h := ""
			for _, x := range m.Headers {
				h += string(x.Key) + "=" + string(x.Value) + ";"
			}
			c.taken = append(c.taken, m)
			out = append(out, steps.Record{Partition: m.Partition, Offset: m.Offset, Key: string(m.Key),
				Value: string(m.Value), Headers: h})
		case <-end:
			return out
		}
	}
	return out
}

func (c *consumer) Commit() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.taken {
		if c.session != nil {
			c.session.MarkMessage(m, "")
		}
	}
	if c.session != nil {
		c.session.Commit()
	}
	c.taken = nil
}

func (c *consumer) CommitAt(p int32, offset int64, note string) {
	c.Commit()
	c.session.ResetOffset(c.topic, p, offset, note)
	c.session.Commit()
}

func (c *consumer) Parts() []int32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.parts
}

func (c *consumer) Close() {
	if c.g == nil {
		steps.Must(c.pc.Close())
		steps.Must(c.all.Close())
		return
	}
	c.stop()
	<-c.ended
	steps.Must(c.g.Close())
}

func (c client) Group(group, topic, strategy string) steps.Consumer {
	conf := config()
	conf.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{map[string]sarama.BalanceStrategy{
		"range": sarama.NewBalanceStrategyRange(), "roundrobin": sarama.NewBalanceStrategyRoundRobin(),
		"sticky": sarama.NewBalanceStrategySticky()}[strategy]}
	live, stop := context.WithCancel(context.Background())
	k := &consumer{messages: make(chan *sarama.ConsumerMessage), topic: topic, stop: stop, ended: make(chan bool),
		g: must(sarama.NewConsumerGroup(c.seed, group, conf))}
	go func() {
		defer close(k.ended)
		for live.Err() == nil {
			if err := k.g.Consume(live, []string{topic}, k); err != nil && !errors.Is(err, sarama.ErrClosedConsumerGroup) {
				panic(err)
			}
		}
	}()
	return k
}

func (c client) Read(topic string, offset int64, committed bool) steps.Consumer {
	conf := config()
	if committed {
		conf.Consumer.IsolationLevel = sarama.ReadCommitted
	}
	all := must(sarama.NewConsumer(c.seed, conf))
	pc := must(all.ConsumePartition(topic, 0, offset))
	k := &consumer{messages: make(chan *sarama.ConsumerMessage), all: all, pc: pc, topic: topic}
	go func() {
		for m := range pc.Messages() {
			k.messages <- m
		}
	}()
	return k
}

func (c client) Committed(group, topic string) (int64, string) {
	b := must(c.a.ListConsumerGroupOffsets(group, map[string][]int32{topic: {0}})).GetBlock(topic, 0)
	return b.Offset, b.Metadata
}

func (c client) Bounds(topic string) (int64, int64) {
	return must(c.cl.GetOffset(topic, 0, sarama.OffsetOldest)), must(c.cl.GetOffset(topic, 0, sarama.OffsetNewest))
}

func (c client) OffsetAt(topic string, t time.Time) int64 {
	return must(c.cl.GetOffset(topic, 0, t.UnixMilli()))
}

func (c client) SetConfig(topic, key, value string) {
	steps.Must(c.a.IncrementalAlterConfig(sarama.TopicResource, topic, map[string]sarama.IncrementalAlterConfigsEntry{
		key: {Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &value}}, false))
}

func (c client) Config(topic, key string) string {
	for _, e := range must(c.a.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: topic})) {
		if e.Name == key {
			return e.Value
		}
	}
	return ""
}

func (c client) DeleteRecords(topic string, before int64) {
	steps.Must(c.a.DeleteRecords(topic, map[int32]int64{0: before}))
}

func (c client) Groups() []string {
	var out []string
	for name := range must(c.a.ListConsumerGroups()) {
		out = append(out, name)
	}
	return out
}

func (c client) Describe(group string) (string, int) {
	g := must(c.a.DescribeConsumerGroups([]string{group}))[0]
	if g.Err != sarama.ErrNoError {
		panic(g.Err)
	}
	return g.State, len(g.Members)
}

func (c client) DeleteGroup(group string) { steps.Must(c.a.DeleteConsumerGroup(group)) }

type txn struct {
	p sarama.SyncProducer
}

func (c client) Txn(id string) steps.Txn {
	conf := config()
	conf.Producer.Transaction.ID = id
	conf.Producer.Idempotent, conf.Net.MaxOpenRequests = true, 1
	return txn{must(sarama.NewSyncProducer(c.seed, conf))}
}

func (t txn) Begin() { steps.Must(t.p.BeginTxn()) }

func (t txn) Send(topic, value string) {
	_, _, err := t.p.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder(value)})
	steps.Must(err)
}

func (t txn) Offsets(c steps.Consumer, group, topic string, offset int64) {
	steps.Must(t.p.AddOffsetsToTxn(map[string][]*sarama.PartitionOffsetMetadata{topic: {{Partition: 0, Offset: offset}}}, group))
}

func (t txn) End(commit bool) error {
	if commit {
		return t.p.CommitTxn()
	}
	return t.p.AbortTxn()
}

func (t txn) Close() { t.p.Close() }

func main() {
	c := client{seed: []string{os.Args[1]}}
	c.cl = must(sarama.NewClient(c.seed, config()))
	c.a = must(sarama.NewClusterAdminFromClient(c.cl))
	steps.Run(c, os.Args[2], "roundrobin", "sticky")
}
