package cluster

import (
	"testing"
	"time"
)

// TestElections: the variables are the server's. When this fails after an update of it, look for what has become of them.
func TestElections(t *testing.T) {
	t.Parallel()
	if want := [...]time.Duration{time.Second, 4 * time.Second, 9 * time.Second}; untouched != want {
		t.Errorf("they were %v, want %v", untouched, want)
	}
}
