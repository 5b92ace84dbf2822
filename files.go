package fanfare

import "context"

// File is a file of the directory.
type File struct {
	Name   string // within the directory
	Format int    // the version of its format, as docs/format.md has it
	Bytes  int64  // its size
	// Free is what nothing is kept in, of that. It is used before the file grows, and [Pusher.Compact] gives back all but the up to 16 MiB by which files grow.
	Free int64
}

// Files returns the files of the directory and the space that is free within them. It reads the journal for it, and waits for a [Pusher.Check], a [Pusher.Compact] or the
// copy of a [Pusher.Backup] under way, so it is for somebody who looks, not for every second; for that there is [Pusher.Stats].
func (p *Pusher) Files(ctx context.Context) ([]File, error) {
	if err := p.open(); err != nil {
		return nil, err
	}
	files, err := p.store.Files(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]File, len(files))
	for i, f := range files {
		out[i] = File(f)
	}
	return out, nil
}
