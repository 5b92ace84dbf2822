package store

import (
	"context"
	"testing"
)

// TestFound looks at directories as processes leave them, which end well and which do not: what is to be replayed, and which files there are.
func TestFound(t *testing.T) {
	t.Parallel()
	for name, as := range map[string]struct{ journal, segment bool }{
		"closed": {}, "journal": {journal: true}, "segment": {segment: true}, "both": {true, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			closedStore(t, dir, as.journal, as.segment)
			s := open(t, dir, Options{ReadOnly: true})
			r, err := s.Stats()
			if err != nil {
				t.Fatal(err)
			}
			if f := r.Found; f.Segment != as.segment || (f.Records > 0) != as.journal || (f.Bytes > f.Records) != as.journal || r.ID == [16]byte{} {
				t.Errorf("%+v", r)
			}
			files, err := s.Files()
			want := 2
			if as.segment {
				want = 3
			}
			if err != nil || len(files) != want {
				t.Fatalf("%+v, %v", files, err)
			}
			for _, f := range files {
				if f.Bytes <= 0 || f.Free < 0 || f.Free >= f.Bytes || f.Format != 1 {
					t.Errorf("%+v", f)
				}
			}
			users := int64(0)
			for p, err := range s.Postings(context.Background()) {
				if err != nil {
					t.Fatal(err)
				}
				if p.Kind == FactUser {
					users = p.Users
				}
			}
			if users != r.Users || users == 0 {
				t.Errorf("%d users, not %d", users, r.Users)
			}
		})
	}
}
