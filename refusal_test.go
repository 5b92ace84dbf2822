package fanfare

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// refusal is a call that must be refused with nothing of it applied: alone, as a change of a
// batch, and as a user of an import, as far as there is such a form.
type refusal struct {
	name  string
	limit LimitError // what is wanted, unless is is set; a Got of more stands for any above the limit
	is    error      // a sentinel
	alone func(p *Pusher) error
	batch func(b *Batch)
	user  *User
	late  bool // found only when it is applied: then the attempt is a step of the journal
}

const more = -1 << 62

// wanted says whether an error is the one that is wanted.
func (r *refusal) wanted(err error) bool {
	if r.is != nil {
		return errors.Is(err, r.is)
	}
	var got *LimitError
	if !errors.As(err, &got) {
		return false
	}
	if r.limit.Got == more {
		return got.What == r.limit.What && got.Limit == r.limit.Limit && got.Got > got.Limit
	}
	return *got == r.limit
}

func (r *refusal) String() string {
	if r.is != nil {
		return fmt.Sprintf("%q", r.is.Error())
	}
	return fmt.Sprintf("%+v", r.limit)
}

// check makes the calls and wants each refused, and everything as it was before.
func (r *refusal) check(t *testing.T, p *Pusher) {
	t.Helper()
	look := known
	if r.late {
		look = visible // without a step of the journal nothing else can have changed
	}
	before, at := look(t, p), position(t, p)
	same := func(form string) {
		t.Helper()
		if after := look(t, p); after != before {
			t.Fatalf("%s, %s: something was applied:\n%s\nbefore:\n%s", r.name, form, after, before)
		}
		if now := position(t, p); now != at && !r.late {
			t.Fatalf("%s, %s: a step was made, from %d to %d", r.name, form, at, now)
		}
	}
	if r.alone != nil {
		if err := r.alone(p); !r.wanted(err) {
			t.Fatalf("%s: %v, not %s", r.name, err, r)
		}
		same("alone")
	}
	if r.batch != nil {
		r.checkBatch(t, p)
		same("in a batch")
	}
	if r.user != nil {
		r.checkImport(t, p)
		if !r.late { // the user before the refused one is in
			must(t, p.Unregister(context.Background(), "import"))
		}
	}
}

func (r *refusal) checkBatch(t *testing.T, p *Pusher) {
	t.Helper()
	var b Batch
	b.Register("batch")
	b.AddTags("batch", "batch")
	n := b.Len()
	r.batch(&b)
	b.AddTags("batch", "behind")
	err := p.Apply(context.Background(), &b)
	var at *BatchError
	if !r.wanted(err) || !errors.As(err, &at) || at.Index != n {
		t.Fatalf("%s, in a batch: %v, not %s for change %d", r.name, err, r, n)
	}
}

// checkImport puts the user behind a good one, which a mistake that is seen at once leaves in, and
// one that is found when the step is applied takes with it.
func (r *refusal) checkImport(t *testing.T, p *Pusher) {
	t.Helper()
	known, err := p.User(context.Background(), r.user.ID)
	stats, err2 := p.Import(context.Background(), func(yield func(User, error) bool) {
		_ = yield(User{ID: "import", Tags: []string{"import"}}, nil) && yield(*r.user, nil) && yield(User{ID: "behind"}, nil)
	}, nil)
	want := int64(1)
	if r.late {
		want = 0
	}
	var at *ImportError
	if !r.wanted(err2) || !errors.As(err2, &at) || at.Index != 1 || at.ID != r.user.ID || stats.Users != want {
		t.Fatalf("%s, in an import: %v with %+v, not %s for user 1 with %d users", r.name, err2, stats, r, want)
	}
	after, err3 := p.User(context.Background(), r.user.ID)
	if fmt.Sprint(known, err) != fmt.Sprint(after, err3) {
		t.Fatalf("%s, in an import: the user is %+v, %v, not %+v, %v", r.name, after, err3, known, err)
	}
	if _, err := p.User(context.Background(), "import"); r.late != errors.Is(err, ErrUnknownUser) {
		t.Fatalf("%s, in an import: the user before it: %v", r.name, err)
	}
	if _, err := p.User(context.Background(), "behind"); !errors.Is(err, ErrUnknownUser) {
		t.Fatalf("%s, in an import: the user behind it: %v", r.name, err)
	}
}

// known is what can be seen of alice, and how much there is of everything else.
func known(t testing.TB, p *Pusher) string {
	t.Helper()
	ctx := context.Background()
	u, err := p.User(ctx, "alice")
	must(t, err)
	names, err := p.AttributeNames(ctx)
	must(t, err)
	stats, err := p.Stats(ctx)
	must(t, err)
	return fmt.Sprintf("%+v %v, users %d, pushes %d", u, names, stats.Users, stats.Pushes)
}

// visible is what can be seen of everything that calls change.
func visible(t testing.TB, p *Pusher) string {
	t.Helper()
	ctx := context.Background()
	var out strings.Builder
	for id, err := range p.Members(ctx, All()) {
		must(t, err)
		u, err := p.User(ctx, id)
		must(t, err)
		fmt.Fprintf(&out, "%+v, waits for", u)
		for m, err := range p.Pending(ctx, id) {
			must(t, err)
			fmt.Fprintf(&out, " %d", m.Sequence)
		}
		out.WriteByte('\n')
	}
	names, err := p.AttributeNames(ctx)
	must(t, err)
	stats, err := p.Stats(ctx)
	must(t, err)
	fmt.Fprintln(&out, names, stats.Users, stats.Pushes)
	for task, err := range p.Tasks(ctx) {
		must(t, err)
		fmt.Fprintf(&out, "%s %+v\n", task.ID, progress(t, task))
	}
	return out.String()
}

func position(t testing.TB, p *Pusher) uint64 {
	t.Helper()
	stats, err := p.Stats(context.Background())
	must(t, err)
	return stats.Position
}

// refusalScene is what refusals are tried on: two attributes with names, and alice, who has one of each thing.
func refusalScene(t testing.TB, p *Pusher) {
	t.Helper()
	ctx := context.Background()
	must(t, p.SetAttributeNames(ctx, map[int]string{0: "tier", 1: "city"}))
	must(t, p.Register(ctx, "alice"))
	must(t, p.AddTags(ctx, "alice", "old"))
	must(t, p.SetAttributes(ctx, "alice", map[string]string{"tier": "gold"}))
	must(t, p.RegisterDevice(ctx, "alice", Device{Platform: "apns", Token: "old"}))
}

// askAudience is what takes an audience.
var askAudience = map[string]func(p *Pusher, a Audience) error{
	"Push": func(p *Pusher, a Audience) error {
		_, err := p.Push(context.Background(), Message{Body: []byte("x"), To: a, Lifetime: week})
		return err
	},
	"Count": func(p *Pusher, a Audience) error {
		_, err := p.Count(context.Background(), a)
		return err
	},
	"Members": func(p *Pusher, a Audience) error {
		var last error
		n := 0
		for id, err := range p.Members(context.Background(), a) {
			if n++; id != "" || n > 1 {
				return fmt.Errorf("member %q, %v", id, err)
			}
			last = err
		}
		return last
	},
}

// askUser is what takes a user who must be known.
var askUser = map[string]func(p *Pusher, id string) error{
	"Unregister":       func(p *Pusher, id string) error { return p.Unregister(context.Background(), id) },
	"AddTags":          func(p *Pusher, id string) error { return p.AddTags(context.Background(), id, "t") },
	"AddTags of none":  func(p *Pusher, id string) error { return p.AddTags(context.Background(), id) },
	"RemoveTags":       func(p *Pusher, id string) error { return p.RemoveTags(context.Background(), id, "t") },
	"ClearTags":        func(p *Pusher, id string) error { return p.ClearTags(context.Background(), id) },
	"Tags":             func(p *Pusher, id string) error { _, err := p.Tags(context.Background(), id); return err },
	"Attributes":       func(p *Pusher, id string) error { _, err := p.Attributes(context.Background(), id); return err },
	"Devices":          func(p *Pusher, id string) error { _, err := p.Devices(context.Background(), id); return err },
	"User":             func(p *Pusher, id string) error { _, err := p.User(context.Background(), id); return err },
	"RemoveAttributes": func(p *Pusher, id string) error { return p.RemoveAttributes(context.Background(), id, "tier") },
	"RemoveDevice":     func(p *Pusher, id string) error { return p.RemoveDevice(context.Background(), id, "apns", "t") },
	"SetAttributes": func(p *Pusher, id string) error {
		return p.SetAttributes(context.Background(), id, map[string]string{"tier": "x"})
	},
	"RegisterDevice": func(p *Pusher, id string) error {
		return p.RegisterDevice(context.Background(), id, Device{Platform: "apns", Token: "t"})
	},
	"Pending": func(p *Pusher, id string) error {
		for m, err := range p.Pending(context.Background(), id) {
			if err != nil {
				return err
			}
			return fmt.Errorf("message %d", m.Sequence)
		}
		return nil
	},
	"Ack":        func(p *Pusher, id string) error { return p.Ack(context.Background(), id, anyTask(p)) },
	"Opened":     func(p *Pusher, id string) error { return p.Opened(context.Background(), id, anyTask(p)) },
	"AckThrough": func(p *Pusher, id string) error { return p.AckThrough(context.Background(), id, anyTask(p)) },
}

// anyTask is the ID of the newest task.
func anyTask(p *Pusher) string {
	for task, err := range p.Tasks(context.Background()) {
		if err == nil {
			return task.ID
		}
	}
	return ""
}

// inTurn calls f for the keys of a map, sorted.
func inTurn[V any](m map[string]V, f func(name string, v V)) {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		f(name, m[name])
	}
}
