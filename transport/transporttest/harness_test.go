package transporttest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/fanfare-im/fanfare/transport"
)

// recorded gives a Recorder clients: each reads along in what its user receives.
type recorded struct {
	r  *Recorder
	mu sync.Mutex
	n  map[string]int // connections
}

type recordedClient struct {
	c    *recorded
	user string
	next int
	once sync.Once
}

func recorderHarness(o transport.Online, r *Recorder) *OnlineHarness {
	r.DisconnectAll()
	c := &recorded{r: r, n: make(map[string]int)}
	return &OnlineHarness{Transport: o, Connect: c.connect, Stall: r.Block}
}

func (c *recorded) connect(user string) (Client, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n[user]++
	c.r.Connect(user)
	return &recordedClient{c: c, user: user, next: len(c.r.Received(user))}, nil
}

func (c *recordedClient) Next(ctx context.Context) (*transport.Message, error) {
	if err := c.c.r.Wait(ctx, c.user, c.next+1); err != nil {
		return nil, err
	}
	m := c.c.r.Received(c.user)[c.next]
	c.next++
	return m, nil
}

func (c *recordedClient) Close() error {
	c.once.Do(func() {
		c.c.mu.Lock()
		defer c.c.mu.Unlock()
		if c.c.n[c.user]--; c.c.n[c.user] == 0 {
			c.c.r.Disconnect(c.user)
		}
	})
	return nil
}

func phonesHarness(m transport.Mobile, p *Phones) *MobileHarness {
	return &MobileHarness{
		Transport: m,
		Device: func(i int) transport.Device {
			return transport.Device{Platform: p.Platform(), Token: fmt.Sprintf("token %d", i), Topic: "com.example.app"}
		},
		Shown: func(d transport.Device) []transport.Content {
			var out []transport.Content
			for _, n := range p.Shown(d.Token) {
				out = append(out, *n.Content)
			}
			return out
		},
		Kill:   func(d transport.Device) { p.Kill(time.Now(), d.Token) },
		Reject: func(d transport.Device) { p.Reject("BadTopic", d.Token) },
		Overload: func() func() {
			p.Overload(1<<30, time.Second)
			return func() { p.Overload(0, 0) }
		},
		Stall: p.Block,
	}
}

func TestRecorderConforms(t *testing.T) {
	t.Parallel()
	TestOnline(t, func(*testing.T) *OnlineHarness {
		r := new(Recorder)
		return recorderHarness(r, r)
	})
}

func TestAckRecorderConforms(t *testing.T) {
	t.Parallel()
	TestOnline(t, func(*testing.T) *OnlineHarness {
		r := new(AckRecorder)
		return recorderHarness(r, &r.Recorder)
	})
}

func TestBatchRecorderConforms(t *testing.T) {
	t.Parallel()
	TestOnline(t, func(*testing.T) *OnlineHarness {
		r := &BatchRecorder{Max: 50}
		return recorderHarness(r, &r.Recorder)
	})
}

func TestAckBatchRecorderConforms(t *testing.T) {
	t.Parallel()
	TestOnline(t, func(*testing.T) *OnlineHarness {
		r := new(AckBatchRecorder)
		return recorderHarness(r, &r.Recorder)
	})
}

func TestPhonesConform(t *testing.T) {
	t.Parallel()
	TestMobile(t, func(*testing.T) *MobileHarness {
		p := NewPhones("apns")
		p.SetBatchSize(100)
		return phonesHarness(p, p)
	})
}
