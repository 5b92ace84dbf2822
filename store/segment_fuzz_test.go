package store

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"
)

// FuzzDecodeSegment decodes what may be no segment, as it is and with its checksum made right. What is a segment says the same when it
// is written and read again.
func FuzzDecodeSegment(f *testing.F) {
	id := storeID([]byte("a store of tests"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		t.Parallel()
		for _, b := range [][]byte{raw, resealed(raw)} {
			d, err := decodeSegment(bytes.NewReader(b), id)
			if err != nil {
				if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrForeignFile) && !errors.Is(err, ErrNewerFormat) {
					t.Fatalf("neither damaged nor foreign nor newer: %v", err)
				}
				continue
			}
			again := rewritten(t, id, d)
			d2, err := decodeSegment(bytes.NewReader(again), id)
			if err != nil {
				t.Fatalf("what was decoded cannot be decoded again: %v", err)
			}
			if d2.position != d.position || !slices.EqualFunc(slices.Collect(d.changes), slices.Collect(d2.changes), sameChange) {
				t.Fatal("written and read again it says something else")
			}
			if third := rewritten(t, id, d2); !bytes.Equal(again, third) {
				t.Fatal("written twice it is not the same")
			}
		}
	})
}

// rewritten returns a delta as a segment.
func rewritten(t *testing.T, id storeID, d *delta) []byte {
	t.Helper()
	dir := t.TempDir()
	name, err := writeSegment(dir, id, d)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func sameChange(x, y change) bool {
	if x.bucket != y.bucket || !bytes.Equal(x.key, y.key) || !bytes.Equal(x.value, y.value) || (x.value == nil) != (y.value == nil) {
		return false
	}
	if x.bits == nil || y.bits == nil {
		return x.bits == y.bits
	}
	xSet, xClear := x.bits.bitmaps()
	ySet, yClear := y.bits.bitmaps()
	return x.bits.gone == y.bits.gone && sameBits(xSet, ySet) && sameBits(xClear, yClear)
}

// sameBits compares sets, of which nil is an empty one.
func sameBits(x, y *roaring.Bitmap) bool {
	if x == nil || y == nil {
		return (x == nil || x.IsEmpty()) && (y == nil || y.IsEmpty())
	}
	return x.Equals(y)
}
