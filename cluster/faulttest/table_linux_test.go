package faulttest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// spell is one fault, from its begin to its end, and how long it took then until each node made changes again.
type spell struct {
	target     int
	begin, end time.Duration
	whole      time.Duration
}

// account is what some nodes did during the spells.
type account struct {
	made, refused, unknown int           // changes
	gap                    time.Duration // the longest time without one that was made
	longest                time.Duration // that a call took
	delivered              int
}

// account takes from the history what went on while there was a fault. The other nodes went on to make changes, in each spell, and where a fault harms nobody, all nodes made all.
func (s *scenario) account(t *testing.T, h *history) {
	t.Helper()
	for _, one := range s.spells {
		before := s.others.made
		s.others.add(h, one, func(node int) bool { return node != one.target || s.everywhere })
		s.atFault.add(h, one, func(node int) bool { return node == one.target && !s.everywhere })
		if s.others.made == before {
			t.Errorf("the other nodes made no changes in %s of a fault at node %d", seconds(one.end-one.begin), one.target)
		}
	}
	if n := s.others.refused + s.others.unknown + s.atFault.refused + s.atFault.unknown; s.harmless && n > 0 {
		t.Errorf("%d changes failed for a fault that harms nobody", n)
	}
}

func (a *account) add(h *history, s spell, is func(node int) bool) {
	ends := []time.Duration{s.begin, s.end}
	for _, o := range h.Ops {
		if !is(o.Node) || o.Again || o.Begin < s.begin || o.Begin > s.end {
			continue
		}
		switch o.Kind {
		case push, set, unset, ack:
		default:
			continue
		}
		switch o.Outcome {
		case done:
			if o.End < s.end {
				a.made++
				ends = append(ends, o.End)
			}
		case refused:
			a.refused++
		default:
			a.unknown++
		}
		if o.End != never {
			a.longest = max(a.longest, h.running(o.Node, o.Begin, o.End))
		}
	}
	slices.Sort(ends)
	for i := range ends[1:] {
		a.gap = max(a.gap, ends[i+1]-ends[i])
	}
	for _, d := range h.Deliveries {
		if is(d.Node) && d.Begin >= s.begin && d.Begin <= s.end {
			a.delivered++
		}
	}
}

func (a *account) String() string {
	s := fmt.Sprintf("%d changes made", a.made)
	if a.refused > 0 {
		s += fmt.Sprintf(", %d refused", a.refused)
	}
	if a.unknown > 0 {
		s += fmt.Sprintf(", %d of unknown outcome", a.unknown)
	}
	if a.made > 0 {
		s += fmt.Sprintf(", at most %s without one", seconds(a.gap))
	}
	return s + fmt.Sprintf("; the longest call %s; %d deliveries", seconds(a.longest), a.delivered)
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

// table is what came of each fault, for docs/cluster.md.
func table(scenarios []*scenario) string {
	var b strings.Builder
	b.WriteString("| what was done | the other nodes meanwhile | the node meanwhile | whole again after |\n|---|---|---|---|\n")
	for _, s := range scenarios {
		if len(s.spells) == 0 {
			continue
		}
		did, target := s.did, s.atFault.String()
		if s.clientAcks {
			did += "; clients acknowledge"
		}
		if s.everywhere {
			target = "–"
		}
		var whole []string
		for _, one := range s.spells {
			whole = append(whole, seconds(one.whole))
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", did, &s.others, target, strings.Join(whole, ", "))
	}
	return b.String()
}
