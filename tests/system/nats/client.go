// nats.go against weir: core, streams by pulling, pushing and in order, buckets, objects. Argument: the address.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func check(what string, err error) {
	if err != nil {
		fmt.Printf("fail %s: %v\n", what, err)
		os.Exit(1)
	}
}

func equal[T comparable](what string, got, want T) {
	if got != want {
		check(what, fmt.Errorf("%v instead of %v", got, want))
	}
}

func core(nc *nats.Conn) {
	var got [4]atomic.Int32
	for i := range got {
		i := i
		_, err := nc.QueueSubscribe("work.*", "q", func(m *nats.Msg) {
			got[i].Add(1)
			_ = m.Respond([]byte("done"))
		})
		check("core", err)
	}
	for i := 0; i < 400; i++ {
		m, err := nc.Request("work.x", []byte("?"), 20*time.Second)
		check("core: request", err)
		equal("core: answer", string(m.Data), "done")
	}
	var sum int32
	for i := range got {
		sum += got[i].Load()
	}
	equal("core: queue group", sum, 400)
	_, err := nc.Request("nobody", nil, 20*time.Second)
	if !errors.Is(err, nats.ErrNoResponders) {
		check("core: no responders", fmt.Errorf("%v", err))
	}
	fmt.Println("ok core")
}

func streams(ctx context.Context, nc *nats.Conn) {
	js, err := jetstream.New(nc)
	check("streams", err)
	s, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}})
	check("streams: create", err)
	for i := 0; i < 3000; i++ {
		_, err = js.PublishAsync(fmt.Sprintf("s.%d", i%3), []byte(fmt.Sprint(i)))
		check("streams: publish", err)
	}
	<-js.PublishAsyncComplete()
	a, err := js.Publish(ctx, "s.0", []byte("once"), jetstream.WithMsgID("id"))
	check("streams: publish", err)
	b, err := js.Publish(ctx, "s.0", []byte("once"), jetstream.WithMsgID("id"))
	check("streams: publish", err)
	equal("streams: duplicate", b.Duplicate && a.Sequence == b.Sequence, true)
	c, err := s.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{Durable: "pull", AckPolicy: jetstream.AckExplicitPolicy,
		FilterSubjects: []string{"s.1", "s.2"}, MaxAckPending: 500})
	check("streams: consumer", err)
	n := 0
	for n < 2000 {
		batch, err := c.Fetch(250, jetstream.FetchMaxWait(20*time.Second))
		check("streams: fetch", err)
		for m := range batch.Messages() {
			check("streams: ack", m.DoubleAck(ctx))
			n++
		}
		check("streams: fetch", batch.Error())
	}
	info, err := c.Info(ctx)
	check("streams: info", err)
	equal("streams: pending", info.NumPending+uint64(info.NumAckPending), 0)
	o, err := js.OrderedConsumer(ctx, "S", jetstream.OrderedConsumerConfig{})
	check("streams: ordered", err)
	it, err := o.Messages()
	check("streams: ordered", err)
	for i := 0; i < 3000; i++ {
		m, err := it.Next()
		check("streams: ordered", err)
		equal("streams: order", string(m.Data()), fmt.Sprint(i))
	}
	it.Stop()
	old, err := nc.JetStream()
	check("streams: push", err)
	sub, err := old.SubscribeSync("s.1", nats.DeliverAll(), nats.AckExplicit())
	check("streams: push", err)
	for i := 0; i < 1000; i++ {
		m, err := sub.NextMsg(20 * time.Second)
		check("streams: push", err)
		check("streams: push", m.Ack())
	}
	check("streams: push", sub.Unsubscribe())
	fmt.Println("ok streams")
}

func buckets(ctx context.Context, js jetstream.JetStream) {
	kv, err := js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: "b", History: 4})
	check("buckets: create", err)
	w, err := kv.Watch(ctx, "k.*")
	check("buckets: watch", err)
	equal("buckets: nothing yet", <-w.Updates() == nil, true)
	rev, err := kv.Create(ctx, "k.1", []byte("one"))
	check("buckets: create", err)
	rev, err = kv.Update(ctx, "k.1", []byte("two"), rev)
	check("buckets: update", err)
	if _, err = kv.Update(ctx, "k.1", []byte("x"), rev-1); err == nil {
		check("buckets: update", errors.New("an old revision was taken"))
	}
	check("buckets: delete", kv.Delete(ctx, "k.1"))
	for _, want := range []string{"one", "two", ""} {
		equal("buckets: watched", string((<-w.Updates()).Value()), want)
	}
	check("buckets: watch", w.Stop())
	h, err := kv.History(ctx, "k.1")
	check("buckets: history", err)
	equal("buckets: history", len(h), 3)
	fmt.Println("ok buckets")
}

func objects(ctx context.Context, js jetstream.JetStream) {
	o, err := js.CreateObjectStore(ctx, jetstream.ObjectStoreConfig{Bucket: "files"})
	check("objects: create", err)
	data := make([]byte, 64<<20)
	_, err = rand.Read(data)
	check("objects", err)
	_, err = o.Put(ctx, jetstream.ObjectMeta{Name: "large"}, bytes.NewReader(data))
	check("objects: put", err)
	got, err := o.GetBytes(ctx, "large")
	check("objects: get", err)
	equal("objects: the same", bytes.Equal(got, data), true)
	check("objects: delete", o.Delete(ctx, "large"))
	fmt.Println("ok objects")
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Second)
	defer cancel()
	nc, err := nats.Connect(os.Args[1])
	check("connect", err)
	js, err := jetstream.New(nc)
	check("jetstream", err)
	core(nc)
	streams(ctx, nc)
	buckets(ctx, js)
	objects(ctx, js)
	nc.Close()
}
