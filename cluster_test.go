package fanfare

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfare-im/fanfare/internal/peers"
	"github.com/fanfare-im/fanfare/store"
	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/transporttest"
)

// clusterNode is a Pusher in a cluster in memory.
type clusterNode struct {
	*Pusher
	t   *testing.T
	mem *memoryNode
	rec *transporttest.Recorder
}

// testCluster opens three nodes. Options may be adjusted for each.
func testCluster(t *testing.T, adjust func(i int, o *Options)) (*memoryCluster, []*clusterNode) {
	t.Helper()
	c := newMemoryCluster()
	var nodes []*clusterNode
	for i := range 3 {
		acks := new(transporttest.AckRecorder)
		o := Options{Online: acks, blockBits: 2, Cron: testCron, Grace: -1}
		n := &clusterNode{t: t, rec: &acks.Recorder}
		if adjust != nil {
			adjust(i, &o)
		}
		if o.Online == nil { // without client acks
			o.Online = n.rec
		}
		n.mem = c.join(&o)
		n.Pusher = testPusher(t, t.TempDir(), o)
		nodes = append(nodes, n)
		synctest.Wait() // the first one gets the leases first
	}
	t.Cleanup(func() { // before they are closed
		for _, n := range nodes {
			n.set(func(n *memoryNode) { n.gated, n.held, n.slow, n.faults = false, false, 0, nil })
		}
		c.compare()
		rest(nodes...)
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.differ != nil {
			t.Error(c.differ)
		}
	})
	return c, nodes
}

// serverAcks has a message count as delivered when Deliver returns.
func serverAcks(_ int, o *Options) { o.Online = nil }

// rest waits until all nodes have done what they have to do now.
func rest(nodes ...*clusterNode) {
	for range 3 {
		synctest.Wait()
		for _, n := range nodes {
			if !n.mem.held && !n.mem.dead && !n.closed.Load() {
				must(n.t, n.store.WaitApplied(n.t.Context(), n.mem.c.last()))
			}
		}
	}
	synctest.Wait()
}

func (n *clusterNode) connect(user string) *Session {
	n.t.Helper()
	return connect(n.t, n.Pusher, n.rec, user)
}

func (n *clusterNode) push(body string, lifetime time.Duration, to Audience) *Task {
	n.t.Helper()
	return mustTask(n.t, n.Pusher, Message{Body: []byte(body), Lifetime: lifetime, To: to})
}

func (n *clusterNode) got(user string, want ...string) {
	n.t.Helper()
	wantBodies(n.t, n.rec, user, want...)
}

func (n *clusterNode) set(f func(n *memoryNode)) { n.mem.c.change(func() { f(n.mem) }) }

// owed is how many messages the lanes owe.
func (n *clusterNode) owed() (count int) {
	n.delivery.eachLane(func(l *lane) {
		l.mu.Lock()
		defer l.mu.Unlock()
		count += len(l.owed)
	})
	return count
}

// onTwoNodes is a cluster with one worker a node, in which u is connected to the first two nodes, and busy, who can hold up the only worker, to the second.
func onTwoNodes(t *testing.T, adjust func(int, *Options)) []*clusterNode {
	t.Helper()
	_, nodes := testCluster(t, func(i int, o *Options) {
		o.Workers = 1
		if adjust != nil {
			adjust(i, o)
		}
	})
	must(t, nodes[0].Register(t.Context(), "u", "busy"))
	nodes[0].connect("u")
	nodes[1].connect("u")
	nodes[1].connect("busy")
	rest(nodes...)
	return nodes
}

// TestTwoNodesOneUser: who is connected to two nodes gets a live message on both, although the delivery of one is in the log before the other begins; but, where clients acknowledge, not
// what was acknowledged by then.
func TestTwoNodesOneUser(t *testing.T) {
	t.Parallel()
	for name, adjust := range map[string]func(int, *Options){"server acks": serverAcks, "client acks": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				nodes := onTwoNodes(t, adjust)
				a, b, c := nodes[0], nodes[1], nodes[2]
				if a.Online() != 2 || c.Online() != 2 {
					t.Fatal("online", a.Online(), c.Online())
				}
				a.push("1", week, All())
				rest(nodes...)
				a.got("u", "1")
				b.got("u", "1")

				// The only worker of b is held up while a delivers.
				release := b.rec.Block("busy")
				c.push("2", week, Users("busy"))
				task := c.push("3", week, Users("u"))
				rest(nodes...)
				a.got("u", "1", "3")
				if adjust != nil && progress(t, task).Pending != 0 {
					t.Fatal("the delivery of one node does not count")
				}
				b.got("u", "1")
				release()
				rest(nodes...)
				b.got("u", "1", "3")

				release = b.rec.Block("busy")
				c.push("4", week, Users("busy"))
				task = c.push("5", week, Users("u"))
				rest(nodes...)
				a.got("u", "1", "3", "5")
				must(t, c.Ack(t.Context(), "u", task.ID))
				rest(nodes...)
				release()
				rest(nodes...)
				a.push("6", week, Users("u"))
				rest(nodes...)
				if adjust == nil {
					b.got("u", "1", "3", "6")
				} else { // the delivery was what counted, and there was nothing left to acknowledge
					b.got("u", "1", "3", "5", "6")
				}

				// The delivery of a is in the log while b's is under way, which fails.
				release = b.rec.Block("u")
				b.rec.FailNext("u", 1, nil)
				a.push("7", week, Users("u"))
				rest(nodes...)
				a.got("u", "1", "3", "5", "6", "7")
				release()
				time.Sleep(time.Second)
				rest(nodes...)
				if got := bodies(b.rec.Received("u")); got[len(got)-1] != "7" {
					t.Fatal(got)
				}
				release = b.rec.Block("u")
				a.push("8", week, Users("u"))
				rest(nodes...)
				release()
				time.Sleep(time.Second)
				rest(nodes...)
				if owed := b.owed(); owed != 0 {
					t.Fatalf("%d messages are owed", owed)
				}
			})
		})
	}
}

// TestNothingExpiredIsOwed: nobody is owed a message that was delivered elsewhere in time and can not be any more here, whether that is known before the lane
// passes it, or behind that.
func TestNothingExpiredIsOwed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		nodes := onTwoNodes(t, serverAcks)
		a, b, c := nodes[0], nodes[1], nodes[2]
		for i, known := range []bool{true, false} {
			release := b.rec.Block("busy")
			c.push("hold up", week, Users("busy"))
			rest(nodes...)
			a.set(func(n *memoryNode) { n.gated = !known })
			c.push("short", 300*time.Millisecond, Users("u"))
			synctest.Wait()
			if got := len(a.rec.Received("u")); got != i+1 {
				t.Fatalf("%d deliveries", got)
			}
			if owed := b.owed(); (owed == 1) != known {
				t.Fatalf("%d messages are owed", owed)
			}
			time.Sleep(400 * time.Millisecond)
			release()
			synctest.Wait()
			a.set(func(n *memoryNode) { n.gated = false })
			rest(nodes...)
			b.got("u")
			if owed := b.owed(); owed != 0 {
				t.Fatalf("%d messages are owed that have expired; known at once: %v", owed, known)
			}
		}
	})
}

// TestAckOvertakesDelivery: a message that was acknowledged is not delivered to further connections, although the first delivery is in the log behind that.
func TestAckOvertakesDelivery(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, nodes := testCluster(t, func(i int, o *Options) { o.Online, o.Workers = nil, 1 })
		a, b, c := nodes[0], nodes[1], nodes[2]
		must(t, a.Register(t.Context(), "u", "busy"))
		a.connect("u")
		b.connect("u")
		b.connect("busy")
		rest(nodes...)
		release := b.rec.Block("busy")
		c.push("1", week, Users("busy"))
		a.set(func(n *memoryNode) { n.gated = true }) // the acknowledgement overtakes the delivery
		task := c.push("2", week, Users("u"))
		rest(nodes...)
		a.got("u", "2")
		must(t, c.Ack(t.Context(), "u", task.ID))
		a.set(func(n *memoryNode) { n.gated = false })
		rest(nodes...)
		release()
		rest(nodes...)
		b.got("u")
	})
}

// TestCatchUpBesideLive: a user who is live on one node and connects to another gets there what nobody could deliver, and then both get what is new.
func TestCatchUpBesideLive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, nodes := testCluster(t, serverAcks)
		a, b, c := nodes[0], nodes[1], nodes[2]
		a.connect("u")
		rest(nodes...)
		a.rec.FailNext("u", 3, nil)
		c.push("1", week, All())
		rest(nodes...)
		b.connect("u")
		rest(nodes...)
		b.got("u", "1")
		c.push("2", week, All())
		rest(nodes...)
		b.got("u", "1", "2")
		time.Sleep(time.Second) // the pauses of a
		rest(nodes...)
		a.got("u", "1", "2")
	})
}

// TestMoveWhileUnderWay: who moves to another node while the first one's delivery is not in the log yet gets nothing twice.
func TestMoveWhileUnderWay(t *testing.T) {
	t.Parallel()
	for name, move := range map[string]func(a, b *clusterNode, s *Session){
		"the session ends": func(a, b *clusterNode, s *Session) { s.Close() },
		"the node closes": func(a, b *clusterNode, s *Session) {
			closed := make(chan error)
			go func() { closed <- a.Close(context.Background()) }()
			a.t.Cleanup(func() { must(a.t, <-closed) })
			time.Sleep(500 * time.Millisecond)
		},
		"the delivery was not added": func(a, b *clusterNode, s *Session) {
			a.set(func(n *memoryNode) { n.gated, n.faults = false, []memoryFault{faultLost} })
			rest(a)
			s.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				_, nodes := testCluster(t, serverAcks)
				a, b, c := nodes[0], nodes[1], nodes[2]
				s := a.connect("u")
				must(t, a.Register(t.Context(), "other"))
				rest(nodes...)
				a.set(func(n *memoryNode) { n.gated = true })
				task := c.push("1", week, All())
				rest(nodes...)
				a.got("u", "1")
				move(a, b, s)
				b.connect("u")
				time.Sleep(time.Second)
				b.got("u")
				a.set(func(n *memoryNode) { n.gated = false })
				time.Sleep(5 * time.Second)
				rest(b, c)
				b.got("u")
				if g := progress(t, task); g.Delivered != 1 {
					t.Fatalf("%+v", g)
				}
				c.push("2", week, All())
				rest(b, c)
				b.got("u", "2")
			})
		})
	}
}

// TestMoveToSlowNode: who moves to a node that lags behind does not get there what was delivered before, on the node before.
func TestMoveToSlowNode(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, nodes := testCluster(t, serverAcks)
		a, b, c := nodes[0], nodes[1], nodes[2]
		s := a.connect("u")
		b.connect("u")
		rest(nodes...)
		b.rec.Received("u")
		s2 := b.connect("v")
		s2.Close()
		rest(nodes...)
		_ = s
		must(t, c.Register(t.Context(), "w"))
		sw := a.connect("w")
		rest(nodes...)
		b.set(func(n *memoryNode) { n.held = true })
		c.push("1", week, Users("w"))
		rest(a, c)
		a.got("w", "1")
		sw.Close()
		connected := make(chan struct{})
		go func() {
			b.connect("w")
			close(connected)
		}()
		time.Sleep(time.Second)
		b.set(func(n *memoryNode) { n.held = false })
		<-connected
		rest(nodes...)
		time.Sleep(time.Second)
		b.got("w")
		c.push("2", week, Users("w"))
		rest(nodes...)
		b.got("w", "2")
	})
}

// TestCutOffKnowsWhatItDelivered: a node that was cut off brings nothing again that it has delivered itself when it learns, with the user connected anew, that another had done so before.
func TestCutOffKnowsWhatItDelivered(t *testing.T) {
	t.Parallel()
	for name, after := range map[string]time.Duration{
		"its delivery is on its way to the log": 100 * time.Millisecond,
		"its delivery was not added":            20 * time.Second,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				_, nodes := testCluster(t, serverAcks)
				a, b, c := nodes[0], nodes[1], nodes[2]
				c.connect("u").Close() // noted as seen today, so that who connects waits for nothing
				rest(nodes...)
				c.push("1", week, All())
				rest(nodes...)
				b.mem.cutOff(0)
				time.Sleep(2 * memorySilence)
				s := a.connect("u")
				rest(a, c)
				a.got("u", "1")
				s.Close()
				s = b.connect("u")
				synctest.Wait()
				b.got("u", "1")
				s.Close()
				b.connect("u")
				time.Sleep(after)
				b.mem.heal()
				time.Sleep(10 * time.Second)
				rest(nodes...)
				b.got("u", "1")
				c.push("2", week, All())
				rest(nodes...)
				b.got("u", "1", "2")
			})
		})
	}
}

// TestOwedByWhoHasIt: a node whose delivery is not in the log yet brings it to nobody again when it learns that another node has delivered it too, although the user has
// connected anew.
func TestOwedByWhoHasIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, nodes := testCluster(t, func(_ int, o *Options) { o.Online, o.Workers = nil, 1 })
		a, b, c := nodes[0], nodes[1], nodes[2]
		must(t, a.Register(t.Context(), "u", "busy on a", "busy on b"))
		s := a.connect("u")
		a.connect("busy on a")
		b.connect("u")
		b.connect("busy on b")
		rest(nodes...)
		releaseB := b.rec.Block("busy on b")
		c.push("1", week, Users("busy on b"))
		rest(nodes...)
		a.set(func(n *memoryNode) { n.faults = []memoryFault{faultLost} })
		c.push("2", week, Users("u"))
		rest(nodes...)
		a.got("u", "2")
		a.set(func(n *memoryNode) { n.gated = true }) // the next try
		releaseA := a.rec.Block("busy on a")
		c.push("3", week, Users("busy on a"))
		rest(nodes...)
		s.Close()
		a.connect("u") // the only worker is held up before the catch-up, and b has nothing to settle
		rest(nodes...)
		releaseB()
		rest(nodes...)
		b.got("u", "2")
		a.set(func(n *memoryNode) { n.gated = false })
		time.Sleep(2 * sweepEvery)
		rest(nodes...)
		releaseA()
		rest(nodes...)
		c.push("4", week, Users("u"))
		rest(nodes...)
		a.got("u", "2", "4")
		b.got("u", "2", "4")
		if owed := a.owed(); owed != 0 {
			t.Fatalf("%d messages are owed", owed)
		}
	})
}

// TestSavedWhileCatchingUp: a user whose catch-up has read a message as pending does not get it again when the delivery by an earlier connection, which was not in the
// log, comes to be there behind another node's.
func TestSavedWhileCatchingUp(t *testing.T) {
	t.Parallel()
	for name, to := range map[string]Audience{
		"the task goes on":     Users("u", "away"),
		"the task is complete": Users("u"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var hold atomic.Bool
				goOn := make(chan struct{})
				_, nodes := testCluster(t, func(i int, o *Options) {
					o.Online = nil
					if o.Workers = 1; i == 0 {
						o.hook = func(point, user string) {
							if point == "catchup:plan" && user == "u" && hold.Load() {
								<-goOn
							}
						}
					}
				})
				a, b, c := nodes[0], nodes[1], nodes[2]
				must(t, a.Register(t.Context(), "u", "busy", "away"))
				s := a.connect("u")
				b.connect("u")
				b.connect("busy")
				rest(nodes...)
				release := b.rec.Block("busy")
				c.push("1", week, Users("busy"))
				rest(nodes...)
				a.set(func(n *memoryNode) { n.faults = []memoryFault{faultLost} })
				c.push("2", week, to)
				rest(nodes...)
				a.got("u", "2")
				a.set(func(n *memoryNode) { n.gated = true }) // the next try
				s.Close()
				hold.Store(true)
				a.connect("u")
				rest(nodes...)
				release()
				rest(nodes...)
				b.got("u", "2")
				a.set(func(n *memoryNode) { n.gated = false })
				time.Sleep(2 * sweepEvery)
				rest(nodes...)
				hold.Store(false)
				close(goOn)
				rest(nodes...)
				c.push("3", week, Users("u"))
				rest(nodes...)
				a.got("u", "2", "3")
				b.got("u", "2", "3")
			})
		})
	}
}

// TestMoveBehindTheEnd: who moves to another node does not wait there for an outcome that is just being tried again when its message is withdrawn.
func TestMoveBehindTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, nodes := testCluster(t, serverAcks)
		a, b, c := nodes[0], nodes[1], nodes[2]
		must(t, a.Register(t.Context(), "u", "away"))
		s := a.connect("u")
		rest(nodes...)
		a.set(func(n *memoryNode) { n.faults = []memoryFault{faultLost} })
		task := c.push("1", week, Users("u", "away"))
		rest(nodes...)
		a.got("u", "1")
		a.set(func(n *memoryNode) { n.gated = true }) // the next try
		s.Close()
		b.connect("u")
		rest(nodes...)
		must(t, c.Withdraw(t.Context(), task.ID))
		c.push("2", week, Users("u"))
		rest(nodes...)
		b.got("u", "2")
		a.set(func(n *memoryNode) { n.gated = false })
		time.Sleep(2 * sweepEvery)
		rest(nodes...)
		b.got("u", "2")
	})
}

// TestOutcomeInTrouble: whatever becomes of the record that says who has a message, and however long its Deliver takes, the node that delivered it does not do so again,
// also when the user connects anew there.
func TestOutcomeInTrouble(t *testing.T) {
	t.Parallel()
	faults := map[string]func(n *memoryNode){
		"refused": func(n *memoryNode) { n.faults = []memoryFault{faultRefused, faultRefused} },
		"lost":    func(n *memoryNode) { n.faults = []memoryFault{faultLost, faultLost} },
		"added":   func(n *memoryNode) { n.faults = []memoryFault{faultAdded, faultAdded} },
		"late":    func(n *memoryNode) { n.faults = []memoryFault{faultLate} },
		"twice":   func(n *memoryNode) { n.faults = []memoryFault{faultTwice, faultTwice} },
		"waits":   func(n *memoryNode) { n.gated = true },
		"held":    func(n *memoryNode) { n.held = true },
		"slow":    func(n *memoryNode) { n.slow = memoryTimeout * 3 / 2 },
	}
	for name, fault := range faults {
		for _, call := range []time.Duration{0, 7 * time.Second} {
			for _, again := range []time.Duration{0, time.Second / 2, memoryTimeout * 3 / 2} {
				t.Run(fmt.Sprintf("%s, %v, %v", name, call, again), func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) {
						_, nodes := testCluster(t, serverAcks)
						a, c := nodes[0], nodes[2]
						s := a.connect("u")
						rest(nodes...)
						release := a.rec.Hang("u")
						c.push("1", week, All())
						rest(nodes...)
						a.set(fault)
						returned := make(chan struct{})
						time.AfterFunc(call, func() {
							release()
							close(returned)
						})
						time.Sleep(again)
						s.Close()
						a.connect("u")
						<-returned
						time.Sleep(3 * memoryTimeout)
						a.set(func(n *memoryNode) { n.gated, n.held, n.slow, n.faults = false, false, 0, nil })
						time.Sleep(2 * sweepEvery)
						rest(nodes...)
						c.push("2", week, All())
						rest(nodes...)
						a.got("u", "1", "2")
					})
				})
			}
		}
	}
}

// TestOnlineOfAllNodes: a push without retention reaches who is connected to any node, counts all of them, and ends when all nodes are done with it.
func TestOnlineOfAllNodes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, nodes := testCluster(t, nil)
		for i, n := range nodes {
			n.connect(fmt.Sprint("u", i))
		}
		nodes[1].connect("v")
		must(t, nodes[0].Register(t.Context(), "away"))
		rest(nodes...)
		release := nodes[2].rec.Block("u2")
		task := nodes[0].push("1", 0, All())
		rest(nodes...)
		if g := progress(t, task); !g.Ended.IsZero() {
			t.Fatalf("it has ended, and a node has it under way: %+v", g)
		}
		release()
		rest(nodes...)
		for _, n := range nodes {
			of, err := n.Task(t.Context(), task.ID)
			must(t, err)
			if g := progress(t, of); g.Ended.IsZero() || g.Delivered != 4 || g.Expired != 1 {
				t.Fatalf("%+v", g)
			}
		}
	})
}

// TestOnlinePartCountsOnce: what a node has delivered without retention counts once, although the node does not learn that it is in the log.
func TestOnlinePartCountsOnce(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]func(b *clusterNode){
		"added":  func(b *clusterNode) { b.set(func(n *memoryNode) { n.faults = []memoryFault{faultAdded} }) },
		"lost":   func(b *clusterNode) { b.set(func(n *memoryNode) { n.faults = []memoryFault{faultLost} }) },
		"late":   func(b *clusterNode) { b.set(func(n *memoryNode) { n.faults = []memoryFault{faultLate} }) },
		"twice":  func(b *clusterNode) { b.set(func(n *memoryNode) { n.faults = []memoryFault{faultTwice} }) },
		"behind": func(b *clusterNode) { b.set(func(n *memoryNode) { n.slow = 2 * memoryTimeout }) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c, nodes := testCluster(t, func(_ int, o *Options) { o.DeliverTimeout = time.Minute })
				a, b := nodes[0], nodes[1]
				b.connect("u")
				must(t, a.Register(t.Context(), "v", "w"))
				rest(nodes...)
				release := nodes[2].rec.Block("x") // keeps the task from its end
				nodes[2].connect("x")
				rest(nodes...)
				f(b)
				task := a.push("1", 0, All())
				time.Sleep(20 * time.Second)
				if g := progress(t, task); !g.Ended.IsZero() {
					t.Fatalf("%+v", g)
				}
				release()
				time.Sleep(30 * time.Second)
				b.set(func(n *memoryNode) { n.slow = 0 })
				time.Sleep(10 * time.Second) // what is owed is tried each second
				rest(nodes...)
				if g := progress(t, task); g.Ended.IsZero() || g.Delivered != 2 || g.Expired != 2 {
					t.Fatalf("%+v", g)
				}
				if last := c.last(); last > 40 {
					t.Fatalf("%d records", last)
				}
			})
		})
	}
}

// TestOnlineWithoutNode: such a push ends without a node that is gone, be it one that delivers it or the one that accepted it.
func TestOnlineWithoutNode(t *testing.T) {
	t.Parallel()
	for gone, name := range []string{"its origin", "another, which has the lease", "a third"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				_, nodes := testCluster(t, nil)
				if gone == 1 {
					nodes[0], nodes[1] = nodes[1], nodes[0]
				}
				for i, n := range nodes {
					n.connect(fmt.Sprint("u", i))
				}
				rest(nodes...)
				if gone == 0 {
					defer nodes[2].rec.Block("u2")()
				}
				defer nodes[gone].rec.Block(fmt.Sprint("u", gone))()
				task := nodes[0].push("1", 0, All())
				rest(nodes...)
				nodes[gone].mem.die(time.Second)
				time.Sleep(memorySilence - time.Second)
				alive := slices.Delete(slices.Clone(nodes), gone, gone+1)
				rest(alive...)
				of, err := alive[0].Task(t.Context(), task.ID)
				must(t, err)
				if g := progress(t, of); !g.Ended.IsZero() {
					t.Fatalf("it has ended before the node is gone: %+v", g)
				}
				time.Sleep(greetPatience + 4*time.Second)
				rest(alive...)
				g := progress(t, of)
				if g.Ended.IsZero() || gone > 0 && g.Delivered != 2 {
					t.Fatalf("%+v", g)
				}
			})
		})
	}
}

// phonesOfAll has all nodes send to the same phones, one notification a batch.
func phonesOfAll(grace time.Duration) (*transporttest.Phones, func(int, *Options)) {
	phones := transporttest.NewPhones("apns")
	phones.SetBatchSize(1)
	return phones, func(_ int, o *Options) { o.Mobile, o.Grace = []transport.Mobile{phones}, grace }
}

// TestPhonesGoOnElsewhere: one node notifies, and when it loses the lease another goes on where it was.
func TestPhonesGoOnElsewhere(t *testing.T) {
	t.Parallel()
	for name, died := range map[string]bool{"lost": false, "died": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				phones, adjust := phonesOfAll(-1)
				c, nodes := testCluster(t, adjust)
				var ids []string
				for i := range 9 {
					ids = append(ids, fmt.Sprint("u", i))
				}
				importPhones(t, nodes[0].Pusher, "apns", ids...)
				var batches atomic.Int32
				phones.OnSend(func(context.Context, []transport.Notification) ([]transport.Result, bool) {
					if batches.Add(1) != 4 {
						return nil, false
					}
					if died {
						nodes[0].mem.die(time.Second)
						return []transport.Result{{Outcome: transport.Retry}}, true // the process was killed before it sent this one
					}
					c.lose(peers.Phones("apns"), time.Second) // and with it the context of this call: it is to be tried again
					return nil, false
				})
				task := mustTask(t, nodes[2].Pusher, notice(week))
				rest(nodes...)
				if holder, _ := c.holder(peers.Phones("apns")); holder != nil || batches.Load() != 4 {
					t.Fatalf("%d batches", batches.Load())
				}
				time.Sleep(5 * time.Second)
				rest(nodes...)
				for _, id := range ids {
					if n := len(phones.Shown(id)); n != 1 {
						t.Errorf("%s was notified %d times", id, n)
					}
				}
				if g := progress(t, task).Phones["apns"]; g.Sent-g.Retried != 9 || g.Accepted != 9 {
					t.Errorf("%+v", g)
				}
				if holder, _ := c.holder(peers.Phones("apns")); holder != nodes[1].mem {
					t.Error("the next in the row does not have the lease")
				}
			})
		})
	}
}

// TestPhonesWaitForAllNodes: who is connected to another node than the one that notifies is not notified; who left it within the grace is.
func TestPhonesWaitForAllNodes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		phones, adjust := phonesOfAll(10 * time.Second)
		c, nodes := testCluster(t, adjust)
		importPhones(t, nodes[0].Pusher, "apns", "stays", "leaves", "away", "here")
		nodes[0].connect("here")
		nodes[1].connect("stays")
		s := nodes[2].connect("leaves")
		rest(nodes...)
		if holder, _ := c.holder(peers.Phones("apns")); holder != nodes[0].mem {
			t.Fatal("another node notifies")
		}
		task := mustTask(t, nodes[1].Pusher, notice(week)) // which nobody acknowledges
		time.Sleep(5 * time.Second)
		if s.Close(); phones.Total() != 0 {
			t.Fatal("notified within the grace")
		}
		time.Sleep(time.Minute)
		rest(nodes...)
		for token, want := range map[string]int{"stays": 0, "leaves": 1, "away": 1, "here": 0} {
			if got := phones.Attempts(token); got != want {
				t.Errorf("%s was notified %d times, not %d", token, got, want)
			}
		}
		if g := progress(t, task).Phones["apns"]; g.Sent != 2 {
			t.Errorf("%+v", g)
		}
	})
}

// TestWithdrawElsewhere: a message that is withdrawn on one node is taken from the phones that another has notified.
func TestWithdrawElsewhere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		phones, adjust := phonesOfAll(-1)
		_, nodes := testCluster(t, adjust)
		importPhones(t, nodes[0].Pusher, "apns", "u0", "u1", "u2")
		release := make(chan struct{})
		phones.OnSend(func(_ context.Context, batch []transport.Notification) ([]transport.Result, bool) {
			if batch[0].Device.Token == "u0" {
				<-release // the first batch is under way, and no checkpoint tells of it, when the message is withdrawn
			}
			return nil, false
		})
		task := mustTask(t, nodes[2].Pusher, notice(week))
		rest(nodes...)
		must(t, nodes[1].Withdraw(t.Context(), task.ID))
		rest(nodes...)
		close(release)
		rest(nodes...)
		if phones.Attempts("u0") < 2 {
			t.Fatal("the phone was not told")
		}
		if got := screens(phones, 3); got != "  " {
			t.Fatalf("%q", got)
		}
		of, err := nodes[1].Task(t.Context(), task.ID)
		must(t, err)
		if g := progress(t, of); g.Withdrawn != 3 || g.Recalls["apns"].Accepted == 0 {
			t.Fatalf("%+v", g)
		}
	})
}

// TestHooksOfOneNode: what happens once in the cluster is told once in it.
func TestHooksOfOneNode(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var h heard
		_, nodes := testCluster(t, func(_ int, o *Options) {
			o.Online, o.Hooks = nil, h.hooks()
		})
		take := func() string {
			rest(nodes...)
			time.Sleep(3 * time.Second)
			rest(nodes...)
			list := strings.Split(h.take(), "; ")
			slices.Sort(list)
			return strings.Join(list, "; ")
		}
		for i, n := range nodes {
			n.connect(fmt.Sprint("u", i))
		}
		take()
		nodes[1].push("1", week, All())
		if got := take(); strings.Count(got, "accepted") != 1 || strings.Count(got, "finished") != 1 || strings.Count(got, "delivered") != 3 {
			t.Fatal(got)
		}
		nodes[2].push("2", 0, All())
		if got := take(); strings.Count(got, "accepted") != 1 || strings.Count(got, "finished") != 1 || strings.Count(got, "delivered") != 3 {
			t.Fatal(got)
		}
		must(t, nodes[0].Register(t.Context(), "away"))
		nodes[1].push("3", time.Second, Users("away"))
		if got := take(); got != "accepted 3; expired 3 for 1; finished 3 with 0 of 1" {
			t.Fatal(got)
		}
		task := nodes[1].push("4", week, Users("away"))
		rest(nodes...)
		must(t, nodes[2].Withdraw(t.Context(), task.ID))
		if got := take(); got != "accepted 4; finished 4 with 0 of 1; withdrawn 4 from 1" {
			t.Fatal(got)
		}
	})
}

// TestPlansGoOnElsewhere: a plan that is being released goes on where it was when another node gets the lease, and fires once.
func TestPlansGoOnElsewhere(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(c *memoryCluster, n *clusterNode){
		"lost": func(c *memoryCluster, n *clusterNode) { c.lose(peers.Background, 0) },
		"died": func(c *memoryCluster, n *clusterNode) { n.mem.die(time.Second) },
		"closed": func(c *memoryCluster, n *clusterNode) {
			must(n.t, n.Close(n.t.Context()))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c, nodes := testCluster(t, nil)
				var ids []string
				for i := range 12 {
					ids = append(ids, fmt.Sprintf("u%02d", i))
				}
				must(t, nodes[0].Register(t.Context(), ids...))
				for i, id := range ids {
					nodes[1+i%2].connect(id)
				}
				rest(nodes...)
				planned := mustPlan(t, nodes[2].Pusher, Plan{Message: Message{Body: []byte("p"), Lifetime: week, To: All()}, Pace: 2})
				time.Sleep(2500 * time.Millisecond)
				rest(nodes...)
				if i := info(t, planned); i.Fired != 1 || i.Held == 0 || i.Held == 12 {
					t.Fatalf("%+v", i)
				}
				lose(c, nodes[0])
				time.Sleep(10 * time.Second)
				rest(nodes[1:]...)
				for i, id := range ids {
					nodes[1+i%2].got(id, "p")
				}
				if i := info(t, planned); i.Fired != 1 || i.Held != 0 || i.Outcome != PlanCompleted {
					t.Fatalf("%+v", i)
				}
			})
		})
	}
}

// TestImportIsWhatWasLogged: who gives up an import may change what it referred to, and the node applies all the same what the others do.
func TestImportIsWhatWasLogged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, nodes := testCluster(t, nil)
		a, b := nodes[0], nodes[1]
		a.set(func(n *memoryNode) { n.gated = true })
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		tags, outs := []string{"tag"}, []string{"news"}
		given := make(chan error)
		go func() {
			_, err := a.Import(ctx, func(yield func(User, error) bool) { yield(User{ID: "u", Tags: tags, OptOuts: outs}, nil) }, nil)
			given <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-given; !errors.Is(err, ErrOutcomeUnknown) {
			t.Fatal(err)
		}
		tags[0], outs[0] = "another", "others"
		a.set(func(n *memoryNode) { n.gated = false })
		rest(nodes...)
		for _, n := range []*clusterNode{a, b} {
			u, err := n.User(t.Context(), "u")
			must(t, err)
			if !slices.Equal(u.Tags, []string{"tag"}) || !slices.Equal(u.OptOuts, []string{"news"}) {
				t.Errorf("%+v", u)
			}
		}
	})
}

// TestClosingNodeReportsOnce: what a node has delivered without retention counts once when it closes while its report is on the way to the log.
func TestClosingNodeReportsOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, nodes := testCluster(t, func(_ int, o *Options) { o.DeliverTimeout = time.Minute })
		a, b, c := nodes[0], nodes[1], nodes[2]
		b.connect("u")
		c.connect("x")
		must(t, a.Register(t.Context(), "v", "w"))
		rest(nodes...)
		release := c.rec.Block("x") // keeps the task from its end
		b.set(func(n *memoryNode) { n.gated = true })
		task := a.push("1", 0, All())
		synctest.Wait()
		closed := make(chan error)
		go func() { closed <- b.Close(context.Background()) }()
		time.Sleep(time.Second)
		b.set(func(n *memoryNode) { n.gated = false })
		must(t, <-closed)
		release()
		rest(a, c)
		if g := progress(t, task); g.Ended.IsZero() || g.Delivered != 2 || g.Expired != 2 {
			t.Fatalf("%+v", g)
		}
	})
}

// TestOutcomeInTheLogIsNotOwed: a node that learns that its outcome is in the log before it learns that nobody knows whether it is does not add it again.
func TestOutcomeInTheLogIsNotOwed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, nodes := testCluster(t, func(_ int, o *Options) { o.DeliverTimeout = time.Minute })
		a, b, c := nodes[0], nodes[1], nodes[2]
		b.connect("u")
		c.connect("x")
		must(t, a.Register(t.Context(), "v", "w"))
		rest(nodes...)
		release := c.rec.Block("x")
		task := a.push("1", 0, All())
		rest(nodes...)
		b.delivery.owe(&store.OnlinePart{Seq: task.seq, Delivered: 1})
		time.Sleep(3 * sweepEvery)
		release()
		rest(nodes...)
		if g := progress(t, task); g.Delivered != 2 || g.Expired != 2 {
			t.Fatalf("%+v", g)
		}
		b.delivery.owe(&store.OnlinePart{Seq: task.seq, Delivered: 1}) // whose task is over
		if n := len(b.delivery.owed); n != 0 {
			t.Errorf("%d outcomes are owed", n)
		}
	})
}

// TestNodeThatComesBehindAPush: a push without retention ends although a node came, and is known to who accepted it, behind the push in the log and before that one has applied it.
func TestNodeThatComesBehindAPush(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cluster, nodes := testCluster(t, nil)
		a, c := nodes[0], nodes[2]
		must(t, a.Register(t.Context(), "u"))
		rest(nodes...)
		a.set(func(n *memoryNode) { n.held = true })
		must(t, c.Register(t.Context(), "v")) // without which a applies its push at once
		pushed := make(chan *Task)
		go func() { pushed <- a.push("1", 0, All()) }()
		synctest.Wait()
		o := Options{Online: new(transporttest.Recorder), blockBits: 2, Cron: testCron}
		late := &clusterNode{t: t, mem: cluster.join(&o)}
		late.Pusher = testPusher(t, t.TempDir(), o)
		synctest.Wait()
		a.set(func(n *memoryNode) { n.held = false })
		task := <-pushed
		rest(append(nodes, late)...)
		if g := progress(t, task); g.Ended.IsZero() || g.Total != 2 {
			t.Errorf("it waits for a node that was not told of it: %+v", g)
		}
	})
}

// TestMoveWhenAMessageEnds: who has moved from a node that could not add a delivery does not wait for that any more when the message has ended.
func TestMoveWhenAMessageEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, nodes := testCluster(t, serverAcks)
		c, a, b := nodes[0], nodes[1], nodes[2]
		s := a.connect("u")
		rest(nodes...)
		a.set(func(n *memoryNode) { n.faults = slices.Repeat([]memoryFault{faultRefused}, 100) })
		task := c.push("1", week, All())
		rest(nodes...)
		a.got("u", "1")
		s.Close()
		c.push("2", week, All())
		b.connect("u")
		rest(nodes...)
		b.got("u")
		must(t, c.Withdraw(t.Context(), task.ID))
		rest(nodes...)
		b.got("u", "2")
	})
}

// TestPlanOfAnotherNodeIsForgotten: the node that has what is over be forgotten knows of a plan that has ended on another.
func TestPlanOfAnotherNodeIsForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, nodes := testCluster(t, nil)
		time.Sleep(3 * sweepEvery)
		planned := mustPlan(t, nodes[2].Pusher, Plan{Message: Message{Body: []byte("p"), Lifetime: week, To: All()}, At: time.Now().Add(week)})
		must(t, planned.Cancel(t.Context()))
		time.Sleep(3 * sweepEvery)
		if at := nodes[0].nextDue.Load(); at == 0 {
			t.Error("nothing is to be forgotten")
		}
	})
}

// TestOwedBehindTheQuestion: an outcome that comes to be owed while another is asked for is asked for itself before it is added again.
func TestOwedBehindTheQuestion(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, nodes := testCluster(t, func(_ int, o *Options) { o.DeliverTimeout = time.Minute })
		a, b, c := nodes[0], nodes[1], nodes[2]
		b.connect("u")
		must(t, a.Register(t.Context(), "f1", "f2", "f3"))
		b.connect("slow") // in another block, and so lane
		c.connect("x")
		must(t, a.Register(t.Context(), "v", "w"))
		rest(nodes...)
		goOn, release := b.rec.Block("slow"), c.rec.Block("x") // which keeps the tasks from their end
		task := a.push("2", 0, Users("slow", "x", "v", "w"))
		rest(nodes...)
		b.set(func(n *memoryNode) { n.faults = []memoryFault{faultLost, faultNone, faultAdded} })
		a.push("1", 0, Users("u"))
		rest(nodes...) // the outcome of the second is owed
		b.set(func(n *memoryNode) { n.held = true })
		must(t, c.Register(t.Context(), "y"))
		time.Sleep(3 * sweepEvery / 2) // and is asked for
		goOn()
		synctest.Wait() // that of the first is owed too, and in the log
		b.set(func(n *memoryNode) { n.held = false })
		time.Sleep(5 * sweepEvery)
		release()
		rest(nodes...)
		if g := progress(t, task); g.Ended.IsZero() || g.Delivered != 2 || g.Expired != 2 {
			t.Fatalf("%+v", g)
		}
	})
}

// TestSettlesAreForgotten: a node that can add nothing to the log keeps no questions that it has answered for want of patience.
func TestSettlesAreForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, nodes := testCluster(t, serverAcks)
		c, a, b := nodes[0], nodes[1], nodes[2]
		s := a.connect("u")
		must(t, c.Register(t.Context(), "away")) // who keeps the message from its end
		rest(nodes...)
		a.set(func(n *memoryNode) { n.faults = slices.Repeat([]memoryFault{faultRefused}, 100) })
		c.push("1", week, All())
		rest(nodes...)
		s.Close()
		asked := func() (n int) {
			a.delivery.eachLane(func(l *lane) {
				l.mu.Lock()
				defer l.mu.Unlock()
				n += len(l.settles)
			})
			return n
		}
		b.connect("u")
		rest(nodes...)
		if asked() != 1 {
			t.Fatal("nobody asks")
		}
		time.Sleep(settlePatience + time.Second)
		rest(nodes...)
		b.got("u", "1")
		if n := asked(); n != 0 {
			t.Errorf("%d questions are kept", n)
		}
	})
}
