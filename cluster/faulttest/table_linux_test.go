package faulttest

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// result is what a scenario came to.
type result struct {
	scenario *scenario
	spells   []spell
	others   account // of the nodes that a fault was not at
	target   account // of those that it was at
}

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

// describe takes from the history what went on while there was a fault.
func (r *result) describe(h *history) {
	for _, s := range r.spells {
		r.others.add(h, s, func(node int) bool { return node != s.target || r.scenario.everywhere })
		r.target.add(h, s, func(node int) bool { return node == s.target && !r.scenario.everywhere })
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

// table is the results for docs/cluster.md.
func table(results []*result) string {
	var b strings.Builder
	b.WriteString("| what was done | the other nodes meanwhile | the node meanwhile | whole again after |\n|---|---|---|---|\n")
	for _, r := range results {
		did, target := r.scenario.did, r.target.String()
		if r.scenario.clientAcks {
			did += "; clients acknowledge"
		}
		if r.scenario.everywhere {
			target = "–"
		}
		var whole []string
		for _, s := range r.spells {
			whole = append(whole, seconds(s.whole))
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", did, &r.others, target, strings.Join(whole, ", "))
	}
	return b.String()
}
