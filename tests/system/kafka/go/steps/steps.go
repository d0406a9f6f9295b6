// Package steps is what the Go clients are put through. Each brings a Client; what goes wrong panics and ends
// the step. A line is printed for each step: `ok STEP` or `fail STEP: why`.
package steps

import (
	"fmt"
	"os"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"
)

type Record struct {
	Partition  int32
	Offset     int64
	Key, Value string
	Headers    string // name=value;…
}

// Consumer is used by one goroutine.
type Consumer interface {
	Take() []Record // waits a little when there is nothing
	Commit()        // what was taken
	CommitAt(partition int32, offset int64, note string)
	Parts() []int32
	Close()
}

type Txn interface {
	Begin()
	Send(topic, value string)
	Offsets(c Consumer, group, topic string, offset int64)
	End(commit bool) error
	Close()
}

type Client interface {
	Name() string
	Create(topic string, partitions int) error
	Delete(topic string)
	Topics() []string
	Partitions(topic string) int
	AddPartitions(topic string, n int)
	Send(topic, codec string, records []Record) // returns when they are acknowledged; Partition -1: by key
	Group(group, topic, strategy string) Consumer
	Read(topic string, offset int64, committed bool) Consumer // of partition 0
	Committed(group, topic string) (int64, string)
	Bounds(topic string) (int64, int64)
	OffsetAt(topic string, t time.Time) int64
	SetConfig(topic, key, value string)
	Config(topic, key string) string
	DeleteRecords(topic string, before int64)
	Groups() []string
	Describe(group string) (string, int)
	DeleteGroup(group string)
	Txn(id string) Txn
}

func Must(err error) {
	if err != nil {
		panic(err)
	}
}

func Equal(what string, got, want any) {
	if !reflect.DeepEqual(got, want) {
		panic(fmt.Sprintf("%s: %.300v instead of %.300v", what, got, want))
	}
}

func until(what string, ready func() bool) {
	for end := time.Now().Add(30 * time.Second); !ready(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			panic("waited for " + what)
		}
	}
}

type run struct {
	Client
	prefix string
}

func (r run) named(name string) string { return r.prefix + "-" + r.Name() + "-" + name }

func (r run) made(name string, partitions int) string {
	Must(r.Create(r.named(name), partitions))
	return r.named(name)
}

func (r run) many(topic string, from, to int) {
	var records []Record
	for i := from; i < to; i++ {
		records = append(records, Record{Partition: -1, Key: fmt.Sprint("k", i%50), Value: fmt.Sprint("v", i)})
	}
	r.Send(topic, "none", records)
}

// take takes n records, and then sees that no more come for a while.
func take(c Consumer, n int, quiet time.Duration) []Record {
	var got []Record
	for end := time.Now().Add(30 * time.Second); len(got) < n; {
		got = append(got, c.Take()...)
		if time.Now().After(end) {
			panic(fmt.Sprintf("%d records of %d", len(got), n))
		}
	}
	for end := time.Now().Add(quiet); time.Now().Before(end); {
		got = append(got, c.Take()...)
	}
	Equal("records", len(got), n)
	return got
}

func values(records []Record) []string {
	var out []string
	for _, r := range records {
		out = append(out, r.Value)
	}
	return out
}

func (r run) topics() {
	topic := r.made("topics", 3)
	until("the topic", func() bool { return slices.Contains(r.Topics(), topic) })
	Equal("partitions", r.Partitions(topic), 3)
	err := r.Create(topic, 3)
	if err == nil || !strings.Contains(strings.ToLower(err.Error()), "exists") {
		panic(fmt.Sprint("made twice: ", err))
	}
}

func (r run) codecs() {
	topic := r.made("codecs", 1)
	var want []Record
	for _, codec := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		var records []Record
		for i := range 500 {
			records = append(records, Record{0, int64(len(want) + i), fmt.Sprint("k", i),
				fmt.Sprint(codec, i, strings.Repeat("x", i%90)), "codec=" + codec + ";"})
		}
		r.Send(topic, codec, records)
		want = append(want, records...)
	}
	c := r.Read(topic, 0, false)
	defer c.Close()
	got := take(c, len(want), 0)
	for i := range got {
		Equal("record", got[i], want[i])
	}
}

type member struct {
	mu    sync.Mutex
	got   []Record
	parts []int32
	stop  chan bool
	done  chan any
}

func (r run) member(group, topic, strategy string) *member {
	m := &member{stop: make(chan bool), done: make(chan any, 1)}
	go func() {
		defer func() { m.done <- recover() }()
		c := r.Group(group, topic, strategy)
		defer c.Close()
		for {
			select {
			case <-m.stop:
				return
			default:
			}
			part := c.Take()
			if len(part) > 0 {
				c.Commit()
			}
			m.mu.Lock()
			m.got, m.parts = append(m.got, part...), c.Parts()
			m.mu.Unlock()
		}
	}()
	return m
}

func (m *member) end() {
	close(m.stop)
	if e := <-m.done; e != nil {
		panic(e)
	}
}

func (r run) group(name, strategy string) {
	topic, group := r.made(name, 6), r.named(name)
	var all, now []*member
	sent := 0
	start := func() {
		m := r.member(group, topic, strategy)
		all, now = append(all, m), append(now, m)
	}
	phase := func() {
		until("the partitions to be shared", func() bool {
			var parts []int32
			for _, m := range now {
				m.mu.Lock()
				if len(m.parts) == 6/len(now) {
					parts = append(parts, m.parts...)
				}
				m.mu.Unlock()
			}
			slices.Sort(parts)
			return reflect.DeepEqual(parts, []int32{0, 1, 2, 3, 4, 5})
		})
		r.many(topic, sent, sent+600)
		sent += 600
		until("the records", func() bool {
			n := 0
			for _, m := range all {
				m.mu.Lock()
				n += len(m.got)
				m.mu.Unlock()
			}
			return n >= sent
		})
		time.Sleep(500 * time.Millisecond) // for their commits
	}
	start()
	start()
	start()
	phase()
	now[0].end()
	now = now[1:]
	phase()
	start()
	phase()
	seen := map[string]int{}
	for _, m := range now {
		m.end()
	}
	for _, m := range all {
		for _, rec := range m.got {
			seen[rec.Value]++
		}
	}
	for i := range sent {
		Equal(fmt.Sprint("times that v", i, " came"), seen[fmt.Sprint("v", i)], 1)
	}
}

func (r run) resume() {
	topic, group := r.made("resume", 1), r.named("resume")
	r.many(topic, 0, 100)
	c := r.Group(group, topic, "range")
	take(c, 100, 0)
	c.CommitAt(0, 40, "note")
	c.Close()
	offset, note := r.Committed(group, topic)
	Equal("committed", []any{offset, note}, []any{int64(40), "note"})
	c = r.Group(group, topic, "range")
	got := take(c, 60, 400*time.Millisecond)
	c.Close()
	Equal("resumed", []string{got[0].Value, got[59].Value}, []string{"v40", "v99"})
}

func (r run) seek() {
	topic := r.made("seek", 1)
	r.many(topic, 0, 200)
	time.Sleep(30 * time.Millisecond)
	then := time.Now()
	time.Sleep(30 * time.Millisecond)
	r.many(topic, 200, 300)
	for _, at := range []int64{150, 10} {
		c := r.Read(topic, at, false)
		Equal("first", take(c, int(300-at), 100*time.Millisecond)[0].Value, fmt.Sprint("v", at))
		c.Close()
	}
	Equal("offset of a time", r.OffsetAt(topic, then), int64(200))
	low, high := r.Bounds(topic)
	Equal("bounds", []int64{low, high}, []int64{0, 300})
}

func (r run) read(topic string, committed bool, want ...string) {
	c := r.Read(topic, 0, committed)
	defer c.Close()
	Equal("read", values(take(c, len(want), 300*time.Millisecond)), want)
}

func (r run) transactions() {
	topic, source, group := r.made("txn", 1), r.made("txn-in", 1), r.named("txn")
	r.many(source, 0, 10)
	t := r.Txn(r.named("txn"))
	for _, value := range []string{"one", "two", "three"} {
		t.Begin()
		t.Send(topic, value)
		if value == "three" {
			c := r.Group(group, source, "range")
			take(c, 10, 0)
			t.Offsets(c, group, source, 7)
			c.Close()
		}
		Must(t.End(value != "two"))
	}
	r.read(topic, true, "one", "three")
	r.read(topic, false, "one", "two", "three")
	c := r.Group(group, source, "range")
	Equal("from the transaction's offset", values(take(c, 3, 300*time.Millisecond)), []string{"v7", "v8", "v9"})
	c.Close()
	t.Begin()
	t.Send(topic, "fenced")
	other := r.Txn(r.named("txn"))
	other.Begin()
	other.Send(topic, "four")
	Must(other.End(true))
	if err := t.End(true); err == nil {
		panic("a producer whose place was taken could commit")
	}
	other.Close()
	t.Close()
	r.read(topic, true, "one", "three", "four")
}

func (r run) admin() {
	topic, group := r.made("admin", 1), r.named("admin")
	r.many(topic, 0, 20)
	r.SetConfig(topic, "retention.ms", "123456789")
	Equal("retention.ms", r.Config(topic, "retention.ms"), "123456789")
	r.DeleteRecords(topic, 5)
	low, high := r.Bounds(topic)
	Equal("bounds", []int64{low, high}, []int64{5, 20})
	r.AddPartitions(topic, 4)
	until("partitions", func() bool { return r.Partitions(topic) == 4 })
	c := r.Group(group, topic, "range")
	Equal("first", take(c, 15, 0)[0].Value, "v5")
	c.CommitAt(0, 6, "")
	state, n := r.Describe(group)
	Equal("group", []any{state, n}, []any{"Stable", 1})
	c.Close()
	state, n = r.Describe(group)
	Equal("group that was left", []any{state, n}, []any{"Empty", 0})
	Equal("listed", slices.Contains(r.Groups(), group), true)
	r.DeleteGroup(group)
	Equal("listed when deleted", slices.Contains(r.Groups(), group), false)
	r.Delete(topic)
	until("the topic to be gone", func() bool { return !slices.Contains(r.Topics(), topic) })
}

// Run runs the steps (or those named behind BOOTSTRAP and PREFIX); extra groups are by name of their strategy.
func Run(c Client, prefix string, strategies ...string) {
	r := run{c, prefix}
	failed := false
	step := func(name string, f func()) {
		if len(os.Args) > 3 && !slices.Contains(os.Args[3:], name) {
			return
		}
		defer func() {
			if e := recover(); e != nil {
				failed = true
				os.Stderr.Write(debug.Stack())
				fmt.Printf("fail %s: %s\n", name, strings.Join(strings.Fields(fmt.Sprint(e)), " "))
			}
		}()
		f()
		fmt.Printf("ok %s\n", name)
	}
	step("topics", r.topics)
	step("codecs", r.codecs)
	step("group", func() { r.group("group", "range") })
	for _, s := range strategies {
		step(s, func() { r.group(s, s) })
	}
	step("resume", r.resume)
	step("seek", r.seek)
	step("transactions", r.transactions)
	step("admin", r.admin)
	if failed {
		os.Exit(1)
	}
}
