//go:build !linux && !darwin

package store

import "testing"

func TestNoRoomForReal(t *testing.T) {
	t.Skip("no limit on the size of files that a process could set for itself")
}
