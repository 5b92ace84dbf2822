package cluster

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfare-im/fanfare"
)

func newTestDigests(stop func(error)) *digests {
	return &digests{name: "a", logger: silent(), after: judgeAfter, stop: stop, at: make(map[uint64]map[string]uint64), judges: make(map[uint64]*time.Timer)}
}

// TestDigestsWhileAnotherCatchesUp: what differs is judged, although a node that catches up tells of many positions meanwhile.
func TestDigestsWhileAnotherCatchesUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var stopped error
		d := newTestDigests(func(err error) { stopped = err })
		const at = 1 << 20
		d.note(at, 1, "a")
		d.note(at, 2, "b")
		for i := range uint64(4 * digestsKept) {
			d.note(256*i, i, "c")
		}
		d.note(at, 2, "c")
		time.Sleep(2 * judgeAfter)
		synctest.Wait()
		if !errors.Is(stopped, fanfare.ErrDiverged) {
			t.Error("it goes on:", stopped)
		}
		if n := len(d.at); n > digestsKept || len(d.order) != n {
			t.Errorf("%d positions are kept, in an order of %d", n, len(d.order))
		}
	})
}

// TestDigestsAreBounded: names and positions that nobody has take no more memory than so much.
func TestDigestsAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newTestDigests(func(error) {})
		for i := range uint64(2 * digestsKept) {
			d.note(i, 1, "a")
			for k := range 2 * maxOthers {
				d.note(i, 2, fmt.Sprint("b", k))
			}
		}
		if len(d.at) > digestsKept || len(d.order) != len(d.at) {
			t.Errorf("%d positions, in an order of %d", len(d.at), len(d.order))
		}
		for _, of := range d.at {
			if len(of) > maxOthers+1 {
				t.Errorf("%d nodes", len(of))
			}
		}
		time.Sleep(2 * judgeAfter)
		synctest.Wait()
		if len(d.judges) != 0 {
			t.Error("judgements are left:", len(d.judges))
		}
	})
}
