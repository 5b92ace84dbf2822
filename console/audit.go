package console

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Outcome is what became of an action.
type Outcome string

// The outcomes. What has begun and has no other outcome was under way when the process ended.
const (
	Begun   Outcome = "begun"
	Done    Outcome = "done"
	Failed  Outcome = "failed"
	Refused Outcome = "refused" // by the role of who asked
)

// Entry is what the audit log has of an action. An action that is tried has two entries with the same ID: one that it has begun, kept before anything is done, and one
// of what became of it, its Outcome.
type Entry struct {
	ID      string    `json:"id"`               // the same for both entries of an action
	Time    time.Time `json:"time"`             // when the entry was made
	Who     string    `json:"who"`              // by the name that Identify gave
	Role    Role      `json:"role"`             // that they had then
	Action  string    `json:"action"`           // such as "push", "test", "withdraw"
	Target  string    `json:"target,omitempty"` // the ID or name of what was acted on; empty: it had none
	Detail  string    `json:"detail,omitempty"` // for people
	Outcome Outcome   `json:"outcome"`
	Error   string    `json:"error,omitempty"` // why it failed or was refused
}

// Audit keeps entries. Its methods are called from several goroutines at once.
type Audit interface {
	// Record keeps an entry. Where it fails for an action that has begun, the action is not done.
	Record(ctx context.Context, e Entry) error
	// List returns at most limit entries, newest first, behind the skip newest ones.
	List(ctx context.Context, skip, limit int) ([]Entry, error)
}

// refusalsPerMinute is how many refused actions of one person are recorded in a minute, so that who may do nothing cannot fill a disk.
const refusalsPerMinute = 10

// refusals counts them.
type refusals struct {
	mu     sync.Mutex
	minute time.Time
	of     map[string]int // by name
}

// take says whether one more is recorded.
func (r *refusals) take(who string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if minute := now.Truncate(time.Minute); r.of == nil || !minute.Equal(r.minute) {
		r.minute, r.of = minute, make(map[string]int)
	}
	if r.of[who] >= refusalsPerMinute {
		return false
	}
	r.of[who]++
	return true
}

// MemoryAudit is an [Audit] in memory, for as long as the process lives. Make one with [NewMemoryAudit].
type MemoryAudit struct {
	mu      sync.Mutex
	most    int
	entries []Entry // oldest first
}

// NewMemoryAudit makes one that keeps the last so many entries; 0 means 1,000.
func NewMemoryAudit(entries int) *MemoryAudit {
	if entries <= 0 {
		entries = 1000
	}
	return &MemoryAudit{most: entries}
}

// Record keeps an entry, and lets the oldest go for it: of those that were refused, if there are some, so that who may do nothing cannot push out
// what others did.
func (a *MemoryAudit) Record(_ context.Context, e Entry) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.entries) == a.most {
		i := max(slices.IndexFunc(a.entries, func(e Entry) bool { return e.Outcome == Refused }), 0)
		a.entries = slices.Delete(a.entries, i, i+1)
	}
	a.entries = append(a.entries, e)
	return nil
}

// List returns entries, newest first.
func (a *MemoryAudit) List(_ context.Context, skip, limit int) ([]Entry, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []Entry
	for i := len(a.entries) - 1 - max(skip, 0); i >= 0 && len(out) < limit; i-- {
		out = append(out, a.entries[i])
	}
	return out, nil
}
